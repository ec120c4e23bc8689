"""The evaluation of masks on a small vision transformer with random weights; crops of photographs."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant.run_directory import RunDirectory
from sim.workloads import variants, vision
from sim.workloads.photographs import crops, digest
from sim.workloads.variants import Options
from sim.workloads.vision import evaluate, figures, overlaps
from tests.sim.network.models import vision_transformer


class Small(nn.Module):
    """A mask from the mean of a small encoder's channels, as the segmenter's interface has it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = vision_transformer("Dinov2")

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.decode(self.encoder(pixel_values=pixel_values).last_hidden_state)

    def decode(self, hidden: Tensor) -> Tensor:
        return hidden[:, 1:, :4].mean(-1).unflatten(1, (1, 4, 4)).sigmoid()


def test_an_evaluation_has_its_rows_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(variants, "METHODS", (("genetic", 8), ("genetic", 2)))
    monkeypatch.setattr(vision, "SIDE", 16)
    model: Any = Small()
    options = Options(images=12, calibration=4, seeds=(0, 1), single=False)
    with RunDirectory.open(tmp_path / "run", {"a": 1}) as run:
        result = evaluate(model, run, options)
    json.dumps(result, allow_nan=False)
    rows = {(row["method"], row["entries"], row["seed"]): row for row in result["rows"]}
    assert len(rows) == 6
    for seed in (0, 1):
        exact = rows["exact", None, seed]
        assert exact["iou_exact"] == 1 and exact["iou_fp32"] > 0.9
    eight, two = (sum(rows["genetic", entries, seed]["iou_exact"] for seed in (0, 1)) for entries in (8, 2))
    assert eight > two
    with RunDirectory.open(tmp_path / "run", {"a": 1}, resume=True) as run:
        monkeypatch.setattr(vision, "masks", None)  # nothing is left to do
        assert evaluate(model, run, options) == result


def test_overlaps_are_intersections_over_unions():
    a = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.bool)
    b = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 1], [0, 0]]], dtype=torch.bool)
    assert overlaps(a, b).tolist() == [1 / 3, 1, 0]
    found = figures(a, b, b)
    assert found["iou_exact"] == found["iou_exact_low"] == 1 and found["iou_fp32_worst"] == 0
    assert found["iou_fp32"] == pytest.approx(4 / 9) and found["iou_fp32_low"] < 4 / 9 < found["iou_fp32_high"]


def test_crops_are_of_both_photographs_and_the_same_for_a_seed():
    first = crops(6, 0, 32)
    assert first.shape == (6, 3, 32, 32) and first.dtype == torch.float32
    assert digest(first) == digest(crops(6, 0, 32)) != digest(crops(6, 1, 32))
    assert np.ptp([float(image.mean()) for image in first]) > 0.1 and float(first.std()) > 0.5
