"""The element-wise product against `sim.reference.product`, with equality."""

import numpy as np
import pytest

from rtl.blocks import rounding
from rtl.product import ProductConfig, ProductUnit
from sim.reference import InputError
from tests.rtl.bench import simulate
from tests.rtl.elementwise import beats, mismatches, on


@pytest.mark.parametrize("multiplier, shift", [(0, 0), (1, 0), (1, 3), (65535, 20), (40000, 18), (65535, 47)])
def test_every_pair_of_4_bits_equals_the_specification(multiplier, shift):
    pairs = np.stack(np.meshgrid(np.arange(-8, 8), np.arange(-8, 8))).reshape(2, -1)
    load = {"multiplier": multiplier, "shift": shift}
    assert on({"a": pairs[0], "b": pairs[1]}, ProductConfig(4, 4, 4), ProductUnit, load) == []


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("widths", [(16, 16, 16), (16, 8, 8), (8, 16, 16), (8, 8, 8), (4, 16, 5)])
def test_corners_and_random_codes_equal_the_specification_at_every_depth_stalled(widths, stages):
    assert mismatches(ProductConfig(*widths, stages=stages), ProductUnit, 50 + stages, seed=stages) == []


def test_a_unit_of_a_smaller_largest_shift_equals_the_specification():
    config = ProductConfig(8, 8, 8, max_shift=5)
    assert mismatches(config, ProductUnit, load={"multiplier": 3, "shift": 5}) == []


def test_it_takes_a_beat_in_every_cycle_and_answers_after_its_depth():
    config = ProductConfig()
    inputs = beats(config.random_inputs(np.random.default_rng(0), 5))
    _, taken, given = simulate(ProductUnit(config), inputs, settings={"multiplier": 9, "shift": 9})
    assert np.diff(taken).tolist() == [1] * (len(taken) - 1)
    assert {g - t for t, g in zip(taken, given, strict=True)} == {config.stages}


def test_a_wrong_rounding_is_seen(monkeypatch):
    monkeypatch.setattr(rounding, "shift_right", lambda value, shift: (value >> shift) << 1)
    assert mismatches(ProductConfig(), ProductUnit) != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"a_bits": 3}, "a_bits must be in 4..16, not 3"),
        ({"out_bits": 17}, "out_bits must be in 4..16, not 17"),
        ({"max_shift": 48}, "max_shift must be in 0..47, not 48"),
        ({"stages": 5}, "stages must be in 1..4, not 5"),
    ],
)
def test_a_bad_parameter_is_named(fields, message):
    with pytest.raises(InputError) as error:
        ProductConfig(**fields)
    assert str(error.value) == message
