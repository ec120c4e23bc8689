"""Scales as (m, k): the nearest one, exactly, and nothing outside the hardware's range."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.primitives.scales import Scale
from sim.reference import InputError

reals = st.floats(2.0**-40, 60000, allow_nan=False)


@given(st.lists(reals, min_size=1, max_size=20))
def test_the_scale_is_the_nearest_of_sixteen_bits_and_value_is_exactly_m_over_two_to_the_k(values):
    scale = Scale.nearest(torch.tensor(values, dtype=torch.float64))
    for value, m, k, real in zip(
        values, scale.multiplier.tolist(), scale.shift.tolist(), scale.value.tolist(), strict=True
    ):
        assert 0 < m < 1 << 16 and 0 <= k <= 47 and Fraction(real) == Fraction(m, 1 << k)
        assert m >= 1 << 15 or k == 47
        below = Fraction((1 << 16) - 1, 1 << (k + 1)) if m == 1 << 15 and k < 47 else Fraction(m - 1, 1 << k)
        for other in (below, Fraction(m + 1, 1 << k)):
            assert abs(Fraction(value) - Fraction(real)) <= abs(Fraction(value) - other)


@given(st.lists(reals, min_size=1, max_size=20))
def test_above_is_the_smallest_scale_not_below(values):
    scale = Scale.above(torch.tensor(values, dtype=torch.float64))
    for value, m, k in zip(values, scale.multiplier.tolist(), scale.shift.tolist(), strict=True):
        assert Fraction(m, 1 << k) >= Fraction(value) > Fraction(m - 1, 1 << k)


def test_tiny_scales_keep_the_largest_shift_and_never_vanish():
    scale = Scale.nearest(torch.tensor([2.0**-47, 1e-30, 3 * 2.0**-47], dtype=torch.float64))
    assert scale.multiplier.tolist() == [1, 1, 3] and scale.shift.tolist() == [47, 47, 47]


@pytest.mark.parametrize("bad, message", [
    (0.0, "positive and finite, not 0.0"), (-1.0, "not -1.0"), (float("nan"), "not nan"), (float("inf"), "not inf"),
    (65536.0, "must be below 65536, not 65536.0"), (65535.9, "must be below 65536"),
])  # fmt: skip
def test_a_scale_that_cannot_be_is_refused_by_name(bad, message):
    with pytest.raises(InputError, match=message) as error:
        Scale.nearest(bad, "layer.weight")
    assert str(error.value).startswith("layer.weight must be ")
