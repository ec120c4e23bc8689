"""The residual addition against rationals."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.residual import add_scaled

code, multiplier = st.integers(-(1 << 15), (1 << 15) - 1), st.integers(0, (1 << 16) - 1)


@given(code, code, multiplier, multiplier, st.integers(0, 47))
def test_every_sum_equals_the_definition(a, b, m, n, shift):
    exact = floor(Fraction(a * m + b * n, 1 << shift) + Fraction(1, 2))
    got = add_scaled(np.array([a]), np.array([b]), (m, n), shift)
    assert got.tolist() == [min(max(exact, -(1 << 15)), (1 << 15) - 1)]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.array([1 << 15]), np.array([0]), (1, 1), 0), r"a must be in -32768\.\.32767"),
        ((np.array([0]), np.array([0.5]), (1, 1), 0), "b must be integers, not float64"),
        ((np.array([0]), np.array([0]), (1, 1 << 16), 0), r"multiplier must be in 0\.\.65535, not 65536"),
        ((np.array([0]), np.array([0]), (1, 1), 48), r"shift must be in 0\.\.47, not 48"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        add_scaled(*arguments)
