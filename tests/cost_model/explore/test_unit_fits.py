"""The search's fits: narrow enough, and none that a narrower one could replace."""

from dataclasses import replace

import numpy as np
import pytest

from cost_model.explore.budget import Budget
from cost_model.explore.unit_fits import UnitSpace, accurate, fitted, narrowest, sign, symmetries
from ga_search import FitConfig
from ga_search.functions import FUNCTIONS
from sim.reference import InputError

SPACE = UnitSpace((2, 3, 4), (4, 5, 6), (3, 4, 5), ("odd",), scales=(5,), sizes=1)
BUDGET = Budget(mse_full=2e-4)


def test_every_table_found_is_accurate_and_none_narrower_is(tmp_path):
    found = narrowest("tanh", BUDGET, SPACE, lambda text: None, tmp_path)
    assert found
    by_sign: dict[tuple[str, str], set[tuple[int, int]]] = {}
    for one in found:
        assert BUDGET.met(one.figures) and one.table.entries == one.config.entries
        key = one.table.slope_sign, one.table.intercept_sign
        by_sign.setdefault(key, set()).add((one.table.coef_bits, one.table.code_format.intercept_width))
    for (slope_sign, intercept_sign), widths in by_sign.items():
        base = replace(found[0].config, slope_sign=slope_sign, intercept_sign=intercept_sign)
        good = {
            (slope, intercept)
            for slope in SPACE.slope_bits
            for intercept in SPACE.intercept_bits
            if accurate(replace(base, coef_bits=slope, intercept_bits=intercept), BUDGET, SPACE.objectives, tmp_path)
        }
        least = {w for w in good if not any(v != w and v[0] <= w[0] and v[1] <= w[1] for v in good)}
        assert least <= widths <= good


def test_a_search_that_is_run_again_takes_its_fits_from_the_cache(tmp_path, monkeypatch):
    first = narrowest("tanh", BUDGET, SPACE, lambda text: None, tmp_path)
    assert first
    monkeypatch.setattr("cost_model.explore.unit_fits.fit", lambda problem: pytest.fail("fitted again"))
    again = narrowest("tanh", BUDGET, SPACE, lambda text: None, tmp_path)
    assert [one.table for one in again] == [one.table for one in first]


@pytest.mark.parametrize(
    ("function", "known"),
    [("gelu", ["none", "gated"]), ("hswish", ["none", "gated"]), ("tanh", ["none", "odd"]), ("mish", ["none"]),
     ("sigmoid", ["none", "complement"]), ("exp", ["none", "odd", "complement", "gated"])],
)  # fmt: skip
def test_a_function_is_folded_only_in_the_ways_that_it_has(function, known):
    assert symmetries(function, UnitSpace()) == known


def test_a_symmetry_that_no_function_has_is_one_line():
    with pytest.raises(InputError, match=r"symmetry must be one of gelu, which is not odd at x = -?[\d.]+"):
        symmetries("gelu", UnitSpace(symmetries=("odd",)))


def test_the_sign_of_coefficients_leaves_out_small_ones():
    assert [sign(v) for v in ([1, 70], [-2, 70], [-40, 70], [0, 0], [-15, 2])] == [
        "unsigned", "unsigned", "signed", "unsigned", "negative",
    ]  # fmt: skip


def test_the_rounded_error_is_that_of_the_output_codes(tmp_path):
    one = fitted(FitConfig("gelu", 4, "optimal", scales=(4,), symmetry="gated", certificate=False), tmp_path)
    scale = one.figures["output_scale"]
    q = np.arange(-64, 65)
    y = one.table.define(q, 4, scale).astype(float) * 2.0**-scale
    error = np.mean((y - FUNCTIONS["gelu"].evaluate(q / 16)) ** 2)
    assert one.figures["mse_rounded"] == pytest.approx(error, rel=1e-12)
    assert one.figures["mse_rounded"] > one.figures["mse_inside"]
