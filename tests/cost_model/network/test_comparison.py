"""Packed models side by side: sizes by hand, FP16 once a shape, and mistakes in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cost_model import cli
from cost_model.network.comparison import comparison
from cost_model.network.machine import Machine
from quant.methods.post_training import quantize
from quant.plan import Plan
from quant.pretrained import save_pretrained
from sim.common.results import read_results


def _packed(folder: Path, bits: int, **settings: Any) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32))
    plan = Plan.uniform(weight_bits=bits, activation_granularity="token", **settings)
    save_pretrained(quantize(model, plan), folder)
    return folder


def test_sizes_are_those_by_hand_and_fp16_stands_once_before_models_of_its_shapes(tmp_path: Path) -> None:
    w8 = _packed(tmp_path / "w8", 8)
    grouped = {"weight_granularity": "group", "group_size": 16, "weight_symmetric": False}
    w4 = _packed(tmp_path / "w4", 4, **grouped)
    fp16, first, second = comparison([w8, w4], Machine(), 8)
    assert [row["numbers"] for row in (fp16, first, second)] == ["FP16", "W8A8", "W4A8"]
    assert fp16["bytes"] == 2 * 64 * 32 and first["bytes"] == 64 * 32 + 3 * 32
    assert second["bytes"] == 32 * (32 + 3 + 4 * 1 + 2)  # codes, a scale, four multipliers, four zero points
    rest = 2 * (32 + 64)  # bias and norm
    assert first["times_smaller_with_the_rest"] == pytest.approx((4096 + rest) / (2144 + rest))
    assert first["cycles"] == fp16["cycles"] <= second["cycles"]
    for row in (first, second):
        assert row["bits_per_weight"] == pytest.approx(row["computed_bits_per_weight"])
        assert row["energy"] < fp16["energy"]
        assert row["times_less_energy"] == pytest.approx(fp16["energy"] / row["energy"])


def test_the_command_keeps_its_rows_and_refuses_a_model_without_products(tmp_path, capsys) -> None:
    w8, path = _packed(tmp_path / "w8", 8), tmp_path / "kept" / "sizes.json"
    assert cli.main(["compare", str(w8), "--tokens", "8", "-o", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_results(path)["rows"]
    assert cli.main(["compare", str(w8), "--tokens", "8"]) == 0
    assert "W8A8" in capsys.readouterr().out
    real = _packed(tmp_path / "real", 8, activation_bits=None)
    assert cli.main(["compare", str(real)]) == 2
    assert capsys.readouterr().err.endswith("real: has no linear layers for the array\n")
