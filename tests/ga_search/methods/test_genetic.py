"""The genetic search against the proven optimum, over seeds, widths and table sizes."""

import numpy as np
import pytest

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.functions import PAPER
from ga_search.methods import genetic
from ga_search.problem import prepare
from sim.reference.code_format import CodeFormat


@pytest.mark.parametrize("entries", [8, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("function", PAPER)
def test_every_default_row_is_within_its_gap_of_the_optimum(function, entries):
    problem = prepare(FitConfig(function, entries))
    _, first = fit(problem)
    assert first["gap"] <= 1.02
    for seed in range(1, 10):
        _, row = fit(prepare(FitConfig(function, entries, seed=seed, certificate=False)))
        assert row["mse"] <= 1.05 * first["optimum"], seed


def test_nothing_of_the_dynamic_programme_is_read():
    source = open(genetic.__file__).read()  # noqa: SIM115, PTH123
    assert "optimal" not in source.replace("optimum", "")


@pytest.mark.parametrize("entries", [2, 3, 5, 32, 64])
def test_other_table_sizes_are_close_to_the_optimum(entries):
    _, row = fit(prepare(FitConfig("silu", entries, in_bits=6)))
    assert row["entries"] == entries and row["gap"] <= 1.1


def test_fixed_fraction_bits_are_kept():
    table, _ = fit(prepare(FitConfig("sigmoid", 8, slope_frac_bits=7, intercept_frac_bits=5)))
    assert (table.slope_frac_bits, table.intercept_frac_bits) == (7, 5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_search():
    one, again = (fit(prepare(FitConfig("mish", 16, seed=3, certificate=False)))[0] for _ in range(2))
    assert one.to_json() == again.to_json()
    grid = prepare(FitConfig("mish", 16)).grid
    first, other = (genetic.GeneticSearch(grid, 16, CodeFormat(), seed)._random_cuts((4,)) for seed in (3, 4))
    assert (first != other).any()


@pytest.mark.parametrize("slots", [1, 7, 1000])
def test_prices_from_a_cache_that_overflows_are_those_of_one_that_holds_all(monkeypatch, slots):
    problem = prepare(FitConfig("gelu", 8, in_bits=6, certificate=False))
    whole, _ = fit(problem)
    monkeypatch.setattr(genetic, "CACHE_SLOTS", slots)
    assert fit(problem)[0] == whole


def test_the_search_goes_downhill():
    problem = prepare(FitConfig("exp", 8))
    search = genetic.GeneticSearch(problem.grid, 8, CodeFormat(), 0)
    prices = genetic.SegmentPrices(problem.grid, np.array([[7, 7]]), CodeFormat())
    cuts, alive = search._random_cuts((1, 20)), np.array([0])
    before = search._total(prices, cuts, alive)
    after = search._total(prices, search._descend(prices, cuts, alive), alive)
    assert (after <= before).all() and (after < before).any()
    evolved, error = search._evolve(prices, cuts, alive, 5)
    assert error[0, 0] <= after.min() and (np.diff(evolved, axis=-1) >= 0).all()
