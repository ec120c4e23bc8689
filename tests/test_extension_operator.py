"""The extension points of networks: a toy operator and a toy converter, each registered by one line, go all the way."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sim
from cost_model.network.cost import report as cost_report
from cost_model.network.machine import Machine
from cost_model.network.sites import sites
from quant import Plan
from quant.formats.packed_index import PackedIndex
from rtl.requant import RequantConfig
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.network.converters.describe import CONVERTERS
from sim.network.graph import Graph, GraphInput
from sim.network.operators.activation import Activation
from sim.network.operators.base import Operator, Site
from sim.network.operators.linear import Linear
from sim.network.operators.recording import Seen, require_same
from sim.network.operators.registry import OPERATORS
from sim.network.operators.residual import Input
from sim.network.operators.storage import Reader, Writer
from sim.network.recorded_vectors import network_sets
from sim.reference import InputError
from sim.reference.requant import requantise
from sim.vectors.vector_set import VectorSet
from tests.sim.tables import secant_table


class Halve(Operator):
    """Half of 16-bit codes, rounded, at the same scale: the toy operator."""

    kind = "halve"

    def real(self, x: Tensor) -> Tensor:
        return x / 2

    def integer(self, x: Tensor) -> Tensor:
        return (x.int() + 1 >> 1).to(x.dtype)

    def quantise_at(self, site: Site) -> None:
        self.finish((site.input(),), (site.input(),))

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"divisor": 2}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        assert row["divisor"] == 2
        return cls(row["name"])

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        calls = [call for operator in operators for call in seen[operator.name]]
        given = np.concatenate([np.ravel(arguments[0]) for arguments, _ in calls]).astype(np.int64)
        made = np.concatenate([np.ravel(result) for _, result in calls]).astype(np.int64)
        require_same(name, requantise(given, 1, 1, out_bits=16), made)
        config = RequantConfig(in_bits=16, out_bits=16)
        arrays = {
            "inputs.value": given, "inputs.multiplier": np.ones_like(given), "inputs.shift": np.ones_like(given),
            "expected": made, "counts": np.array([len(given)]), "zero_point": np.array([0]),
        }  # fmt: skip
        widths = {
            "inputs.value": (16, True), "inputs.multiplier": (config.multiplier_bits, False),
            "inputs.shift": (config.max_shift.bit_length(), False), "expected": (16, True), "zero_point": (16, True),
        }  # fmt: skip
        return [VectorSet(f"{name}-halve", "requant", asdict(config), arrays, widths, dict(source))]


class Toy(nn.Module):
    """A perceptron, not an encoder: a layer's input is halved and comes back behind the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x / 2)))


def convert_toy(model: Toy) -> Graph:
    """The toy converter."""
    graph = Graph({"x": GraphInput(("batch", 8))}, {}, {"toy": "real numbers in, real numbers out"})
    x = graph.add("halve", Halve("halve"), graph.add("input", Input("input"), "x"))
    x = graph.add("act", Activation("act", "gelu"), graph.add("up", Linear({"up": model.up}), x))
    graph.add("down", Linear({"down": model.down}), x)
    return graph


@pytest.fixture
def toy(monkeypatch):
    """The two registrations, the model and its data."""
    monkeypatch.setitem(OPERATORS, "halve", Halve)
    monkeypatch.setitem(CONVERTERS, "tests.Toy", convert_toy)
    torch.manual_seed(0)
    return Toy().eval(), [{"x": torch.randn(16, 8)} for _ in range(2)]


@pytest.mark.parametrize("granularity", ["token", "tensor"])
def test_a_toy_operator_and_converter_pass_convert_save_load_report_vectors_and_cost(toy, tmp_path, granularity):
    model, data = toy
    plan = Plan.uniform(activation_granularity=granularity, tables={"gelu": secant_table("gelu")})
    network = sim.convert(model, plan, data)
    codes = network.codes(**data[0])
    with torch.no_grad():
        difference = network(**data[0]).last_hidden_state - model(**data[0])
    assert float(difference.abs().max()) < 0.05
    sim.save(network, tmp_path)
    assert torch.equal(sim.load(tmp_path).codes(**data[0]), codes)
    rows = sim.report(network, data)
    assert [row["kind"] for row in rows] == ["input", "halve", "linear", "activation", "linear"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    vectors = {v.name: v for v in network_sets("toy", network, data, {"network": "toy"})}
    assert set(vectors) == {"toy-halve", "toy-gelu"} and vectors["toy-halve"].size == 2 * 16 * 8
    assert run_bulk(vectors["toy-halve"], BenchOptions("icarus")).passed
    cost = cost_report(sites(PackedIndex.load(tmp_path), tmp_path, tokens=1, batch=16), Machine())
    assert cost["totals"]["macs"] == 16 * (8 * 24 + 24 * 4)
    assert any(line.startswith("halve: ") for line in cost["not_counted"])


def test_an_unknown_kind_in_a_folder_is_one_line(toy, tmp_path, monkeypatch):
    model, data = toy
    sim.save(sim.convert(model, Plan.uniform(tables={"gelu": "exact"}), data), tmp_path)
    monkeypatch.delitem(OPERATORS, "halve")
    with pytest.raises(InputError, match=r"packed\.json: halve: kind must be one of .*, not 'halve'"):
        sim.load(tmp_path)
