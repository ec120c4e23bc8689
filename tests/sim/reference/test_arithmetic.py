"""Rounding, saturation and widths against exact rationals."""

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.reference.arithmetic import code_range, exact_array, round_half_up, saturate


@given(st.integers(-(2**70), 2**70), st.integers(0, 40))
def test_rounding_is_half_up_at_any_width(value, shift):
    got = round_half_up(exact_array([value], 80), shift)[0]
    assert got == floor(Fraction(value, 2**shift) + Fraction(1, 2))


def test_halves_go_up_on_both_sides_of_zero():
    assert round_half_up(np.array([-3, -2, -1, 1, 2, 3]), 1).tolist() == [-1, -1, 0, 1, 1, 2]


@given(st.integers(-(2**40), 2**40), st.integers(1, 32), st.booleans())
def test_saturation_is_the_nearest_code(value, bits, signed):
    low, high = code_range(bits, signed)
    assert high - low + 1 == 2**bits
    assert saturate(np.array([value]), bits, signed)[0] == min(max(value, low), high)
