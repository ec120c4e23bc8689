"""The integer LayerNorm and RMSNorm against a definition in Python integers, their widths against extreme rows."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import InputError, Norm, Normaliser
from sim.reference.norm import spread_bits_for
from tests.sim.tables import secant_table

RSQRT = secant_table("rsqrt")


def unit(length: int, gain: int = 8192, bias: int = 0, shift: int = 13, epsilon: int = 1, **changes) -> Norm:
    bits = spread_bits_for(length, epsilon, changes.get("in_bits", 16))
    return Norm(
        (gain,) * length, (bias,) * length, shift, epsilon, Normaliser(RSQRT, 5, bits, 0, False), **changes
    )  # fmt: skip


def definition(norm: Norm, row: list[int]) -> list[int]:
    """One row from the sum of squared differences, in Python integers and rationals."""
    n = len(row)
    total = sum(row) if norm.centring else 0
    spread = sum((n * x - total) ** 2 for x in row)
    assert spread % n == 0
    acc, exponent = norm.rsqrt.evaluate(np.array([spread // n + norm.epsilon]))
    unit = Fraction(2) ** int(exponent[0]) / 2 ** (norm.rsqrt.table.slope_frac_bits + norm.rsqrt.scale)
    outputs = []
    for x, gain, bias in zip(row, norm.gain, norm.bias, strict=True):
        exact = (n * x - total) * int(acc[0]) * unit * 2**norm.normal_frac_bits
        normal = min(max(floor(exact + Fraction(1, 2)), -(1 << 15)), (1 << 15) - 1)
        code = floor(Fraction(normal * gain + bias, 2**norm.shift) + Fraction(1, 2))
        low = -(1 << (norm.out_bits - 1))
        outputs.append(min(max(code, low), -low - 1))
    return outputs


@given(st.data(), st.booleans(), st.sampled_from((8, 16)))
def test_every_row_equals_the_definition(data, centring, out_bits):
    length = data.draw(st.integers(2, 24))
    wide = st.integers(-(1 << 15), (1 << 15) - 1)
    row = data.draw(st.lists(wide | st.integers(-3, 3), min_size=length, max_size=length))
    norm = replace(
        unit(length, shift=data.draw(st.integers(0, 31)), epsilon=data.draw(st.integers(1, 1 << 40))),
        gain=tuple(data.draw(st.lists(wide, min_size=length, max_size=length))),
        bias=tuple(data.draw(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=length, max_size=length))),
        centring=centring,
        out_bits=out_bits,
    )
    assert norm.compute(np.array(row)).tolist() == definition(norm, row)


def test_a_constant_row_gives_the_bias():
    norm = replace(unit(8, gain=-300, shift=4, epsilon=1), bias=tuple(range(-64, 64, 16)))
    for value in (-(1 << 15), -1, 0, 1, (1 << 15) - 1):
        assert norm.compute(np.full((2, 8), value)).tolist() == [list(range(-4, 4))] * 2


@pytest.mark.parametrize("centring", [True, False])
def test_it_is_a_norm(centring):
    rng = np.random.default_rng(0)
    x = rng.normal(50, 900, (100, 384)).astype(np.int64)
    norm = unit(384, gain=8192, shift=13, centring=centring)  # output in units of 2**-normal_frac_bits
    exact = (x - x.mean(-1, keepdims=True) * centring).astype(float)
    exact /= np.sqrt((exact**2).mean(-1, keepdims=True))
    assert np.abs(norm.compute(x) / 2**norm.normal_frac_bits - exact).max() < 0.1  # a secant table with 8 entries


@pytest.mark.parametrize("length", [2, 3, 384, 768, pytest.param(8192, marks=pytest.mark.slow)])
@pytest.mark.parametrize("centring", [True, False])
def test_every_intermediate_keeps_to_its_width(length, centring):
    norm = unit(length, gain=-(1 << 15), bias=-(1 << 31), shift=0, centring=centring)
    low, high = -(1 << 15), (1 << 15) - 1
    rng = np.random.default_rng(1)
    row = np.arange(length)
    x = np.array(
        [
            np.full(length, low),
            np.full(length, high),
            np.where(row % 2, low, high),
            np.where(row, low, high),
            np.where(row, high, low),
            rng.integers(low, high + 1, length),
            row == 0,
            row * 0,
        ]
    )
    trace = norm.trace(x)
    for name, values in trace._asdict().items():
        if name in norm.widths:
            bits, signed = norm.widths[name]
            bottom, top = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            assert bottom <= values.min() and values.max() <= top, name
    right = norm.right_shift - trace.exponent
    for value, acc, r in zip(
        trace.centred.ravel().tolist(),
        *(np.broadcast_to(v, x.shape).ravel().tolist() for v in (trace.acc, right)),
        strict=True,
    ):
        assert abs(value * acc) < 1 << (norm.widths["product"][0] - 1)
        shifted = (value * acc << max(-r, 0)) + (1 << max(r, 0) >> 1)
        assert abs(shifted) < 1 << (norm.widths["product.shifted"][0] - 1)
    scaled = trace.normal * norm.gain[0] + norm.bias[0]
    assert np.abs(scaled).max() < 1 << (norm.widths["scaled"][0] - 1)


def test_the_widths_are_reached():
    norm = unit(4, epsilon=1 << 20, centring=False)
    assert int(norm.trace(np.full(4, -(1 << 15))).spread[0]).bit_length() == norm.spread_bits
    norm = unit(384)
    edge = norm.trace(np.where(np.arange(384), -(1 << 15), (1 << 15) - 1))
    assert int(np.abs(edge.centred).max()).bit_length() + 1 == norm.widths["centred"][0]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"bias": (0,) * 7}, "bias must have 8 integers, not 7"),
        ({"gain": (1 << 15,) * 8}, "gain must be in -32768..32767, not 32768"),
        ({"gain": (1,), "bias": (1,)}, "gain's length must be in 2..8192, not 1"),
        ({"epsilon": 0}, "epsilon must be in 1..281474976710656, not 0"),
        ({"shift": 32}, "shift must be in 0..31, not 32"),
        (
            {"rsqrt": Normaliser(RSQRT, 5, 32, 0)},
            "rsqrt must take unsigned integers of 37 bits, not signed ones of 32 bits with 0 fraction bits",
        ),
        (
            {"rsqrt": Normaliser(secant_table("div"), 5, 37, 0, False)},
            "rsqrt must be a normaliser of rsqrt, not of 'div'",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError) as error:
        replace(unit(8), **changes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((2, 9), int), r"a row must have 8 codes, not \[9\]"),
        (np.full(8, 1 << 15), r"codes must be in -32768\.\.32767, not 32768\.\.32768"),
        (np.zeros(8), "codes must be integers, not float64"),
    ],
)
def test_codes_that_do_not_fit_are_refused(x, message):
    with pytest.raises(InputError, match=message):
        unit(8).compute(x)
