"""Per-token quantisation and the linear layer behind it against Python integers."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.gemm import GroupedLinear
from sim.reference.token import TokenLinear, quantise_tokens

wide = st.integers(-(1 << 15), (1 << 15) - 1)


@given(st.lists(wide | st.integers(-4, 4), min_size=1, max_size=20), st.sampled_from([2, 4, 8, 16]))
def test_every_row_equals_the_definition(row, bits):
    top = (1 << (bits - 1)) - 1
    largest = max(1, *map(abs, row))
    ratio = floor(Fraction(top << 24, largest) + Fraction(1, 2))
    codes, magnitude = quantise_tokens(np.array([row]), bits)
    assert magnitude.tolist() == [[largest]]
    assert codes.tolist() == [[floor(Fraction(x * ratio, 1 << 24) + Fraction(1, 2)) for x in row]]
    assert all(
        abs(int(c) - Fraction(x * top, largest)) <= Fraction(51, 100) for c, x in zip(codes[0], row, strict=True)
    )
    assert int(np.abs(np.array(row) * ratio).max() + (1 << 23)).bit_length() < bits + 25


def linear(bias: int = 0, weight: int = 3, inputs: int = 4) -> GroupedLinear:
    return GroupedLinear(
        weights=np.full((2, inputs), weight),
        bias=np.full(2, bias),
        multiplier=np.array([40000, 65535]),
        shift=np.array([30, 12]),
        out_bits=16,
    )


def test_the_layer_equals_python_integers():
    rng = np.random.default_rng(0)
    layer = GroupedLinear(
        rng.integers(-128, 128, (3, 10)), np.zeros(3, int), np.array([1, 40000, 65535]), np.array([0, 31, 47])
    )
    bias = np.array([-(1 << 30), 5, 1 << 40])
    a, m = rng.integers(-128, 128, (20, 10)), rng.integers(1, (1 << 15) + 1, (20, 1))
    got = TokenLinear(layer, bias).output(a, m)
    for row, magnitude, codes in zip(a.tolist(), m[:, 0].tolist(), got.tolist(), strict=True):
        for n, code in enumerate(codes):
            total = int(bias[n]) + magnitude * sum(x * int(w) for x, w in zip(row, layer.weights[n], strict=True))
            exact = Fraction(total * int(layer.multiplier[n]), 1 << int(layer.shift[n]))
            assert code == min(max(floor(exact + Fraction(1, 2)), -128), 127)


def test_a_layer_that_could_pass_62_bits_is_refused():
    with pytest.raises(InputError, match="A \\* m_c must fit 62 bits, but can need 63"):
        TokenLinear(linear(), np.array([0, 1 << 45]))
    with pytest.raises(InputError, match="linear's own bias must be zeros"):
        TokenLinear(linear(bias=1), np.zeros(2, int))
    with pytest.raises(InputError, match="bias must be 2 integers"):
        TokenLinear(linear(), np.zeros(3, int))


@pytest.mark.parametrize(
    "x, message",
    [(np.array([[0.5]]), "x must be integers, not float64"), (np.array([[1 << 15]]), r"x must be in -32768\.\.32767")],
)
def test_values_that_do_not_fit_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        quantise_tokens(x)
