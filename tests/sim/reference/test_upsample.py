"""Interpolation of codes against PyTorch's, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sim.reference import InputError
from sim.reference.upsample import taps, upsample


def interpolated(codes: np.ndarray, height: int, width: int) -> np.ndarray:
    images = torch.tensor(codes.transpose(0, 3, 1, 2), dtype=torch.float64)
    return functional.interpolate(images, (height, width), mode="bilinear").permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (4, 2), (8, 1), (16, 32)])
def test_powers_of_two_are_exact_but_for_one_rounding(factors):
    codes = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (2, 5, 3, 4))
    codes.flat[:2] = -(1 << 15), (1 << 15) - 1
    height, width = 5 * factors[0], 3 * factors[1]
    expected = np.floor(interpolated(codes, height, width) + 0.5)
    assert np.array_equal(upsample(codes, height, width), expected)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 2**32 - 1))
def test_any_size_is_within_the_rounding_of_the_weights(sizes, seed):
    height, width, rows, columns = sizes
    codes = np.random.default_rng(seed).integers(-128, 128, (1, height, width, 2))
    error = np.abs(upsample(codes, rows, columns) - interpolated(codes, rows, columns))
    assert error.max() <= 0.5 + 2 * 255 / 512 + 1e-9  # half a unit, and half a step of the weight along each side
    assert upsample(codes, rows, columns).shape == (1, rows, columns, 2)


def test_weights_stay_inside_and_a_constant_stays_constant():
    for source in range(1, 20):
        for target in range(1, 60):
            first, second, weight = taps(source, target)
            assert first.min() >= 0 and second.max() < source and weight.min() >= 0 and weight.max() <= 256
    assert (upsample(np.full((1, 3, 3, 1), -77), 10, 11) == -77).all()


def test_sizes_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"target must be in 1\.\.32768, not 0"):
        upsample(np.zeros((1, 2, 2, 1), int), 0, 4)
