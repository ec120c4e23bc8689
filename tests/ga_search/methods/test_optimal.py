"""The dynamic programme against brute force, and against the figures it is known for."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ga_search.coefficients import CoefficientGrid
from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.functions import FUNCTIONS, Function
from ga_search.grid import Codes, build_grid
from ga_search.methods.optimal import OptimalSearch
from ga_search.problem import prepare
from sim.reference.code_format import CodeFormat
from sim.reference.pwl import frac_bits_range


def brute_force(grid, entries: int, numbers: CodeFormat, pair: tuple[int, int]) -> float:
    """The least error over every way to cut the points and every integer slope and intercept, by plain sums."""
    slopes, intercepts = (np.arange(low, high + 1) for low, high in (numbers.slope_range, numbers.intercept_range))
    k = slopes[:, None, None] * 2.0 ** -pair[0]
    b = intercepts[None, :, None] * 2.0 ** -pair[1]
    price = {}
    for i, j in itertools.combinations(range(grid.points + 1), 2):
        x, f, w = grid.x[i:j], grid.value[i:j], grid.weight[i:j]
        price[i, j] = float((w * (k * x + b - f) ** 2).sum(-1).min())
    best = np.inf
    for parts in range(1, entries + 1):
        for inner in itertools.combinations(range(1, grid.points), parts - 1):
            ends = (0, *inner, grid.points)
            best = min(best, sum(price[i, j] for i, j in itertools.pairwise(ends)))
    return best


def any_function(values: list[float], in_bits: int, scale: int, codes: int) -> Function:
    """A function given by its values at all codes, fitted on the first `codes` of them."""
    table, half = np.array(values), 1 << (in_bits - 1)
    low, high = -half * 2.0**-scale, (codes - 1 - half) * 2.0**-scale
    return Function("any", lambda x: table[(x * 2.0**scale).astype(int) + half], domain=(low, high))


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-3, 3), min_size=32, max_size=32),
    scale=st.integers(0, 4),
    codes=st.integers(4, 16),
    entries=st.integers(2, 4),
    slope_bits=st.integers(-1, 4),
    drop=st.integers(0, 2),
    numbers=st.sampled_from(
        [
            CodeFormat(5, coef_bits=5),
            CodeFormat(5, coef_bits=4, intercept_bits=6, slope_sign="unsigned"),
            CodeFormat(5, coef_bits=5, intercept_bits=3, slope_sign="negative", intercept_sign="negative"),
        ]
    ),
)
def test_equals_brute_force_on_5_bit_codes(values, scale, codes, entries, slope_bits, drop, numbers):
    grid = build_grid(any_function(values, 5, scale, codes), Codes(5, True, (scale,)), "inside")
    pair = (slope_bits, slope_bits - drop)
    found = OptimalSearch(grid, entries, numbers).at(*pair)
    assert found.error == pytest.approx(brute_force(grid, entries, numbers, pair), rel=1e-9, abs=1e-13)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_equals_brute_force_on_weighted_codes_of_two_scales(seed, entries):
    rng = np.random.default_rng(seed)
    function = Function("wave", lambda x: np.sin(3 * x) * x, domain=(-1, 1))
    histogram = np.where(rng.random((2, 32)) < 0.2, rng.random((2, 32)), 0.0)
    histogram[0, :3] = 1.0
    grid = build_grid(function, Codes(5, True, (2, 3)), "weights", histogram)
    assume(grid.points <= 22)  # brute force is exponential
    numbers = CodeFormat(5, coef_bits=5)
    found = OptimalSearch(grid, entries, numbers).at(2, 2)
    assert found.error == pytest.approx(brute_force(grid, entries, numbers, (2, 2)), rel=1e-9, abs=1e-13)


def test_very_uneven_weights_are_priced_right():
    values = np.zeros(256)
    values[[100, 110, 126, 127]] = 0.0, 5.0, 1.0, 2.0
    histogram = np.zeros(256)
    histogram[[100, 110, 126, 127]] = 1.0, 1.0, 1.0, 1e-9
    function = Function("uneven", lambda x: values[x.astype(int)], domain=(100.0, 127.0))
    grid = build_grid(function, Codes(8, False, (0,)), "weights", histogram)
    assert OptimalSearch(grid, 2, CodeFormat(8, coef_bits=8)).at(1, 0).error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("function", [np.zeros_like, lambda x: np.maximum(x, 0.0), lambda x: x, np.ones_like])
def test_functions_that_a_table_holds_exactly_have_error_0(function):
    grid = build_grid(Function("exact", function), Codes(8, True, tuple(range(7))))
    assert OptimalSearch(grid, 4, CodeFormat(8, coef_bits=8)).best().error < 1e-20


def test_two_calls_at_the_optimum_agree():
    grid = build_grid(FUNCTIONS["gelu"], Codes(6, True, (0, 1, 2)))
    search = OptimalSearch(grid, 5, CodeFormat(6, coef_bits=6))
    best = search.best()
    assert search.best(best).error == best.error
    assert search.at(best.slope_frac_bits, best.intercept_frac_bits).error == pytest.approx(best.error, rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=16, max_size=16), st.integers(2, 3), st.integers(0, 2))
def test_the_best_over_all_fraction_bits_equals_the_best_of_each(values, entries, scale):
    grid = build_grid(any_function(values, 4, scale, 8), Codes(4, True, (scale,)), "inside")
    low, high = frac_bits_range(4, 4)
    each = [
        brute_force(grid, entries, CodeFormat(4, coef_bits=4), (s, i))
        for s in range(low, high + 1)
        for i in range(low, s + 1)
    ]
    assert OptimalSearch(grid, entries, CodeFormat(4, coef_bits=4)).best().error == pytest.approx(
        min(each), rel=1e-9, abs=1e-13
    )


def test_the_brute_force_check_can_fail(monkeypatch):
    grid = build_grid(FUNCTIONS["gelu"], Codes(4, True, (1,)))
    expected = pytest.approx(brute_force(grid, 2, CodeFormat(4, coef_bits=4), (2, 2)), rel=1e-9)
    assert OptimalSearch(grid, 2, CodeFormat(4, coef_bits=4)).at(2, 2).error == expected

    def floored(self, shape, slope):
        """The intercept rounded down instead of to the nearest."""
        ideal = shape.mean_f - slope * self.slope_unit * shape.mean_x
        intercept = np.clip(np.floor(ideal / self.intercept_unit), self.low, self.high)
        off = intercept * self.intercept_unit - ideal
        spread = shape.spread * (slope * self.slope_unit - shape.slope) ** 2
        return intercept, shape.residual + spread + shape.weight * off * off

    monkeypatch.setattr(CoefficientGrid, "at", floored)
    assert OptimalSearch(grid, 2, CodeFormat(4, coef_bits=4)).at(2, 2).error != expected


# mean squared error at λ = μ = 6 with 8-bit coefficients, one table for scales 0..6, and EXP at 7
KNOWN = [
    ("gelu", 8, "full", (6, 6), 1.08e-5),
    ("gelu", 8, "inside", (6, 6), 2.31e-5),
    ("gelu", 16, "full", (6, 6), 1.45e-6),
    ("gelu", 16, "inside", (6, 6), 3.71e-6),
    ("exp", 8, "full", (6, 6), 7.56e-6),
    ("exp", 8, "full", (7, 7), 4.62e-6),
]


@pytest.mark.parametrize("function, entries, objective, pair, mse", KNOWN)
def test_gives_the_known_figures_to_three_digits(function, entries, objective, pair, mse):
    config = FitConfig(
        function, entries, "optimal", objective=objective, slope_frac_bits=pair[0], intercept_frac_bits=pair[1]
    )
    _, row = fit(prepare(config))
    assert float(f"{row['mse']:.2e}") == mse


def test_the_error_by_moments_is_the_error_of_the_finished_table():
    for name in ("gelu", "exp", "div"):
        for objective in ("full", "inside"):
            problem = prepare(FitConfig(name, 8, "optimal", objective=objective))
            _, row = fit(problem)
            solution = OptimalSearch(problem.grid, 8, CodeFormat()).best()
            assert solution.error == pytest.approx(row["mse"], rel=1e-6)


def test_more_entries_never_cost_more_and_surplus_entries_are_harmless():
    errors = []
    for entries in (2, 3, 5, 9, 17, 33, 64):
        _, row = fit(prepare(FitConfig("tanh", entries, "optimal", in_bits=6)))
        errors.append(row["mse"])
    assert errors == sorted(errors, reverse=True)
    config = FitConfig("tanh", 64, "optimal", scales=(0,), in_bits=4, coef_bits=8, out_bits=8)
    table, row = fit(prepare(config))  # 64 entries for 16 codes
    assert table.entries == 64 and row["mse"] < 1e-6
