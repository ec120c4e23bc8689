"""Fits of half a function: their errors are those of the whole, and the optimum of the half is that of the whole."""

from typing import Any

import numpy as np
import pytest

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.functions import FUNCTIONS
from ga_search.problem import prepare
from sim.reference import InputError

CASES = {"gelu": "gated", "tanh": "odd", "sigmoid": "complement", "exp": "gated"}


@pytest.mark.parametrize("method", ["optimal", "genetic"])
@pytest.mark.parametrize("function", CASES)
def test_the_error_is_that_of_every_code_by_the_table_s_definition(function, method):
    options: dict[str, Any] = dict(
        symmetry=CASES[function], coef_bits=6, intercept_bits=7, scales=(3, 4), certificate=False
    )
    table, row = fit(prepare(FitConfig(function, 3, method, **options)))
    known, errors = FUNCTIONS[function], []
    for scale in table.scales:
        q = np.arange(-128, 128)
        q = q[known.defined(q * 2.0**-scale)]
        y = table.define(q, scale).astype(float) * 2.0 ** -(table.slope_frac_bits + scale)
        errors.append(np.mean((y - known.evaluate(q * 2.0**-scale)) ** 2))
    assert row["mse_full"] == pytest.approx(np.mean(errors), rel=1e-12)


def test_a_folded_table_of_half_the_entries_is_no_worse_than_a_whole_one():
    half = fit(prepare(FitConfig("tanh", 3, "optimal", symmetry="odd", scales=(4,), certificate=False)))[1]
    whole = fit(prepare(FitConfig("tanh", 5, "optimal", scales=(4,), certificate=False)))[1]
    assert half["mse"] <= whole["mse"] * (1 + 1e-9)


def test_both_is_the_mean_of_the_two_errors():
    row = fit(prepare(FitConfig("gelu", 4, "optimal", objective="both", scales=(3, 4), certificate=False)))[1]
    assert row["mse"] == pytest.approx((row["mse_full"] + row["mse_inside"]) / 2, rel=1e-12)


def test_a_function_without_the_symmetry_is_refused_with_an_x_that_shows_it():
    with pytest.raises(InputError, match=r"symmetry must be one of mish, which is not gated at x = "):
        prepare(FitConfig("mish", symmetry="gated"))


def test_fields_at_their_default_leave_the_plan_as_it_was():
    assert not {"intercept_bits", "slope_sign", "intercept_sign", "symmetry"} & set(FitConfig("gelu").to_dict())
    config = FitConfig("gelu", symmetry="gated", intercept_bits=5, slope_sign="unsigned")
    assert FitConfig.from_dict(config.to_dict()) == config
    assert config.name == "gelu-8-genetic-5bit-intercepts-unsigned-slopes-gated"
