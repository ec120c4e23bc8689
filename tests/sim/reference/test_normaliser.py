"""The normaliser against its definition, on every 16-bit input."""

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest

from sim.reference import InputError, Normaliser, PwlTable


def table(function="div", domain=(0.5, 4.0), step=3, **changes) -> PwlTable:
    values: dict[str, Any] = dict(
        function=function, domain=domain, normaliser_step=step, scales=(5,), slope_frac_bits=5, intercept_frac_bits=5,
        bp_frac_bits=5, slopes=(-80, -32, -12, -4), intercepts=(104, 66, 40, 23), breakpoints=(26, 40, 70),
    )  # fmt: skip
    return PwlTable(**{**values, **changes})


CASES = [("div", (0.5, 4.0), 3), ("div", (2.0, 4.0), 1), ("rsqrt", (0.25, 4.0), 4), ("rsqrt", (1.0, 4.0), 2)]


def definition(t: PwlTable, v: int, frac_bits: int, reach: int = 40) -> tuple[int, int]:
    """(code, k) in rationals: k by trying every multiple of the step."""
    x, (low, high), step = Fraction(v, 2**frac_bits), t.domain, t.normaliser_step or 0
    [k] = [k for k in range(-reach * step, reach * step, step) if low <= x / Fraction(2) ** k < high]
    code = floor(x / Fraction(2) ** k * 32 + Fraction(1, 2))
    return min(code, int(high * 32) - 1), k


@pytest.mark.parametrize(
    "frac_bits", [pytest.param(0, marks=pytest.mark.slow), 9, pytest.param(20, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("function, domain, step", CASES)
def test_every_16_bit_input_equals_the_definition(function, domain, step, frac_bits):
    t = table(function, domain, step)
    unit = Normaliser(t, scale=5, input_bits=16, input_frac_bits=frac_bits)
    v = np.arange(-(1 << 15), 1 << 15)
    code, k = unit.normalise(v)
    acc, exponent = unit.evaluate(v)
    y = unit.output(v, output_scale=4, out_bits=8)
    power = Fraction(-1) if function == "div" else Fraction(-1, 2)
    assert (y[v <= 0] == 127).all() and (acc[v <= 0] == acc.max()).all() and (exponent[v <= 0] == exponent.max()).all()
    assert (acc == np.where(v > 0, unit.lowered.accumulate(code), acc)).all()
    for i in range((1 << 15) + 1, 1 << 16, 7 if frac_bits else 1):
        value = int(v[i])
        assert (code[i], k[i]) == definition(t, value, frac_bits)
        assert exponent[i] == power * int(k[i])
        exact = Fraction(int(acc[i])) * Fraction(2) ** int(exponent[i]) / 2 ** (t.slope_frac_bits + 5)
        assert y[i] == min(max(floor(exact * 16 + Fraction(1, 2)), -128), 127)


@pytest.mark.parametrize("function, domain, step", CASES)
def test_inputs_around_every_power_of_two_up_to_62_bits_equal_the_definition(function, domain, step):
    t = table(function, domain, step)
    unit = Normaliser(t, scale=5, input_bits=62, input_frac_bits=0, input_signed=False)
    values = sorted({min(max((1 << bit) + d, 1), (1 << 62) - 1) for bit in range(63) for d in (-2, -1, 0, 1, 2)})
    code, k = unit.normalise(np.array(values, dtype=np.int64))
    assert [(int(c), int(e)) for c, e in zip(code, k, strict=True)] == [definition(t, v, 0, 70) for v in values]


def test_the_result_approximates_the_function_over_the_whole_range():
    unit = Normaliser(table(), scale=5, input_bits=16, input_frac_bits=8)
    v = np.arange(1, 1 << 15)
    acc, exponent = unit.evaluate(v)
    got = acc * 2.0 ** (exponent - 10)
    assert np.abs(got * v / 256 - 1).max() < 0.15  # a table of secants: coarse, but nowhere a wrong octave


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({"function": "gelu"}, {}, "function must be one of div, rsqrt for a normaliser, not 'gelu'"),
        ({"step": None}, {}, "normaliser_step must be an integer for a normaliser, not null"),
        ({"domain": (0.5, 3.0)}, {}, "domain must be [2^e, 2^(e+3)) for normaliser_step 3, not [0.5, 3.0]"),
        ({"function": "rsqrt"}, {}, "normaliser_step must be even for rsqrt, not 3"),
        ({}, {"scale": 6}, "scale 6 puts the domain's top 4 outside the 8-bit codes"),
        ({}, {"scale": 0}, "scale 0 has no code for the domain's bottom 0.5"),
        ({}, {"input_bits": 63}, "input_bits must be in 2..62, not 63"),
    ],
)
def test_a_table_or_width_that_cannot_work_is_refused(changes, options, message):
    with pytest.raises(InputError) as error:
        Normaliser(table(**changes), **{"scale": 5, "input_bits": 16, "input_frac_bits": 8, **options})
    assert str(error.value) == message


def test_inputs_outside_the_width_are_refused():
    with pytest.raises(InputError, match=r"inputs must be in -128\.\.127"):
        Normaliser(table(), 5, 8, 0).normalise(np.array([128]))
