"""The element-wise product against rationals."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.product import Product

CODES = np.arange(-128, 128)


def defined(a, b, m, k, bits):
    exact = floor(Fraction(int(a) * int(b) * m, 1 << k) + Fraction(1, 2))
    return min(max(exact, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)


@pytest.mark.parametrize("m, k, bits", [(1, 0, 16), (3, 9, 8), (65535, 23, 8), (1, 15, 8)])
def test_every_pair_of_8_bit_codes_equals_the_definition(m, k, bits):
    got = Product(m, k, 8, 8, bits).compute(CODES[:, None], CODES)
    assert got.tolist() == [[defined(a, b, m, k, bits) for b in CODES] for a in CODES]


codes = st.integers(-(1 << 15), (1 << 15) - 1)


@given(codes, codes, st.integers(0, 65535), st.integers(0, 47))
def test_16_bit_codes_equal_the_definition_within_the_stated_widths(a, b, m, k):
    unit = Product(m, k)
    assert unit.compute(np.array([a]), np.array([b])).tolist() == [defined(a, b, m, k, 16)]
    for name, value in (("product", a * b), ("scaled", a * b * m), ("scaled.rounded", a * b * m + ((1 << k) >> 1))):
        bits = unit.widths[name][0]
        assert -(1 << (bits - 1)) <= value < 1 << (bits - 1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Product(1 << 16, 0), r"multiplier must be in 0\.\.65535, not 65536"),
        (lambda: Product(1, 48), r"shift must be in 0\.\.47, not 48"),
        (lambda: Product(1, 0, a_bits=17), r"a_bits must be in 4\.\.16, not 17"),
        (lambda: Product(1, 0, 8).compute(np.array([128]), np.array([0])), r"a must be in -128\.\.127, not 128\.\.128"),
        (lambda: Product(1, 0).compute(np.array([1]), np.array([0.5])), "b must be integers, not float64"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
