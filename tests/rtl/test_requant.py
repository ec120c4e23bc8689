"""The requantiser against `sim.reference.requant`, with equality."""

import numpy as np
import pytest

from rtl import requant
from rtl.requant import RequantConfig, Requantiser
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.requant import requantise
from tests.rtl.bench import simulate


def beats(config: RequantConfig, seed: int, count: int) -> list[dict[str, int]]:
    """Corners and random beats; shifts are drawn so that most results are inside the codes or just outside."""
    rng = np.random.default_rng(seed)
    low, high = code_range(config.in_bits, True)
    top = (1 << config.multiplier_bits) - 1
    result = [
        {"value": v, "multiplier": m, "shift": k}
        for v in (low, low + 1, -1, 0, 1, high)
        for m in (0, 1, top)
        for k in (0, min(1, config.max_shift), config.max_shift)
    ]
    for _ in range(count):
        value = int(rng.integers(low, high, endpoint=True)) >> int(rng.integers(0, config.in_bits))
        m = int(rng.integers(0, top, endpoint=True)) >> int(rng.integers(0, config.multiplier_bits))
        shift = abs(value * m).bit_length() - config.out_bits + int(rng.integers(0, 4))
        result.append({"value": value, "multiplier": m, "shift": min(max(shift, 0), config.max_shift)})
    return result


def mismatches(config: RequantConfig, zero_point: int, data: int = 0, count: int = 200, **how) -> list:
    """(beat, expected, got) wherever the unit differs from the specification."""
    inputs = beats(config, data, count)
    got, _, _ = simulate(Requantiser(config), inputs, settings={"zero_point": zero_point}, **how)
    columns = [np.array([beat[key] for beat in inputs]) for key in ("value", "multiplier", "shift")]
    want = requantise(*columns, zero_point, config.out_bits, config.out_signed)
    return [row for row in zip(inputs, want.tolist(), got, strict=True) if row[1] != row[2]]


@pytest.mark.parametrize("in_bits, multiplier_bits, max_shift", [(32, 16, 47), (4, 1, 0), (64, 16, 47), (20, 8, 25)])
@pytest.mark.parametrize("out_bits, out_signed", [(8, True), (8, False), (16, True), (4, False), (32, True)])
def test_corners_and_random_beats_equal_the_reference(in_bits, multiplier_bits, max_shift, out_bits, out_signed):
    config = RequantConfig(in_bits, multiplier_bits, max_shift, out_bits, out_signed)
    low, high = code_range(out_bits, out_signed)
    for seed, zero_point in enumerate({low, 0, high}):
        assert mismatches(config, zero_point, seed, 60) == []


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_every_depth_equals_the_reference_under_random_stalls_and_takes_one_beat_per_cycle_without(stages):
    config = RequantConfig(stages=stages)
    assert mismatches(config, -3, stages, seed=stages, count=100) == []
    _, taken, given = simulate(Requantiser(config), beats(config, 0, 20))
    assert np.diff(taken).tolist() == [1] * (len(taken) - 1)
    assert {g - t for t, g in zip(taken, given, strict=True)} == {stages}


def test_a_wrong_rounding_is_seen(monkeypatch):
    monkeypatch.setattr(requant, "shift_right", lambda value, shift: ((value >> shift) << 1).as_signed())
    assert mismatches(RequantConfig(), 0) != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"in_bits": 65}, "in_bits must be in 4..64, not 65"),
        ({"multiplier_bits": 17}, "multiplier_bits must be in 1..16, not 17"),
        ({"max_shift": 48}, "max_shift must be in 0..47, not 48"),
        ({"stages": 5}, "stages must be in 1..4, not 5"),
    ],
)
def test_a_bad_parameter_is_named_with_what_it_must_be(fields, message):
    with pytest.raises(InputError) as error:
        RequantConfig(**fields)
    assert str(error.value) == message
