"""The rotation of RoPE against `sim.reference.rope`, with equality."""

import numpy as np
import pytest

from rtl.blocks import rounding
from rtl.rope import RopeConfig, RopeUnit
from sim.reference import InputError
from sim.reference.rope import Rope, rotation_table
from tests.rtl.bench import simulate
from tests.rtl.elementwise import mismatches


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("widths", [(16, 16), (8, 8), (16, 8), (4, 16)])
def test_corners_and_random_angles_equal_the_specification_at_every_depth_stalled(widths, stages):
    assert mismatches(RopeConfig(*widths, stages=stages), RopeUnit, 20 + stages, seed=stages) == []


@pytest.mark.parametrize("shift", [0, 1, 14, 29, 30])
def test_every_shift_equals_the_specification(shift):
    assert mismatches(RopeConfig(), RopeUnit, load={"shift": shift}) == []


def test_it_turns_a_head_as_the_specification_does():
    """A head of 8 channels at 5 positions, pair by pair."""
    rng, frequencies = np.random.default_rng(0), 10000.0 ** (-np.arange(4) / 4)
    x = rng.integers(-30000, 30000, (5, 8))
    table = rotation_table(frequencies, 5)
    columns = (x[:, :4], x[:, 4:], *table)
    beats = [dict(zip(("a", "b", "cosine", "sine"), map(int, row), strict=True))
             for row in zip(*(c.ravel() for c in columns), strict=True)]  # fmt: skip
    got, _, _ = simulate(RopeUnit(RopeConfig()), beats, settings={"shift": 14})
    turned = np.array([[pair["a"], pair["b"]] for pair in got]).reshape(5, 4, 2)
    expected = Rope().rotate(x, *table)
    assert np.array_equal(np.concatenate([turned[..., 0], turned[..., 1]], -1), expected)


def test_a_wrong_rounding_is_seen(monkeypatch):
    monkeypatch.setattr(rounding, "shift_right", lambda value, shift: (value >> shift) << 1)
    assert mismatches(RopeConfig(), RopeUnit) != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"in_bits": 17}, "in_bits must be in 4..16, not 17"),
        ({"max_shift": 31}, "max_shift must be in 0..30, not 31"),
        ({"stages": 5}, "stages must be in 1..4, not 5"),
    ],
)
def test_a_bad_parameter_is_named(fields, message):
    with pytest.raises(InputError) as error:
        RopeConfig(**fields)
    assert str(error.value) == message
