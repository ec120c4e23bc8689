"""The floating-point table: what it refuses, which entry serves a number, what it computes."""

import numpy as np
import pytest

from sim.reference import InputError, PwlTable, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FP16, FP32

TABLE = FloatTable.of(FP32, [-1.5, 0.0, 2.0], [0.0, -0.25, 0.75, 1.0], [0.0, 0.125, 0.1, -0.3])


def test_it_is_slope_times_x_plus_intercept_in_float32():
    x = np.random.default_rng(0).normal(0, 2, 10_000).astype(np.float32)
    i = (x[:, None] >= np.array([-1.5, 0, 2], np.float32)).sum(axis=1)
    slopes, intercepts = (TABLE.values(name).astype(np.float32)[i] for name in ("slopes", "intercepts"))
    got = TABLE.evaluate(x.view(np.uint32).astype(np.int64))
    assert np.array_equal(got, (slopes * x + intercepts).view(np.uint32).astype(np.int64))


def test_a_threshold_belongs_to_the_entry_above_both_zeros_are_one_and_nan_takes_entry_0():
    patterns = [*TABLE.thresholds, FP32.sign_bit, FP32.smallest - 1, FP32.nan, FP32.nan + 1, FP32.infinity]
    assert TABLE.segment(np.array(patterns)).tolist() == [1, 2, 3, 2, 2, 0, 0, 3]
    below = floating.encode(FP32, np.nextafter(np.array([-1.5, 2.0], np.float32), np.float32(-9)))
    assert TABLE.segment(below).tolist() == [0, 2]
    assert TABLE.segment(np.array([FP32.sign_bit | 1, FP32.sign_bit | FP32.smallest])).tolist() == [2, 1]
    assert TABLE.evaluate(np.array([FP32.nan])).tolist() == [FP32.nan]


def test_coefficients_are_rounded_to_the_nearest_number_of_the_format_ties_to_even():
    values = np.random.default_rng(1).normal(size=(3, 8))
    table = FloatTable.of(FP16, np.sort(values[0])[:7], values[1], values[2])
    assert table.values("slopes").tolist() == values[1].astype(np.float16).astype(float).tolist()
    tie = FloatTable.of(FP16, [1 + 2**-11], [1 + 3 * 2**-11, 0], [0, 0])
    assert (tie.thresholds, tie.slopes[0]) == ((0x3C00,), 0x3C02)


def test_an_integer_table_keeps_its_coefficients():
    integers = PwlTable("f", (-4, 4), (0, 1), 6, 6, 6, (1, -2, 127), (3, 4, -5), (-100, 77))
    table = FloatTable.of_table(FP16, integers)
    assert table.values("thresholds").tolist() == [-100 / 64, 77 / 64]
    assert table.values("slopes").tolist() == [1 / 64, -2 / 64, 127 / 64]
    assert table.values("intercepts").tolist() == [3 / 64, 4 / 64, -5 / 64]


@pytest.mark.parametrize(
    "lists, message",
    [
        (((5,), (1, 2, 3), (1, 2, 3)), "thresholds must have 2 patterns, not 1"),
        (((5, 6), (1, 2, 3), (1, 2)), "intercepts must have 3 patterns, not 2"),
        (((), (1,), (1,)), "entries must be in 2..64, not 1"),
        (((0x4000, 0x3C00), (1, 2, 3), (1, 2, 3)), "thresholds must be sorted, not [2.0, 1.0]"),
        (((0x7E00,), (1, 2), (1, 2)), "thresholds must not be NaN"),
        (((5,), (1, 1 << 16), (1, 2)), "slopes[1] must be in 0..65535, not 65536"),
    ],
)
def test_a_table_that_is_none_is_one_line(lists, message):
    with pytest.raises(InputError) as error:
        FloatTable(FP16, *lists)
    assert str(error.value) == message
