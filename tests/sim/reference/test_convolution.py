"""Convolutions of codes against PyTorch's own convolution, on integers that float64 holds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from sim.reference import InputError
from sim.reference.convolution import DepthwiseConvolution, Window
from sim.reference.requant import requantise


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, tuple[int, int]]:
    kernel = draw(st.integers(1, 5))
    padding, stride = draw(st.integers(0, kernel - 1)), draw(st.integers(1, 4))
    smallest = max(1, kernel - 2 * padding)
    sides = draw(st.integers(smallest, smallest + 6)), draw(st.integers(smallest, smallest + 6))
    return Window(kernel, stride, padding), sides


@settings(max_examples=50, deadline=None)
@given(windows(), st.integers(0, 2**32 - 1))
def test_the_patches_times_the_weights_are_a_convolution(found, seed):
    window, (height, width) = found
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (2, height, width, 3))
    weights = rng.integers(-128, 128, (4, 3, window.kernel, window.kernel))
    got = window.patches(codes) @ weights.transpose(0, 2, 3, 1).reshape(4, -1).T
    images, kernels = (torch.tensor(x, dtype=torch.float64) for x in (codes.transpose(0, 3, 1, 2), weights))
    expected = functional.conv2d(images, kernels, stride=window.stride, padding=window.padding)
    assert np.array_equal(got.transpose(0, 3, 1, 2), expected.numpy())


@settings(max_examples=50, deadline=None)
@given(windows(), st.sampled_from([8, 16]), st.integers(0, 2**32 - 1))
def test_a_depthwise_convolution_is_a_grouped_one_requantised(found, bits, seed):
    window, (height, width) = found
    rng = np.random.default_rng(seed)
    top = 1 << (bits - 1)
    codes = rng.integers(-top, top, (2, height, width, 3))
    codes.flat[:2] = -top, top - 1
    weights, bias = rng.integers(-128, 128, (window.kernel**2, 3)), rng.integers(-1000, 1000, 3)
    multiplier, shift = rng.integers(1, 1 << 16, 3), rng.integers(10, 30, 3)
    spec = DepthwiseConvolution(weights, bias, multiplier, shift, window, bits, 16)
    images = torch.tensor(codes.transpose(0, 3, 1, 2), dtype=torch.float64)
    kernels = torch.tensor(weights.T.reshape(3, 1, window.kernel, window.kernel), dtype=torch.float64)
    psum = functional.conv2d(images, kernels, stride=window.stride, padding=window.padding, groups=3).numpy()
    accumulators = psum.transpose(0, 2, 3, 1).astype(np.int64) + bias
    assert np.array_equal(spec.output(codes), requantise(accumulators, multiplier, shift, out_bits=16))
    assert spec.bound[0] <= accumulators.min() and accumulators.max() <= spec.bound[1]


def test_the_bound_is_reached():
    weights, none = np.array([[-3], [5]]).repeat(2, 0)[:4], np.zeros(1, dtype=np.int64)
    spec = DepthwiseConvolution(weights, none + 7, none + 1, none, Window(2))
    codes = np.where(weights > 0, 127, -128).reshape(1, 2, 2, 1)
    assert spec.bound[1] == int((weights * codes.reshape(-1, 1)).sum()) + 7


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Window(0), r"kernel must be in 1\.\.64, not 0"),
        (lambda: Window(3, 0), r"stride must be in 1\.\.64, not 0"),
        (lambda: Window(3, 1, 3), r"padding must be in 0\.\.2, not 3"),
        (lambda: Window(5).count(4), "an image's side must have at least 5 pixels, not 4"),
        (lambda: depthwise(np.zeros((8, 1), int)), "weights must have 9 rows, not 8"),
        (lambda: depthwise(np.full((9, 1), 1 << 23)), "weights must be in -8388608..8388607"),
        (lambda: depthwise().output(np.full((1, 4, 4, 1), 128)), "codes must be in -128..127, not 128..128"),
    ],
)
def test_what_is_out_of_range_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def depthwise(weights: np.ndarray | None = None) -> DepthwiseConvolution:
    one = np.ones(1, dtype=np.int64)
    return DepthwiseConvolution(np.ones((9, 1), int) if weights is None else weights, one, one, one, Window(3))
