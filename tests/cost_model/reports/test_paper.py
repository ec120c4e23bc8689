"""The paper's figures, and 28 nm anchored on one of them."""

import pytest

from cost_model.reports import paper


def test_only_fp32_is_anchored():
    found = paper.anchored({"FP32": 1000.0, "INT8": 150.0}, {"FP32": 2.0, "INT8": 0.5})
    assert found["FP32"] == paper.ROWS["FP32"]
    assert found["INT8"].area == pytest.approx(5135 * 0.15) and found["INT8"].power_w == pytest.approx(2.02e-3 / 4)


def test_the_papers_four_savings():
    assert [round(100 * value, 1) for value in paper.savings().values()] == [81.3, 80.2, 81.7, 79.3]
