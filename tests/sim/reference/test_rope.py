"""The rotation of RoPE against rationals and real rotations."""

import math
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.rope import FRAC_BITS, TABLE_BITS, Rope, rotation_table

FREQUENCIES = [10000.0 ** (-2 * i / 8) for i in range(4)]
codes, table = st.integers(-(1 << 15), (1 << 15) - 1), st.integers(-(1 << 15) + 1, (1 << 15) - 1)


def test_the_table_is_the_rounded_cosine_and_sine_of_every_position():
    cosines, sines = rotation_table(FREQUENCIES, 300)
    for p in range(300):
        for i, f in enumerate(FREQUENCIES):
            assert cosines[p, i] == floor(math.cos(p * f) * (1 << FRAC_BITS) + 0.5)
            assert sines[p, i] == floor(math.sin(p * f) * (1 << FRAC_BITS) + 0.5)
    assert cosines[0].tolist() == [1 << FRAC_BITS] * 4 and not sines[0].any()


@given(codes, codes, table, table, st.integers(0, 30), st.integers(4, 16))
def test_a_pair_equals_the_definition_within_the_stated_widths(a, b, c, s, shift, bits):
    def defined(value):
        rounded = floor(Fraction(value, 1 << shift) + Fraction(1, 2))
        return min(max(rounded, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)

    unit = Rope(out_bits=bits, shift=shift)
    got = unit.rotate(np.array([a, b]), np.array([c]), np.array([s])).tolist()
    assert got == [defined(a * c - b * s), defined(b * c + a * s)]
    for name, value in (("product", a * c), ("sum", a * c - b * s), ("sum", b * c + a * s)):
        width = unit.widths[name][0]
        assert -(1 << (width - 1)) <= value < 1 << (width - 1)
    width = unit.widths["sum.rounded"][0]
    assert abs(b * c + a * s) + ((1 << shift) >> 1) < 1 << (width - 1)


def test_position_0_changes_no_code_and_the_others_rotate_by_less_than_a_unit_of_error():
    rng = np.random.default_rng(0)
    x = rng.integers(-20000, 20001, (50, 8))
    cosines, sines = rotation_table(FREQUENCIES, 50)
    got = Rope().rotate(x, cosines, sines)
    assert (got[0] == x[0]).all()
    angles = np.arange(50)[:, None] * np.array(FREQUENCIES)
    turned = (x[:, :4] + 1j * x[:, 4:]) * np.exp(1j * angles)
    error = np.abs(got - np.concatenate([turned.real, turned.imag], -1))
    assert error.max() <= 0.5 + 2 * 20000 * 2.0 ** -(FRAC_BITS + 1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: rotation_table([float("nan")], 4), "frequencies must be a list of finite numbers"),
        (lambda: rotation_table(FREQUENCIES, 0), r"positions must be in 1\.\.1048576, not 0"),
        (lambda: rotation_table(FREQUENCIES, 4, 2.0), "gain must be above 0 and below 2"),
        (lambda: Rope(shift=31), r"shift must be in 0\.\.30, not 31"),
        (lambda: Rope(in_bits=17), r"in_bits must be in 4\.\.16, not 17"),
        (lambda: Rope().rotate(np.array([1 << 15, 0]), np.array([0]), np.array([0])), r"codes must be in -32768"),
        (lambda: Rope().rotate(np.zeros(3, int), np.array([0]), np.array([0])), "must have an even number"),
        (lambda: Rope().rotate(np.zeros(2), np.array([0]), np.array([0])), "codes must be integers, not float64"),
        (
            lambda: Rope().rotate(np.zeros(2, int), np.array([-(1 << (TABLE_BITS - 1))]), np.array([0])),
            r"cosines must be in -32767\.\.32767",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
