"""The integer softmax against a definition in Python integers, its widths against the rows that reach them."""

from dataclasses import replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.problem import prepare
from sim.reference import InputError, Normaliser, PwlTable, Softmax
from sim.reference.softmax import largest_scale, lower_exp, scales_for, total_bits_for
from tests.sim.tables import secant_table

EXP = secant_table("exp").lower(4, 6)
DIV = secant_table("div")


def unit(row_length: int, **changes) -> Softmax:
    return Softmax(EXP, 6, Normaliser(DIV, 5, total_bits_for(EXP, row_length), 6, False), row_length, **changes)


def fine_table(function: str, domain: tuple[float, float], step: int | None, frac: int) -> PwlTable:
    """The chords of 64 equal segments, coefficients of 16 bits; 16-bit codes if it is a normaliser's."""
    edges, f = np.linspace(*domain, 65), {"exp": np.exp, "div": np.reciprocal}[function]
    slopes = np.diff(f(edges)) / np.diff(edges)
    intercepts = f(edges[1:]) - slopes * edges[1:]
    rounded = (np.round([slopes * 2**frac, intercepts * 2**15]).clip(-(1 << 15), (1 << 15) - 1)).astype(int).tolist()
    bits = 8 if step is None else 16
    slopes, intercepts = map(tuple, rounded)
    breakpoints = tuple(np.round(edges[1:-1] * 2**6).astype(int).tolist())
    return PwlTable(
        function, domain, (3,), frac, 15, 6, slopes, intercepts, breakpoints, step, in_bits=bits, coef_bits=16
    )


FINE_EXP, FINE_DIV = fine_table("exp", (-16.0, 0.0), None, 15), fine_table("div", (2.0, 4.0), 1, 17)


def fine(row_length: int, bits: int, scale: int = 3, div: PwlTable = FINE_DIV) -> Softmax:
    """Probabilities of `bits` from tables that are close to their functions."""
    exp, top = lower_exp(FINE_EXP, scale, bits), 5 if div is DIV else 13
    normaliser = Normaliser(div, top, total_bits_for(exp, row_length), bits - 1, False)
    return Softmax(exp, bits - 1, normaliser, row_length, **scales_for(bits))


def definition(softmax: Softmax, row: list[int], valid: list[bool]) -> list[int]:
    """One row, one element at a time, in Python integers and rationals."""
    if not any(valid):
        return [0] * len(row)
    top = max(v for v, ok in zip(row, valid, strict=True) if ok)
    powers = [
        max(int(softmax.exp.output(np.array([max(v - top, -128)]))[0]), 0) if ok else 0
        for v, ok in zip(row, valid, strict=True)
    ]
    bits, scale = softmax.probability_bits, softmax.inverse_scale
    inverse = int(softmax.div.output(np.array([sum(powers)]), scale, bits + 8)[0])
    exact = [Fraction(p * inverse, 2 ** (softmax.exp_scale + scale)) * 2**softmax.probability_scale for p in powers]
    return [min(max(floor(v + Fraction(1, 2)), 0), 2 ** (bits - 1) - 1) for v in exact]


rows = st.lists(
    st.tuples(st.integers(-(1 << 15), (1 << 15) - 1) | st.integers(-200, 200), st.booleans()), min_size=1, max_size=40
)


@given(rows, st.integers(0, 7))
def test_every_row_equals_the_definition(row, probability_scale):
    softmax = unit(40, probability_scale=probability_scale)
    scores, valid = (list(column) for column in zip(*row, strict=True))
    assert softmax.compute(np.array(scores), np.array(valid)).tolist() == definition(softmax, scores, valid)


@given(rows, st.sampled_from([DIV, FINE_DIV]))
def test_every_row_of_16_bit_probabilities_equals_the_definition(row, div):
    softmax = fine(40, 16, div=div)
    scores, valid = (list(column) for column in zip(*row, strict=True))
    assert softmax.compute(np.array(scores), np.array(valid)).tolist() == definition(softmax, scores, valid)


def test_equal_scores_sum_to_1_within_half_a_step_each():
    codes = np.arange(1 << 14, 1 << 15)
    error = np.abs(FINE_DIV.lower(13).accumulate(codes) / 2.0**30 * codes / 2.0**13 - 1).max()  # of the reciprocal
    assert error < 2.0**-13
    softmax = fine(1024, 16)
    for n in range(1, 1025):
        total = softmax.compute(np.zeros((1, n), int)).sum() / 2.0**15
        assert abs(total - 1) <= max(n, 2) / 2.0**16 + error, n
    assert softmax.shortfalls() == fine(2048, 16).shortfalls() == []


@pytest.mark.parametrize("n, total", [(127, 127), (255, 255), (300, 0), (1024, 0)])
def test_equal_scores_of_8_bits_are_off_by_half_a_step_each_and_it_is_said(n, total):
    softmax = fine(n, 8)
    assert softmax.compute(np.full((1, n), 77)).sum() == total
    assert [line[:13] for line in softmax.shortfalls()] == ["probabilities"] * (n > 128)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("scale", [3, 4, 5, 6])
def test_clamped_scores_have_no_weight_at_the_scales_that_serve_them_and_it_is_said_at_others(scale, bits):
    softmax = fine(128, bits, scale)
    first = softmax.compute(np.array([[0] + [-32768] * 127]))[0, 0] / 2.0 ** (bits - 1)
    served = scale <= largest_scale(128, bits - 1)
    assert (first >= 0.99, softmax.shortfalls() == []) == (served, served)
    assert largest_scale(1, bits - 1) == 7 and largest_scale(2048, 15) == 3
    if not served:
        assert f"need a scale of at most {largest_scale(128, bits - 1)}" in softmax.shortfalls()[0]


def test_batches_are_rows_one_by_one():
    rng = np.random.default_rng(0)
    scores, valid = rng.integers(-300, 300, (3, 2, 7, 16)), rng.random((3, 1, 1, 16)) < 0.7
    batch = unit(16).compute(scores, valid)
    assert batch.shape == scores.shape
    for place in np.ndindex(3, 2, 7):
        assert np.array_equal(batch[place], unit(16).compute(scores[place], valid[place[0], 0, 0]))


def test_masked_scores_count_for_nothing_and_a_masked_row_is_zeros():
    scores = np.array([[5, 32767, -40, 3]])
    alone = unit(4).compute(scores[:, [0, 2, 3]])
    assert unit(4).compute(scores, np.array([True, False, True, True])).tolist() == [
        [alone[0, 0], 0, alone[0, 1], alone[0, 2]]
    ]
    assert unit(4).compute(scores, np.zeros(4, bool)).tolist() == [[0, 0, 0, 0]]


def test_it_is_a_softmax():
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 40, (200, 30)).astype(np.int64)
    exact = np.exp((scores - scores.max(-1, keepdims=True)) / 16)
    exact /= exact.sum(-1, keepdims=True)
    exp, _ = fit(prepare(FitConfig("exp", certificate=False)))  # the secants' left tail is a whole code too high
    div, _ = fit(prepare(FitConfig("div", domain=(2, 4), certificate=False)))
    lowered = exp.lower(4, 7)
    softmax = Softmax(lowered, 7, Normaliser(div, 5, total_bits_for(lowered, 30), 7, False), 30)
    assert np.abs(softmax.compute(scores) / 128 - exact).max() < 0.025
    one_hot = np.full((1, 30), -(1 << 15))
    one_hot[0, 4] = (1 << 15) - 1
    assert softmax.compute(one_hot)[0].tolist() == [0] * 4 + [127] + [0] * 25


@pytest.mark.parametrize("row_length", [1, 2, 3, 100, 4096])
def test_every_intermediate_keeps_to_its_width_and_the_total_needs_all_of_it(row_length):
    # a table that gives the top code everywhere sums to the most there can be
    top = replace(EXP, slopes=(0,) * 8, intercepts=(127,) * 8)
    softmax = replace(unit(row_length), exp=top)
    rng = np.random.default_rng(2)
    seen = [softmax.trace(rng.integers(-(1 << 15), 1 << 15, (20, row_length)))]
    seen.append(softmax.trace(np.where(np.arange(row_length) == 0, 32767, -32768)[None]))
    for trace in seen:
        for name, values in trace._asdict().items():
            bits, signed = softmax.widths[name]
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            assert low <= values.min() and values.max() <= high, name
        product = trace.power * trace.inverse
        assert product.max() < 1 << softmax.widths["product"][0]
        assert (product.max() + (1 << softmax.shift >> 1)) < 1 << softmax.widths["product.rounded"][0]
    assert int(seen[0].total.max()).bit_length() == softmax.total_bits


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"row_length": 0}, "row_length must be in 1..65536, not 0"),
        ({"row_length": 500}, "div must take unsigned totals of 16 bits, not unsigned ones of 10"),
        ({"exp": secant_table("exp").lower(4)}, "exp must be lowered with an output scale, for signed codes"),
        ({"exp_scale": 5}, "div must take 5 fraction bits, not 6"),
        ({"probability_bits": 12}, "probability_bits must be 8 or 16, not 12"),
        ({"probability_scale": 8}, "probability_scale must be in 0..7, not 8"),
        ({"inverse_scale": 0}, "probability_scale must be at most exp_scale + inverse_scale = 6, not 7"),
        (
            {"div": Normaliser(secant_table("rsqrt"), 5, 10, 6, False)},
            "div must be a normaliser of div, not of 'rsqrt'",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError) as error:
        replace(unit(8), **changes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "scores, message",
    [
        (np.zeros((2, 9), int), r"a row must have 1\.\.8 scores, not \[9\]"),
        (np.zeros((2, 0), int), r"a row must have 1\.\.8 scores, not \[0\]"),
        (np.array([[1 << 15]]), r"scores must be in -32768\.\.32767, not 32768\.\.32768"),
        (np.array([[0.5]]), "scores must be integers, not float64"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, message):
    with pytest.raises(InputError, match=message):
        unit(8).compute(scores)
