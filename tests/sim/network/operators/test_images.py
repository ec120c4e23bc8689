"""The operators of images equal the specification, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quant import Settings
from quant.primitives.quantisers import quantise_weight
from sim.network.operators.base import Grid
from sim.network.operators.depthwise import Depthwise
from sim.network.operators.folded import Folded, Matrix, gain_and_offset, window_of
from sim.network.operators.images import Image, Tokens, Unfold
from sim.network.operators.upsample import Concat, Upsample
from sim.reference import InputError
from sim.reference.convolution import Window
from sim.reference.upsample import upsample
from tests.sim.network.operators.test_operators import check_fake, codes, grid

GROUPED = Settings(weight_bits=4, weight_granularity="group", group_size=4, weight_symmetric=False)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 4), st.sampled_from([torch.int8, torch.int16]))
def test_patches_are_those_of_the_specification(kernel, stride, padding, kind):
    window = Window(kernel, stride, min(padding, kernel - 1))
    x = torch.randint(-128, 128, (2, 7, 6, 3)).to(kind)
    got = Unfold("patches", window)(x)
    assert got.dtype == kind and np.array_equal(got.numpy(), window.patches(x.numpy()))
    assert Unfold("patches", window).shapes(("batch", 7, 6, 3)) == (("batch", *got.shape[1:]),)


def test_tokens_and_images_are_the_same_codes():
    x = codes(8, 2, 3, 4, 5)
    tokens = Tokens("tokens", 2)(x)
    assert tokens.shape == (2, 14, 5) and not tokens[:, :2].any()
    assert torch.equal(Image("image")(Tokens("tokens")(x), x), x) and torch.equal(tokens[:, 2:], x.flatten(1, 2))


@pytest.mark.parametrize("weights", [Settings(), GROUPED])
@pytest.mark.parametrize("bits, kernel, stride", [(8, 3, 1), (16, 3, 2), (8, 5, 1), (16, 1, 1)])
def test_a_depthwise_convolution_equals_the_specification(weights, bits, kernel, stride):
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=bits == 8), nn.BatchNorm2d(6).eval()
    nn.init.uniform_(norm.weight, -2, 2)
    operator = Depthwise("layer", layer, ("norm", norm))
    assert operator.claims() == {"layer": layer, "norm": norm} and operator.matrix is not None
    weight = quantise_weight(operator.matrix.weight, weights)
    operator.quantise(Grid(bits, torch.linspace(0.01, 0.05, 6, dtype=torch.float64)), grid(16, 0.0004), weight)
    x = codes(bits, 2, 7, 6, 6)
    assert operator.specification is not None
    assert np.array_equal(operator.integer(x).numpy(), operator.specification.output(x.numpy()))
    real = operator.inputs[0].real(x).permute(0, 3, 1, 2)
    expected = norm(layer(real)).detach().permute(0, 2, 3, 1)
    assert torch.allclose(operator.real(operator.inputs[0].real(x)), expected, atol=1e-4 * float(expected.abs().max()))
    check_fake(operator, x)


def test_upsampling_equals_the_specification():
    operator, x, like = Upsample("up"), codes(16, 2, 3, 5, 4), torch.zeros(2, 9, 20, 1)
    operator.quantise(grid(16, 0.001))
    assert np.array_equal(operator.integer(x, like).numpy(), upsample(x.numpy(), 9, 20))
    check_fake(operator, x, extra=(like,))


def test_channels_side_by_side_need_one_scale():
    operator, parts = Concat("concat"), (codes(16, 2, 3, 4), codes(16, 2, 3, 5, seed=1))
    operator.quantise([grid(16, 0.001)] * 2)
    assert torch.equal(operator.integer(*parts), torch.cat(parts, -1))
    check_fake(operator, *parts)
    with pytest.raises(AssertionError):
        operator.quantise([grid(16, 0.001), grid(16, 0.002)])


def test_a_batch_norm_is_folded_into_the_convolution_before_it():
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.BatchNorm2d(5)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)  # pyright: ignore[reportArgumentType]
    norm.eval()
    matrix: Any = Folded(layer, ("norm", norm)).matrix()
    assert isinstance(matrix, Matrix)
    x = torch.randn(2, 3, 8, 8)
    patches = Unfold("patches", window_of("layer", layer))(x.permute(0, 2, 3, 1))
    got = nn.functional.linear(patches, matrix.weight, matrix.bias)
    assert torch.allclose(got.permute(0, 3, 1, 2), norm(layer(x)), atol=1e-5)
    assert len(gain_and_offset(nn.BatchNorm2d(5, affine=False).eval())) == 2


@pytest.mark.parametrize(
    "claim, message",
    [
        (lambda: Folded(nn.Conv2d(4, 4, 3, groups=2)).claims("c"), "c: a convolution in 2 groups has no integer"),
        (lambda: Folded(nn.Conv2d(4, 4, 3, dilation=2)).claims("c"), "c: only square convolutions, not dilated"),
        (lambda: Folded(nn.Conv1d(4, 4, 3)).claims("c"), "c: Conv1d has no integer operator"),
        (lambda: Depthwise("c", nn.Conv2d(4, 8, 3, groups=4)).claims(), "c: a depthwise convolution must have one"),
    ],
)
def test_other_convolutions_are_refused_by_name(claim, message):
    with pytest.raises(InputError, match=message):
        claim()
