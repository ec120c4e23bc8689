"""Whole fits: exactness of what is reported, other widths and domains, every method."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.functions import FUNCTIONS, PAPER
from ga_search.grid import Codes
from ga_search.metrics import table_errors
from ga_search.problem import load_histogram, prepare
from sim.reference import InputError, Normaliser

from ..sim.reference.test_pwl import assert_equals_definition


@pytest.mark.parametrize("entries", [8, 16])
@pytest.mark.parametrize("function", PAPER)
def test_every_default_table_equals_the_definition_on_all_codes_of_all_scales(function, entries):
    table, _ = fit(prepare(FitConfig(function, entries, certificate=False)))
    for scale in range(8):
        assert_equals_definition(table, scale, table.lower(scale).codes())


@pytest.mark.parametrize("objective", ["full", "inside"])
@pytest.mark.parametrize("function", ["gelu", "exp", "div"])
def test_the_reported_errors_are_the_means_over_codes_and_scales(function, objective):
    problem = prepare(FitConfig(function, 8, objective=objective, certificate=False))
    table, row = fit(problem)
    full, inside = [], []
    for scale in problem.codes.scales:
        squares = {}
        for q in range(-128, 128):  # written out, one code at a time
            x = q / 2**scale
            if not problem.function.defined(np.array([x]))[0]:
                continue
            got = table.lower(scale).accumulate(np.array([q]))[0] / 2 ** (table.slope_frac_bits + scale)
            squares[x] = (got - problem.function.evaluate(np.array([x]))[0]) ** 2
        within = [v for x, v in squares.items() if problem.function.inside(np.array([x]))[0]]
        full.append(sum(squares.values()) / len(squares))
        inside.append(sum(within) / len(within))
        assert row["mse_by_scale"][str(scale)] == pytest.approx(full[-1], rel=1e-12)
        assert row["mse_inside_by_scale"][str(scale)] == pytest.approx(inside[-1], rel=1e-12)
    assert row["mse_full"] == pytest.approx(np.mean(full), rel=1e-12)
    assert row["mse_inside"] == pytest.approx(np.mean(inside), rel=1e-12)
    assert row["mse"] == row[f"mse_{objective}"]


def test_different_tables_of_one_function_have_different_names(tmp_path):
    np.savez(tmp_path / "h.npz", histogram=np.ones(256))
    changes: list[dict[str, Any]] = [
        {}, {"entries": 16}, {"method": "uniform"}, {"domain": (-2.0, 2.0)}, {"in_bits": 6}, {"coef_bits": 12},
        {"in_bits": 6, "coef_bits": 6, "out_bits": 6}, {"in_signed": False}, {"out_signed": False},
        {"scales": (2, 3)}, {"slope_frac_bits": 5, "intercept_frac_bits": 4},
        {"objective": "inside"}, {"objective": "weights", "weights": str(tmp_path / "h.npz")},
    ]  # fmt: skip
    names = [FitConfig(**{"function": "silu", **change}).name for change in changes]
    assert len(set(names)) == len(names) and names[0] == "silu-8-genetic" and names[6] == "silu-8-genetic-6bit"


def test_an_optimum_at_fixed_fraction_bits_is_measured_against_the_one_at_any():
    _, row = fit(prepare(FitConfig("exp", 8, "optimal", slope_frac_bits=6, intercept_frac_bits=6)))
    assert row["gap"] == pytest.approx(7.56e-6 / 4.62e-6, rel=2e-3) and row["optimum"] < row["mse"]
    _, row = fit(prepare(FitConfig("exp", 8, "optimal")))
    assert row["gap"] == 1.0


def test_a_table_beyond_the_default_units_shifts_says_so():
    _, row = fit(prepare(FitConfig("sigmoid", 8, slope_frac_bits=9, intercept_frac_bits=6, certificate=False)))
    assert "intercept shift of up to 9" in row["notes"][0]


def test_negative_domains_of_normalised_functions_work():
    _, row = fit(prepare(FitConfig("div", 8, domain=(-4.0, -1.0))))
    assert row["scales"] == [5] and row["gap"] <= 1.05


def test_a_single_weighted_code_is_fitted_exactly_as_well_as_can_be(tmp_path):
    histogram = np.zeros(256)
    histogram[0] = 1.0
    np.savez(tmp_path / "h.npz", histogram=histogram)
    config = FitConfig("exp", 8, objective="weights", weights=str(tmp_path / "h.npz"))
    assert fit(prepare(config))[1]["gap"] <= 1.02


def test_ulp_and_correct_rounding_are_those_of_the_output_codes():
    problem = prepare(FitConfig("tanh", 8, certificate=False))
    table, row = fit(problem)
    assert row["output_scale"] == 6  # tanh(4) * 128 is beyond 127
    worst, shares = 0.0, []
    for scale in problem.codes.scales:
        right = []
        for q in range(max(-128, -4 * 2**scale), min(127, 4 * 2**scale) + 1):
            y = int(table.lower(scale, 6).output(np.array([q]))[0])
            exact = Fraction(float(np.tanh(q / 2**scale))) * 64
            worst = max(worst, abs(float(y - exact)))
            right.append(y == (exact + Fraction(1, 2)).__floor__())
        shares.append(np.mean(right))
    assert row["max_ulp"] == pytest.approx(worst) and row["correctly_rounded"] == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("bits, scales", [(4, (0, 1, 2)), (6, tuple(range(5))), (10, tuple(range(2, 9)))])
def test_other_widths_work_and_improve_with_bits(bits, scales):
    problem = prepare(FitConfig("gelu", 8, in_bits=bits, coef_bits=bits, out_bits=bits))
    table, row = fit(problem)
    assert (table.in_bits, table.coef_bits, table.out_bits, table.scales) == (bits, bits, bits, scales)
    assert (row["gap"] is None) == (bits > 8) and (row["gap"] or 1.0) <= 1.05
    assert row["mse"] < {4: 2e-3, 6: 2e-4, 10: 1.1e-5}[bits]


@pytest.mark.parametrize("bits", [16, 32])
def test_wide_codes_search_a_sampled_grid_and_say_so(bits):
    table, row = fit(prepare(FitConfig("gelu", 8, in_bits=bits, coef_bits=bits, out_bits=bits)))
    assert row["gap"] is None and row["optimum"] is None and any("sampled grid" in note for note in row["notes"])
    assert any("every 65536th code" in note for note in row["notes"]) == (bits == 32)
    assert row["mse_full"] < 1.02e-5 and table.lower(bits - 8).acc_bits > bits


def test_wider_coefficients_alone_help():
    errors = [
        fit(prepare(FitConfig("div", 8, coef_bits=b, certificate=False)))[1]["mse"] for b in (6, 8, 12)
    ]  # fmt: skip
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.7 * errors[1]


def test_unsigned_codes_other_scales_and_domains():
    config = FitConfig("sqrt", 8, in_signed=False, out_signed=False, scales=(2, 3, 4), domain=(1.0, 16.0))
    table, row = fit(prepare(config))
    assert table.lower(3).codes().max() == 255 and row["gap"] <= 1.02 and row["output_scale"] == 5
    config = FitConfig("gelu", 8, domain=(-2.0, 6.0), scales=(0, 1, 2, 3), objective="inside")
    assert fit(prepare(config))[1]["gap"] <= 1.02


@pytest.mark.parametrize(
    "function, domain, mse", [("div", (2.0, 4.0), 2.5e-7), ("rsqrt", (1.0, 4.0), 1.5e-6)]
)  # fmt: skip
def test_the_networks_tables_are_far_better_and_feed_the_normaliser(function, domain, mse):
    table, row = fit(prepare(FitConfig(function, 8, domain=domain)))
    assert row["mse"] < mse and row["gap"] <= 1.02
    unit = Normaliser(table, 5, 16, 8)
    v = np.arange(1, 1 << 15)
    acc, exponent = unit.evaluate(v)
    got = acc * 2.0 ** (exponent - table.slope_frac_bits - 5)
    exact = FUNCTIONS[function].evaluate(v / 256)
    assert np.abs(got / exact - 1).max() < 0.02


def test_a_users_function_is_measured_inside_where_it_is_not_finite():
    _, row = fit(prepare(FitConfig("numpy:log2", 8, domain=(0.5, 3.0))))
    assert row["mse_full"] == row["mse_inside"] and "not finite" in row["notes"][0] and row["gap"] <= 1.05
    _, row = fit(prepare(FitConfig("numpy:arctan", 8, domain=(-3.0, 3.0))))
    assert row["mse_full"] != row["mse_inside"] and row["notes"] == []


def test_weights_pull_the_fit_to_where_the_activations_are(tmp_path):
    codes = np.arange(-128, 128)
    path = tmp_path / "h.npz"
    np.savez(path, histogram=np.exp(-((codes + 40) ** 2) / 50))
    config: dict[str, Any] = dict(function="gelu", entries=8, scales=(5,))
    weighted, row = fit(prepare(FitConfig(**config, objective="weights", weights=str(path))))
    plain, _ = fit(prepare(FitConfig(**config)))
    problem = prepare(FitConfig(**config, objective="weights", weights=str(path)))
    plain_error = table_errors(plain, problem.function, problem.codes, "weights", problem.histogram).mse
    assert row["mse"] < 0.5 * plain_error and row["gap"] <= 1.02
    assert weighted.provenance["weights_sha256"] and weighted.objective == "weights"


@pytest.mark.parametrize(
    "array, message",
    [
        (np.ones(255), "histogram must have 256 counts"),
        (np.ones((2, 256)), "histogram must have 256 counts"),
        (np.zeros(256), "finite, non-negative and not all zero"),
        (-np.ones(256), "finite, non-negative and not all zero"),
        (np.full(256, np.nan), "finite, non-negative and not all zero"),
        (np.full(256, "a"), "must hold real numbers"),
    ],
)
def test_a_bad_histogram_is_one_line(array, message, tmp_path):
    path = tmp_path / "h.npz"
    np.savez(path, histogram=array)
    with pytest.raises(InputError, match=message):
        load_histogram(str(path), Codes(8, True, (0, 1, 2)))


def test_a_histogram_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "h.npz").write_bytes(b"PK\x03\x04 damaged")
    np.savez(tmp_path / "other.npz", other=np.ones(256))
    for name in ("h.npz", "other.npz", "missing.npz"):
        with pytest.raises(InputError) as error:
            load_histogram(str(tmp_path / name), Codes(8, True, (0,)))
        assert "\n" not in str(error.value) and name in str(error.value)


BASELINES = ["uniform", "gqa-lut", "nn-lut"]


@pytest.mark.parametrize("method", BASELINES)
def test_the_genetic_fit_beats_every_baseline(method):
    config: dict[str, Any] = dict(function="hswish", entries=8, certificate=False, restarts=2)
    assert fit(prepare(FitConfig(**config)))[1]["mse"] < fit(prepare(FitConfig(**config, method=method)))[1]["mse"]


def test_one_entry_configurations_and_ranges_are_refused_early():
    cases: list[tuple[dict[str, Any], str]] = [
        ({"entries": 1}, "entries must be in 2..64, not 1"),
        ({"entries": 65}, "entries must be in 2..64, not 65"),
        ({"in_bits": 3}, "in_bits must be in 4..32, not 3"),
        ({"scales": (8,)}, "scales must be in 0..7, not 8"),
        ({"method": "magic"}, "method must be one of"),
        ({"objective": "best"}, "objective must be one of"),
        ({"objective": "weights"}, "--weights FILE.npz and --objective weights must be given together"),
        ({"method": "optimal", "in_bits": 10}, "method optimal needs in_bits and coef_bits of at most 8"),
        ({"slope_frac_bits": 6}, "slope_frac_bits and intercept_frac_bits must be given together"),
        ({"slope_frac_bits": 5, "intercept_frac_bits": 6}, "intercept_frac_bits must be at most"),
        ({"seed": -1}, "seed must be in 0.."),
        ({"symmetry": "odd", "method": "uniform"}, "symmetry needs method genetic or optimal, not uniform"),
        (
            {"intercept_bits": 5, "method": "nn-lut"},
            "intercept_bits needs method genetic, optimal or uniform, not nn-lut",
        ),
        ({"intercept_bits": 13, "method": "optimal"}, "intercept_bits of method optimal must be in 2..12, not 13"),
    ]
    for changes, message in cases:
        with pytest.raises(InputError) as error:
            FitConfig("gelu", **changes)
        assert str(error.value).startswith(message)
    with pytest.raises(InputError, match=r"no code at scales 7\.\.7"):
        prepare(FitConfig("gelu", domain=(2.0, 3.0), scales=(7,), objective="inside"))


@pytest.mark.parametrize("method", ["optimal", "genetic"])
def test_an_exact_table_lowers_at_every_scale(method):
    table, row = fit(prepare(FitConfig("numpy:abs", 4, method, domain=(-4.0, 4.0), certificate=False)))
    assert row["mse"] == 0.0
    assert all(table.lower(scale, row["output_scale"]) for scale in table.scales)


@pytest.mark.parametrize("method", ["optimal", "genetic", "uniform"])
@pytest.mark.parametrize("function", ["numpy:ones_like", "numpy:zeros_like"])
def test_a_constant_needs_no_more_than_the_default_intercept_shift(function, method):
    table, row = fit(prepare(FitConfig(function, 4, method, domain=(-4.0, 4.0), certificate=False)))
    assert row["mse"] == 0.0 and not row["notes"]
    assert max(table.lower(scale, row["output_scale"]).intercept_shift for scale in table.scales) <= 7


def test_figures_that_mislead_are_noted():
    notes = [
        fit(prepare(FitConfig(*case, domain=domain, certificate=False)))[1]["notes"]
        for case, domain in ((("numpy:square", 8), (-4.0, 4.0)), (("gelu", 8), (-1e300, 1e300)))
    ]
    assert any("--objective inside" in note for note in notes[0])
    assert any("spans only" in note for note in notes[1])


def test_a_proof_beyond_its_bound_leaves_the_gap_open(monkeypatch):
    monkeypatch.setattr("ga_search.fit.CERTIFICATE_WORK", 10)
    _, row = fit(prepare(FitConfig("gelu", 4, in_bits=6)))
    assert row["gap"] is None and any("no gap: the proof" in note for note in row["notes"])
