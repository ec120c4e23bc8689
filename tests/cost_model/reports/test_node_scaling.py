"""Scaling between nodes, the paper's figures, and 28 nm anchored on one of them."""

import pytest

from cost_model.reports import node_scaling as technology
from cost_model.reports import paper
from cost_model.reports.node_scaling import Node
from sim.reference import InputError


def test_the_published_factors():
    assert technology.area_factor(Node(130, 1.2), Node(32, 0.9)) == pytest.approx(0.072)
    assert technology.area_factor(Node(32, 0.9), Node(130, 1.2)) == pytest.approx(1 / 0.072)
    energy = 0.9559 * 0.81 - 0.7823 * 0.9 + 0.471
    assert technology.energy_factor(Node(130, 1.2), Node(32, 0.9)) == pytest.approx(
        energy / (7.171 * 1.44 - 6.709 * 1.2 + 2.904)
    )
    between = technology.area_factor(Node(130, 1.2), Node(28, 0.9))
    assert 0.033 < between < 0.072


def test_only_fp32_is_anchored():
    found = technology.anchored({"FP32": 1000.0, "INT8": 150.0}, {"FP32": 2.0, "INT8": 0.5})
    assert found["FP32"] == paper.ROWS["FP32"]
    assert found["INT8"].area == pytest.approx(5135 * 0.15) and found["INT8"].power_w == pytest.approx(2.02e-3 / 4)


def test_the_papers_four_savings():
    assert [round(100 * value, 1) for value in paper.savings().values()] == [81.3, 80.2, 81.7, 79.3]


@pytest.mark.parametrize(("nm", "voltage"), [(5, 0.9), (180, 1.2), (28, 3.3)])
def test_a_node_beyond_the_publication_is_refused(nm, voltage):
    with pytest.raises(InputError, match="must be in"):
        Node(nm, voltage)
