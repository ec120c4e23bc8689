"""Fits whose slopes are sums of two powers of two: exact, and kept to by every method."""

import itertools

import numpy as np
import pytest

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.grid import Codes, build_grid
from ga_search.methods.optimal import OptimalSearch
from ga_search.problem import prepare
from ga_search.slopes import FitFormat, nearest_slope, slope_codes
from sim.reference import InputError
from sim.reference.two_powers import two_powers
from tests.ga_search.methods.test_optimal import any_function

NUMBERS = FitFormat(5, coef_bits=7, intercept_bits=4, slope_form="two-powers")


@pytest.mark.parametrize("seed", range(6))
def test_the_dynamic_programme_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    grid = build_grid(any_function(rng.uniform(-3, 3, 32).tolist(), 5, 2, 9), Codes(5, True, (2,)), "inside")
    numbers = (NUMBERS, FitFormat(5, coef_bits=6, slope_sign="unsigned", slope_form="two-powers"))[seed % 2]
    pair = (4, 3)
    slopes = slope_codes(numbers)
    assert slopes is not None and len(slopes) < 1 << numbers.coef_bits
    k = slopes[:, None, None] * 2.0 ** -pair[0]
    b = np.arange(numbers.intercept_range[0], numbers.intercept_range[1] + 1)[None, :, None] * 2.0 ** -pair[1]
    price = {
        (i, j): (grid.weight[i:j] * (k * grid.x[i:j] + b - grid.value[i:j]) ** 2).sum(-1).min()
        for i, j in itertools.combinations(range(grid.points + 1), 2)
    }
    ends = ((0, *inner, grid.points) for inner in itertools.combinations(range(1, grid.points), 2))
    best = min(sum(price[pair] for pair in itertools.pairwise(cut)) for cut in ends)
    found = OptimalSearch(grid, 3, numbers).at(*pair)
    assert found.error == pytest.approx(best, rel=1e-9, abs=1e-13) and set(found.slopes) <= set(slopes)


@pytest.mark.parametrize("method", ["optimal", "genetic", "uniform"])
def test_every_method_keeps_to_the_form_and_none_beats_the_optimum(method):
    options = {"scales": (3,), "in_bits": 6, "coef_bits": 6}
    table, row = fit(prepare(FitConfig("gelu", 4, method, slope_form="two-powers", **options)))
    assert set(table.slopes) <= set(two_powers(6, -32, 31)) and row["slope_form"] == "two-powers"
    assert row["gap"] >= 1.0 and (method == "uniform" or row["gap"] <= 1.05)
    free = fit(prepare(FitConfig("gelu", 4, "optimal", **options)))[1]
    assert row["mse"] >= free["mse"]


def test_the_nearest_slope_is_of_the_list_or_of_the_range():
    ideal = np.array([-500.0, -0.4, 10.9, 11.1, 500.0])
    assert nearest_slope(ideal, NUMBERS).tolist() == [-64, 0, 10, 12, 63]
    assert nearest_slope(ideal, FitFormat(5, coef_bits=7)).tolist() == [-64, 0, 11, 11, 63]


def test_a_form_is_named_in_files_alone_where_it_is_not_any_and_another_one_is_a_line():
    assert "slope_form" not in FitConfig("gelu").to_dict()
    config = FitConfig("gelu", slope_form="two-powers")
    assert FitConfig.from_dict(config.to_dict()) == config and config.name == "gelu-8-genetic-two-powers-slopes"
    with pytest.raises(InputError, match="slope_form must be one of any, two-powers, not 'csd'"):
        FitConfig("gelu", slope_form="csd")
    with pytest.raises(InputError, match="slope_form needs method genetic, optimal or uniform, not nn-lut"):
        FitConfig("gelu", method="nn-lut", slope_form="two-powers")
