"""The suites hold what the regression claims, and every set of the quick one passes in both simulators."""

import dataclasses

import numpy as np
import pytest

import ga_search.cli
from rtl.units import UNITS, simulated
from sim.cosim import regress, simulators
from sim.cosim import run as runner
from sim.cosim.dut import device
from sim.cosim.options import BUILD, BenchOptions
from sim.reference import InputError, floating
from sim.reference.arithmetic import code_range
from sim.reference.floating import FORMATS, FP16
from sim.vectors.floating import mac_set, random_float_pwl_set
from sim.vectors.pwl import random_set
from sim.vectors.suites import EIGHT_BIT, OTHER_WIDTHS, fitted_suite, random_suite
from tests.sim.tables import FUNCTIONS, secant_table

QUICK = {vectors.name: vectors for vectors in random_suite(seed=1, quick=True)}


# long to compile; narrower ones have the same steps, and `make regress` runs all of them
LONG = (
    *("random-int32-8-acc", "random-int32-8", "random-fp-pwl-fp32-8-7", "array-pwl"),
    *("array-w4u-a8-two-pass-g64", "random-softmax-40"),
)
COMPILED = ("random-int8-8", "random-normaliser-div-1", "array-8x4-1x1x1", "random-rope")
JOBS = [
    pytest.param(name, simulator, marks=pytest.mark.slow if (simulator == "verilator" and name not in COMPILED)
                 or name in LONG else ())
    for name in QUICK for simulator in simulators.SIMULATORS
]  # fmt: skip


@pytest.mark.parametrize("name, simulator", JOBS)
def test_every_quick_set_passes_flowing_and_stalled(name, simulator):
    vectors = QUICK[name]
    rows = regress.run_job(regress.Job(vectors, simulator, False), seed=1, folder=BUILD, waves=None)
    assert [row["bench"] for row in rows] == ["flow", "stall"]
    for row in rows:
        assert regress.passed(row), row
        assert row["vectors"] == vectors.size


@pytest.mark.parametrize("unit", ["normaliser", "requant"])
def test_the_protocol_holds_on_the_other_units(unit):
    vectors = next(v for v in QUICK.values() if v.unit == unit)
    outcome = runner.run_protocol(vectors, BenchOptions("icarus"), seed=4)
    assert outcome.passed and outcome.vectors > 500, outcome


@pytest.mark.parametrize(
    "vectors",
    [
        random_float_pwl_set("small-fp-pwl", FP16, 4, tables=2, entries=4, each=100, stages=3),
        mac_set("small-fp-mac", FP16, FP16, 4, 1_500, stages=3),
    ],
    ids=lambda vectors: vectors.unit,
)
def test_the_protocol_holds_on_the_floating_point_units(vectors):
    outcome = runner.run_protocol(vectors, BenchOptions("icarus"), seed=4)
    assert outcome.passed and outcome.vectors > 500, outcome


def test_a_wrong_rounding_constant_in_the_requantiser_is_found(monkeypatch):
    monkeypatch.setattr("rtl.requant.shift_right", lambda value, shift: (value >> shift) << 1)  # no round bit
    outcome = runner.run_bulk(QUICK["random-requant-int8"], BenchOptions("icarus"))
    assert outcome.mismatches and outcome.first is not None
    assert outcome.first["got"] == outcome.first["expected"] - 1
    assert set(outcome.first["input"]) == {"value", "multiplier", "shift"}


def test_a_flipped_bit_of_a_normaliser_s_table_is_found():
    vectors = QUICK["random-normaliser-rsqrt-2"]
    intercepts = vectors.arrays["intercepts"] ^ 1
    wrong = dataclasses.replace(vectors, arrays={**vectors.arrays, "intercepts": intercepts})
    outcome = runner.run_bulk(wrong, BenchOptions("icarus"))
    assert outcome.mismatches and outcome.first is not None
    first = outcome.first
    assert set(first["got"]) == {"acc", "exponent"} and first["got"] != first["expected"]
    code, _ = UNITS["normaliser"].configuration(vectors.configuration).reference.normalise(np.array([first["input"]]))
    assert first["code"] == code[0]
    assert first["segment"] == np.searchsorted(vectors.arrays["thresholds"][0], code[0], side="right")


def test_the_quick_suite_has_every_unit_output_sign_storage_and_several_stage_counts():
    configurations = [v.configuration for v in QUICK.values()]
    assert {v.unit for v in QUICK.values()} == set(simulated())
    pwl = [v.configuration for v in QUICK.values() if v.unit == "pwl"]
    assert {c["in_bits"] for c in pwl} == {4, 8, 16, 32}
    assert {c["output"] for c in pwl} == {"code", "acc"}
    assert {c["in_signed"] for c in pwl} == {True, False}
    assert "latches" in {c.get("storage") for c in configurations}
    assert len({str(c.get("stages")) for c in configurations}) > 3


def test_the_full_suite_has_two_hundred_tables_at_every_code_and_a_hundred_thousand_of_the_other_widths():
    assert sum(tables for _, tables, _, _ in EIGHT_BIT) == 200
    sets = {v.name: v for v in random_suite(seed=0, units=("pwl",))}
    for name, tables, _, _ in EIGHT_BIT:
        assert sets[f"random-{name}"].size == tables * 8 * 256
    for name, _, _ in OTHER_WIDTHS:
        assert sets[f"random-{name}"].size >= 100_000
    assert sets["random-hard-wired"].configuration["storage"] == "constants"
    eight = [sets[f"random-{name}"].configuration for name, *_ in EIGHT_BIT]
    assert {c.get("stages", 3) for c in eight if c["output"] == "code"} == set(range(1, 8))
    assert {(c["in_signed"], c["out_signed"]) for c in eight} == {(a, b) for a in (True, False) for b in (True, False)}
    assert {c.get("storage", "flops") for c in eight} == {"flops", "latches"}
    assert {c["output"] for c in eight} == {"code", "acc"}


@pytest.mark.parametrize("name", ["int8-8-to-unsigned", "int8-12-from-unsigned"])
def test_units_of_mixed_signs_equal_the_specification(name):
    _, _, entries, fields = next(row for row in EIGHT_BIT if row[0] == name)
    vectors = random_set(name, 1, 2, entries, **fields)
    expected = vectors.arrays["expected"]
    low, high = code_range(8, fields.get("out_signed", True))
    assert (expected.min(), expected.max()) == (low, high) and len(np.unique(expected)) > 100
    outcome = runner.run_bulk(vectors, BenchOptions("icarus"))
    assert outcome.passed and outcome.vectors == vectors.size == 2 * 8 * 256


def test_the_full_normaliser_sets_have_every_16_bit_input_and_the_requantiser_a_hundred_thousand():
    for vectors in random_suite(seed=0, units=("normaliser", "requant")):
        if vectors.unit == "normaliser":
            assert np.array_equal(vectors.arrays["inputs"], np.arange(-(1 << 15), 1 << 15))
        else:
            assert vectors.size >= 100_000


def test_requantiser_vectors_round_saturate_and_meet_every_corner():
    vectors = QUICK["random-requant-int8"]
    expected = vectors.arrays["expected"]
    assert 0.05 < np.isin(expected, (-128, 127)).mean() < 0.8
    operands = set(
        zip(*(vectors.arrays[f"inputs.{f}"].tolist() for f in ("value", "multiplier", "shift")), strict=True)
    )
    assert {(-(1 << 31), (1 << 16) - 1, 0), ((1 << 31) - 1, (1 << 16) - 1, 47), (-(1 << 31), 1, 47)} <= operands
    assert {-128, 127, 0} <= set(vectors.arrays["zero_point"].tolist())


@pytest.mark.parametrize("value", [[1], None, "7", {}], ids=repr)
def test_a_parameter_of_another_type_is_one_line(value):
    for vectors in (v for v in QUICK.values() if v.unit != "array"):
        key = next(key for key, has in vectors.configuration.items() if type(has) is int)
        wrong = dataclasses.replace(vectors, configuration={**vectors.configuration, key: value})
        with pytest.raises(InputError) as error:
            device(wrong)
        assert str(error.value).startswith(f"{vectors.name}: ") and "\n" not in str(error.value)


def test_a_folder_of_tables_gives_every_code_of_every_scale_and_every_input_of_a_normaliser(tmp_path):
    for function in FUNCTIONS:
        secant_table(function).save(tmp_path / f"{function}-8.json")
    secant_table("div", 16).save(tmp_path / "network/div-16.json")
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "gelu-8.row.json").write_text("{}")
    sets = {v.name: v for v in fitted_suite(tmp_path, ("pwl", "normaliser"))}
    assert len(sets) == 5 + 3 * 2 and "fitted-network-div-16" in sets
    assert sets["fitted-gelu-8"].size == 8 * 256 == sets["fitted-div-8"].size
    for function in ("div", "rsqrt"):
        assert sets[f"fitted-normaliser-{function}-8"].size == 1 << 16
        assert len(sets[f"fitted-normaliser-{function}-8-acc"].columns("expected")) == 2
    assert {v.unit for v in fitted_suite(tmp_path, ("pwl",))} == {"pwl"}
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InputError, match=r"broken\.json: not valid JSON"):
        fitted_suite(tmp_path)
    with pytest.raises(InputError, match="must hold table files, but there are none"):
        fitted_suite(tmp_path / "none")


@pytest.mark.slow
def test_a_folder_of_tables_gives_the_floating_point_unit_every_code_of_every_scale_as_a_number(tmp_path):
    secant_table("gelu").save(tmp_path / "gelu-8.json")
    secant_table("rsqrt").save(tmp_path / "rsqrt-8.json")
    sets = {v.name: v for v in fitted_suite(tmp_path, ("fp-pwl",))}
    assert set(sets) == {f"fitted-fp-pwl-{n}-{f}-8" for n in FORMATS for f in ("gelu", "rsqrt")}
    numbers = {code * 2.0**-scale for code in range(-128, 128) for scale in range(8)}
    for name, vectors in sets.items():
        number = FORMATS["fp16" if "fp16" in name else "fp32"]
        with np.errstate(invalid="ignore"):
            inputs = floating.value(number, vectors.arrays["inputs"])
        assert numbers <= set(inputs.tolist()) and np.isnan(inputs).any() and np.isinf(inputs).any()
    for name in FORMATS:
        vectors = sets[f"fitted-fp-pwl-{name}-gelu-8"]
        outcome = runner.run_bulk(vectors, BenchOptions("icarus"))
        assert outcome.passed and outcome.vectors == vectors.size, outcome


def test_freshly_fitted_tables_pass_at_every_code_and_scale(tmp_path):
    fit = ["--entries", "8", "--no-certificate", "--no-plots", "-o", str(tmp_path)]
    assert ga_search.cli.main(["gelu", *fit]) == 0
    assert ga_search.cli.main(["div", "--domain", "2", "4", *fit]) == 0
    sets = fitted_suite(tmp_path, ("pwl",))
    assert [v.size for v in sets] == [8 * 256] * 2
    for vectors in sets:
        outcome = runner.run_bulk(vectors, BenchOptions("icarus"))
        assert outcome.passed and outcome.vectors == vectors.size, outcome


@pytest.mark.slow
def test_every_full_random_set_passes_in_verilator():
    for vectors in random_suite(seed=3):
        for row in regress.run_job(regress.Job(vectors, "verilator", True), 3, BUILD, None):
            assert regress.passed(row), row


def test_a_hard_wired_unit_equals_the_specification():
    vectors = next(v for v in random_suite(seed=2, units=("pwl",)) if v.name == "random-hard-wired")
    outcome = runner.run_bulk(vectors, BenchOptions("icarus"))
    assert outcome.passed and outcome.vectors == vectors.size
