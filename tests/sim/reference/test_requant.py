"""The requantiser against its definition in exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from sim.reference import InputError
from sim.reference import requant as requant_module
from sim.reference.arithmetic import code_range
from sim.reference.requant import requantise


def definition(a: int, m: int, k: int, z: int, bits: int, signed: bool) -> int:
    rounded = (Fraction(a) * m / 2**k + Fraction(1, 2)).__floor__()
    low, high = code_range(bits, signed)
    return min(max(rounded + z, low), high)


@pytest.mark.parametrize("in_bits", [8, 20, 32, 44, 45, 46, 48, 64])
def test_random_and_extreme_values_equal_the_definition(in_bits):
    rng = np.random.default_rng(in_bits)
    low, high = code_range(in_bits, True)
    a = np.array([low, low + 1, -1, 0, 1, high, *(int(v) for v in rng.integers(low, high, 300, endpoint=True))])
    m = rng.choice([0, 1, 65535, *rng.integers(0, 65536, 20)], a.size)
    k = rng.integers(0, 48, a.size)
    for bits, signed, z in ((8, True, -128), (8, False, 255), (16, True, 7), (4, True, 0), (32, True, 0)):
        want = [definition(int(x), int(y), int(s), z, bits, signed) for x, y, s in zip(a, m, k, strict=True)]
        assert requantise(a, m, k, z, bits, signed).tolist() == want


def test_channels_broadcast_and_an_empty_array_stays_empty():
    a = np.arange(-6, 6).reshape(4, 3)
    m, k = np.array([1, 2, 3]), np.array([0, 1, 2])
    assert requantise(a, m, k).tolist() == [[definition(int(a[i, c]), int(m[c]), int(k[c]), 0, 8, True)
                                             for c in range(3)] for i in range(4)]  # fmt: skip
    assert requantise(np.zeros((0, 3), dtype=np.int64), m, k).shape == (0, 3)


def test_half_rounds_up_on_both_sides_of_zero():
    assert requantise(np.array([-3, -1, 1, 3]), 1, 1).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((1 << 16, 0), "multiplier must be in 0..65535, not 65536"),
        ((-1, 0), "multiplier must be in 0..65535, not -1"),
        ((1, 48), "shift must be in 0..47, not 48"),
        ((0.5, 0), "multiplier must be integers, not float64"),
        ((1, 0, 128), "zero_point must be in -128..127, not 128"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    with pytest.raises(InputError) as error:
        requantise(np.array([1]), *arguments)
    assert str(error.value) == message


def test_the_definition_check_can_fail(monkeypatch):
    monkeypatch.setattr(requant_module, "round_half_up", lambda values, shift: values >> shift)
    assert requantise(np.array([3]), 1, 1).tolist() != [definition(3, 1, 1, 0, 8, True)]


def test_values_that_are_no_integers_are_refused():
    for values in (np.array([2.9]), np.array(2.9), np.array([2, 2.5], dtype=object)):
        with pytest.raises(InputError, match=r"values must be integers, not (float64|object)"):
            requantise(values, 1, 0)
    large = np.array([(1 << 60) + 1], dtype=np.uint64)
    assert requantise(large, 1, 30, 0, 32).tolist() == [1 << 30]
    assert requantise(large.astype(object) << 70, 1, 0).tolist() == [127]
