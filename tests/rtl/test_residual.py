"""The residual addition against `sim.reference.residual`, with equality."""

import pytest

from rtl.blocks import rounding
from rtl.residual import ResidualAdder, ResidualConfig
from sim.reference import InputError
from tests.rtl.elementwise import mismatches

LOADS = [(65535, 65535, 0), (65535, 1, 47), (0, 40000, 15), (21845, 65535, 16), (1, 1, 1), (0, 0, 3)]


@pytest.mark.parametrize("a, b, shift", LOADS)
def test_corners_and_random_codes_equal_the_specification(a, b, shift):
    load = {"multiplier_a": a, "multiplier_b": b, "shift": shift}
    assert mismatches(ResidualConfig(), ResidualAdder, load=load) == []


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_every_depth_equals_the_specification_stalled(stages):
    assert mismatches(ResidualConfig(stages=stages), ResidualAdder, 60 + stages, seed=stages) == []


def test_a_wrong_rounding_is_seen(monkeypatch):
    monkeypatch.setattr(rounding, "shift_right", lambda value, shift: (value >> shift) << 1)
    assert mismatches(ResidualConfig(), ResidualAdder) != []


@pytest.mark.parametrize("fields, name", [({"max_shift": 48}, "max_shift"), ({"stages": 0}, "stages")])
def test_a_bad_parameter_is_named(fields, name):
    with pytest.raises(InputError, match=f"{name} must be in"):
        ResidualConfig(**fields)
