"""Linear attention on codes against rational arithmetic, with a reciprocal that is as good as its format."""

from fractions import Fraction

import numpy as np
import pytest

from sim.network.operators.tables import normaliser
from sim.reference import InputError
from sim.reference.linear_attention import LinearAttention, divisor_bits_for

TOKENS, WIDTH = 20, 4


def attention(table: object = "exact") -> LinearAttention:
    div = normaliser("div", table, divisor_bits_for(TOKENS, WIDTH), 0)  # pyright: ignore[reportArgumentType]
    return LinearAttention(div, 1 << 15, 15, TOKENS)


def quotients(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> list[Fraction]:
    """256 times the quotient of every token and channel; 0 where the divisor is 0."""
    q, k = q.clip(min=0), k.clip(min=0)
    dividend, divisor = q @ (k.T @ v), q @ k.sum(0)
    return [
        Fraction(256 * int(x), int(d)) if d else Fraction(0)
        for row, d in zip(dividend, divisor, strict=True)
        for x in row
    ]


def test_the_mean_is_the_quotient_within_the_error_of_the_reciprocal():
    rng = np.random.default_rng(0)
    for case in range(60):
        q, k, v = (rng.integers(-128, 128, (int(rng.integers(1, TOKENS + 1)), WIDTH)) for _ in range(3))
        k, v = (x[: len(q)] if len(x) >= len(q) else np.resize(x, q.shape) for x in (k, v))
        if case % 3 == 0:
            q, k = q // 40, k // 40  # small divisors, and some of 0
        got = attention().mean(q, k, v).ravel()
        for found, exact in zip(got, quotients(q, k, v), strict=True):
            # half a code of the reciprocal's argument of 32..63, half a step of the reciprocal, one rounding
            assert abs(int(found) - exact) <= abs(exact) * Fraction(1, 50) + 1


def test_values_that_are_all_alike_are_their_mean():
    rng = np.random.default_rng(1)
    q, k = rng.integers(1, 128, (2, 7, WIDTH))
    got = attention().mean(q, k, np.full((7, WIDTH), -100))
    assert np.abs(got + 25600).max() <= 25600 // 50


def test_what_is_out_of_range_is_refused():
    ones = np.ones((TOKENS + 1, WIDTH), int)
    with pytest.raises(InputError, match=r"there must be 1\.\.20 tokens, not 21"):
        attention().mean(ones, ones, ones)
    with pytest.raises(InputError, match=r"k must be in -128\.\.127, not 1\.\.128"):
        attention().mean(ones[:2], np.array([[1] * 4, [128] * 4]), ones[:2])
    with pytest.raises(InputError, match="the dividend times the reciprocal must fit 62 bits"):
        LinearAttention(normaliser("div", "exact", 50, 0), 1, 0, TOKENS)
    with pytest.raises(InputError, match="div must take unsigned integers"):
        LinearAttention(normaliser("div", "exact", 20, 7), 1, 0, TOKENS)
