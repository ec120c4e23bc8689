"""The vectors of a network's sites: every unit that it needs, real codes, and a difference that is noticed."""

import numpy as np
import pytest
import torch

from sim.cosim.options import BenchOptions
from sim.cosim.run_array import run_array
from sim.cosim.simulators import SIMULATORS
from sim.network.convert import convert
from sim.network.recorded_vectors import layer_sets, network_sets
from sim.reference import InputError
from sim.vectors.array import ArraySet
from tests.sim.network.models import EXACT, bert, plan, real_batches, token_batches, torch_encoder

SOURCE = {"network": "test"}
FEED_FORWARD = ("layers.0.up", "layers.0.down")


@pytest.fixture(scope="module")
def network():
    return convert(bert(), plan(), token_batches())


def test_every_site_has_vectors_for_its_unit(network):
    batches = token_batches(2, seed=7)
    sets = {v.name: v for v in network_sets("net", network, batches, SOURCE)}
    assert {name: v.unit for name, v in sets.items()} == {
        "net-softmax": "softmax",
        "net-exp": "pwl",
        "net-div": "normaliser",
        "net-layernorm": "layernorm",
        "net-layernorm-rsqrt": "normaliser",
        "net-gelu": "pwl",
    }
    positions = sum(batch["input_ids"].numel() for batch in batches)
    assert len(sets["net-softmax"].counts) == 2 and sets["net-softmax"].size == 2 * positions * 4 * 12
    assert len(sets["net-layernorm"].counts) == 5 and sets["net-layernorm"].size == 5 * positions * 32
    assert sets["net-gelu"].size == 2 * positions * 48
    invalid = sets["net-softmax"].arrays["inputs.valid"] == 0
    assert invalid.any() and not sets["net-softmax"].arrays["expected.probability"][invalid].any()
    assert len(np.unique(sets["net-gelu"].arrays["inputs"])) > 50


def test_a_feed_forward_layer_has_vectors_for_the_array_with_its_tables():
    network = convert(bert(), plan(activation_granularity="tensor"), token_batches())
    sets = layer_sets("ffn", network, token_batches(1), SOURCE, FEED_FORWARD)
    ups, down = sets[:-1], sets[-1]
    assert down.name == "ffn-down" and all(v.unit == "array" for v in sets)
    assert sum(v.arrays["weights"].shape[0] for v in ups) == 48 and down.arrays["weights"].shape == (32, 48)
    assert all("thresholds" in v.arrays for v in ups) and "thresholds" not in down.arrays


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("settings", [{"weight_bits": bits} for bits in (2, 3, 4, 5, 6, 7, 8)] + [
    {"weight_bits": bits, "weight_granularity": "group", "group_size": 16} for bits in (2, 4, 5)
])  # fmt: skip
def test_every_layer_that_converts_can_be_dumped_for_the_array(settings, symmetric):
    chosen = plan(activation_granularity="tensor", weight_symmetric=symmetric, **settings)
    sets = layer_sets("ffn", convert(bert(), chosen, token_batches()), token_batches(1), SOURCE, FEED_FORWARD)
    assert sets[-1].arrays["weights"].shape == (32, 48) and all(v.unit == "array" for v in sets)


@pytest.mark.parametrize("make, batches", [(bert, token_batches), (torch_encoder, real_batches)])
def test_every_linear_layer_of_a_network_has_vectors_for_the_array(make, batches):
    network = convert(make(), plan(activation_granularity="tensor"), batches())
    sets = {v.name: v for v in layer_sets("net", network, batches(1), SOURCE)}
    rows = {tuple(v.source["site"].split(".")): 0 for v in sets.values()}
    for v in sets.values():
        rows[tuple(v.source["site"].split("."))] += v.arrays["weights"].shape[0]
    assert sorted(rows.values()) == [32] * 10 + [48] * 2
    assert {"net-0-down", "net-1-down"} <= set(sets)
    with pytest.raises(InputError, match=r"layers\.0\.norm1 must be the key of a linear operator: .*layers\.0\.up"):
        layer_sets("net", network, batches(1), SOURCE, ("layers.0.norm1",))


def through_the_array(simulator: str, keys: tuple[str, ...] | None, two_pass: bool, **settings) -> None:
    """Convert with these settings, and run the layers' vectors on an array in a simulator."""
    network = convert(bert(), plan(activation_granularity="tensor", **settings), token_batches())
    [batch] = token_batches(1, rows=2, length=4)
    for vectors in layer_sets("net", network, [batch], SOURCE, keys, two_pass):
        assert isinstance(vectors, ArraySet)
        outcome = run_array(vectors, BenchOptions(simulator))
        assert outcome.passed and outcome.vectors == vectors.size, (vectors.name, outcome)


GROUPED = {"weight_granularity": "group", "group_size": 16}


@pytest.mark.parametrize("two_pass, settings", [(True, {"weight_bits": 2, "weight_symmetric": False, **GROUPED})])
def test_a_grouped_asymmetric_layer_runs_through_the_array_without_a_difference(two_pass, settings, monkeypatch):
    monkeypatch.setattr("sim.network.recorded_vectors.ARRAY_SIDE", 4)
    through_the_array("icarus", ("layers.0.down",), two_pass, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("two_pass, settings", [
    (False, {"weight_bits": 2}), (False, {"weight_bits": 3, **GROUPED}), (False, {"weight_bits": 4, **GROUPED}),
    (True, {"weight_bits": 4, **GROUPED}), (True, {"weight_bits": 8}),
    (False, {"weight_bits": 4, "activation_bits": 4}),
])  # fmt: skip
def test_every_kind_of_layer_runs_through_the_array_without_a_difference(
    simulator, symmetric, two_pass, settings, monkeypatch
):
    monkeypatch.setattr("sim.network.recorded_vectors.ARRAY_SIDE", 8)
    keys = ("layers.0.qkv", "layers.0.up", "layers.0.down") if settings["weight_bits"] == 2 else FEED_FORWARD
    through_the_array(simulator, keys, two_pass, weight_symmetric=symmetric, **settings)


def test_activations_of_four_bits_are_four_bits_in_the_specification_and_the_array():
    chosen = plan(activation_granularity="tensor", activation_bits=4)
    network = convert(bert(), chosen, token_batches())
    down = network["layers.0.down"].packed_layers[0]
    assert down.specification.activation_bits == 4 and down.bound == down.specification.bound
    sets = layer_sets("ffn", network, token_batches(1), SOURCE)
    assert all(v.configuration["activation_bits"] == 4 for v in sets)


def test_a_network_that_computes_something_else_is_noticed(network, monkeypatch):
    norm = network["layers.1.norm1"]
    honest = norm.integer
    monkeypatch.setattr(norm, "integer", lambda x: honest(x) + torch.ones_like(x))
    with pytest.raises(AssertionError, match=r"output\.LayerNorm: PyTorch and sim.reference differ"):
        network_sets("net", network, token_batches(1), SOURCE)


def test_what_no_unit_holds_is_refused(network):
    with pytest.raises(InputError, match="no unit holds the control"):
        network_sets("net", convert(bert(), plan(EXACT), token_batches()), token_batches(1), SOURCE)
    with pytest.raises(InputError, match="activations per token are not the array's to scale"):
        layer_sets("ffn", network, token_batches(1), SOURCE)
