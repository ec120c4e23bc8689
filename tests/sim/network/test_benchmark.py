"""The bench measures what it says, on small sizes, and its exit code follows its targets."""

import json

import pytest
import torch
from torch import nn

from sim.network import benchmark as bench
from sim.network.convert import convert
from tests.sim.network.models import bert, plan, token_batches


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "CODES", 1000)
    monkeypatch.setattr(bench, "SHAPES", ((1, 4),))
    monkeypatch.setattr(bench, "batch", lambda rows, tokens: {"input_ids": torch.ones(rows, tokens, dtype=torch.long)})
    monkeypatch.setattr(bench, "minilm", lambda: (bert(), convert(bert(), plan(), token_batches())))


@pytest.mark.parametrize("target, code", [(0.0, 0), (1e9, 1)])
def test_a_missed_target_is_exit_code_1(small, monkeypatch, tmp_path, target, code):
    monkeypatch.setattr(bench, "TARGETS", {"pwl": target, "network": target})
    assert bench.main(["-o", str(tmp_path), "--threads", "1"]) == code
    result = json.loads((tmp_path / "network.json").read_text())
    assert [(row["what"], row["threads"]) for row in result["rows"]] == [("pwl", 1), ("network", 1)]
    assert all(row["speed"] == row["fp32_seconds"] / row["integer_seconds"] > 0 for row in result["rows"])


def test_the_network_that_is_measured_has_minilms_shape(monkeypatch):
    built: list[nn.Module] = []
    monkeypatch.setattr(bench, "convert", lambda model, *_: built.append(model))
    bench.minilm()
    shapes = {name: tuple(p.shape) for name, p in built[0].named_parameters()}
    assert shapes["encoder.layer.5.intermediate.dense.weight"] == (1536, 384)
