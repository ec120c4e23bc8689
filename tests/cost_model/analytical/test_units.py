"""The units' steps beside those of the hardware that `rtl` generates, and one class for each unit that is drawn."""

from itertools import islice

import pytest

from cost_model.analytical.units import UNITS, unit
from cost_model.calibration.design_space import SPACES, design, parameters, sample
from rtl.blocks import pipeline

COUNT = 2  # of points drawn for each unit


@pytest.mark.parametrize("name", UNITS)
def test_the_delays_of_the_steps_are_those_of_the_generated_unit(name, monkeypatch):
    generated = []
    cut = pipeline.cut
    monkeypatch.setattr(pipeline, "cut", lambda levels, stages: generated.append(levels) or cut(levels, stages))
    for point in islice((p for p in sample(100, 7) if p["unit"] == name), COUNT):
        generated.clear()
        design(point, 64).device  # noqa: B018  elaborates it
        own = [p for p in unit(name, **parameters(point)).pipelines() if p.when][:1]
        assert [[float(step.levels) for step in p.steps] for p in own] == generated, point


def test_each_unit_has_one_class_and_one_part_of_the_declared_space():
    assert list(UNITS) == list(SPACES) and sum(space.share for space in SPACES.values()) == 20


@pytest.mark.parametrize("stages, merged", [(1, 8), (2, 8), (3, 0), (5, 0), (7, 0)])
def test_recoding_is_merged_with_selection_where_no_register_divides_them(stages, merged):
    recoding = unit("pwl", entries=8, in_bits=8, stages=stages).components()["recoding"]
    assert recoding.sizes() == {"merged bits": merged}
