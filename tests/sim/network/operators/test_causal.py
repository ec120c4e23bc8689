"""Causal attention, rotation and product on tensors equal their specifications."""

import numpy as np
import pytest
import torch

from quant.primitives.scales import Scale
from sim.network.operators.base import Grid
from sim.network.operators.causal import CausalMask, KeyValueCache, TokenContext, TokenScores
from sim.network.operators.product import Product
from sim.network.operators.rope import Angles, Rope
from sim.reference import InputError
from sim.reference.attention import token_context, token_scores, token_weights
from sim.reference.product import Product as ProductSpecification
from sim.reference.rope import Rope as RopeSpecification
from sim.reference.token import quantise_tokens


def codes(*shape, bits=16, seed=0):
    top = 1 << (bits - 1)
    values = torch.randint(-top, top, shape, generator=torch.Generator().manual_seed(seed))
    values.view(-1)[:2] = torch.tensor([-top, top - 1])
    return values.to(torch.int8 if bits == 8 else torch.int16)


def heads(x, count):
    """(B, T, H * d) as (B, H, T, d), codes and magnitudes."""
    batch, tokens, width = x.shape
    return quantise_tokens(x.numpy().reshape(batch, tokens, count, width // count).swapaxes(1, 2))


def repeated(pair, times):
    codes, magnitudes = (part.repeat(times, axis=1) for part in pair)
    return codes, magnitudes


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("cached", [0, 3])
def test_scores_equal_the_specification(key_heads, cached):
    q, k = codes(2, 7, 4 * 8), codes(2, 7, key_heads * 8, seed=1)
    operator = TokenScores("scores", 4, key_heads, 8**-0.5)
    unit = 127**2 / 8**-0.5
    operator.quantise(Grid(16, torch.tensor(2.0**-30 * unit)), Grid(16, torch.tensor(1.0, dtype=torch.float64)), 4)
    assert operator.shift == 26
    expected = token_scores(heads(q, 4), repeated(heads(k, key_heads), 4 // key_heads), operator.shift)
    cache = KeyValueCache() if cached else None
    if cached:
        operator.integer(q[:, :cached], k[:, :cached], cache)
    got = operator.integer(q[:, cached:], k[:, cached:], cache)
    assert got.dtype == torch.int16 and np.array_equal(got.numpy(), expected[:, :, cached:])


@pytest.mark.parametrize("exponent, message", [(3, "too large"), (59, "too small")])
def test_scores_out_of_reach_of_the_specified_shifts_are_refused(exponent, message):
    operator = TokenScores("scores", 4, 2)
    unit = Grid(16, torch.tensor(1.0, dtype=torch.float64))
    with pytest.raises(InputError, match=f"scores: queries and keys are {message} for scores at 2"):
        operator.quantise(Grid(16, torch.tensor(2.0**-exponent * 127**2)), unit, 4)
    with pytest.raises(InputError, match=r"scores: shift must be in 0\.\.54"):
        TokenScores.from_row({"name": "scores", "heads": 4, "key_heads": 2, "shift": exponent - 4}, None)  # pyright: ignore


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("bits, out_bits", [(8, 16), (16, 16), (16, 8)])
def test_context_equals_the_specification(key_heads, bits, out_bits):
    v = codes(2, 7, key_heads * 8, seed=1)
    p = codes(2, 4, 5, 7, bits=bits).clamp(min=0)
    operator = TokenContext("context", 4, key_heads)
    operator.quantise(Grid.power(bits, bits - 1), Grid(16, torch.tensor(0.003)), Grid(out_bits, torch.tensor(0.02)))
    values, magnitudes = repeated(heads(v, key_heads), 4 // key_heads)
    weights = token_weights(p.numpy().astype(np.int64), magnitudes, bits - 1)
    scale = Scale.nearest(0.003 / 127 / 0.02)
    assert (scale.multiplier, scale.shift) == (operator.multiplier, operator.shift)
    expected = token_context(weights, values, int(scale.multiplier), int(scale.shift), out_bits)
    assert np.array_equal(operator.integer(p, v).numpy(), expected.swapaxes(1, 2).reshape(2, 5, 32))


def test_a_rotation_equals_the_specification():
    frequencies = torch.tensor([10000.0 ** (-i / 4) for i in range(4)])
    angles = Angles.of("angles", frequencies, 40, 1.0)
    x, positions = codes(2, 9, 3 * 8), torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(0))
    cosines, sines = angles(positions)
    operator = Rope("rope", 3)
    grid = Grid(16, torch.tensor(0.01))
    operator.finish((grid,), (grid,))
    expected = RopeSpecification().rotate(
        x.numpy().reshape(2, 9, 3, 8), cosines.numpy()[:, :, None], sines.numpy()[:, :, None]
    )
    assert np.array_equal(operator.integer(x, cosines, sines).numpy(), expected.reshape(2, 9, 24))


@pytest.mark.parametrize("bits", [(16, 16, 16), (8, 8, 8), (16, 8, 16), (8, 16, 8)])
def test_a_product_equals_the_specification(bits):
    a, b = codes(3, 5, 64, bits=bits[0]), codes(3, 5, 64, bits=bits[1], seed=1)
    operator = Product("product")
    grids = [Grid(n, torch.tensor(scale)) for n, scale in zip(bits, (0.01, 0.02, 0.5), strict=True)]
    operator.quantise(*grids)
    spec = operator.specification
    assert isinstance(spec, ProductSpecification) and (spec.a_bits, spec.b_bits, spec.out_bits) == bits
    assert np.array_equal(operator.integer(a, b).numpy(), spec.compute(a.numpy(), b.numpy()))


@pytest.mark.parametrize("window", [None, 3])
def test_a_token_sees_itself_and_earlier_ones_that_count(window):
    mask = torch.tensor([[1, 1, 0, 1, 1]])
    seen = CausalMask("mask", window)(torch.zeros(1, 5, dtype=torch.long), mask, None)
    for t in range(5):
        for s in range(5):
            near = window is None or s > t - window
            assert bool(seen[0, 0, t, s]) == (s <= t and near and bool(mask[0, s]))
