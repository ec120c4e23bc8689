"""`python -m sim check`: the emitted file itself is judged, and only the file that the description describes."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import rtl.cli
from sim import cli
from sim.common.files import description_sha256
from sim.cosim import run as runner
from sim.cosim.check import Given, check_set
from sim.cosim.options import BenchOptions
from sim.reference import PwlTable
from tests.sim.tables import secant_table


@pytest.fixture
def emitted(tmp_path) -> tuple[Path, Path]:
    table = secant_table("gelu").save(tmp_path / "gelu.json")
    file = tmp_path / "gelu8.v"
    assert rtl.cli.main(["pwl", "--table", str(table), "-o", str(file)]) == 0
    return file, table


def check(file: Path, table: Path, *more: str) -> int:
    return cli.main(["check", str(file), "--table", str(table), "--simulator", "icarus", *more])


def test_an_emitted_unit_passes_on_every_code_at_every_scale_of_its_table(emitted, capsys):
    assert check(*emitted, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["bench"], row["set"]) for row in rows] == [(b, "gelu8") for b in ("flow", "stall", "protocol")]
    assert [row["vectors"] for row in rows[:2]] == [7 * 256] * 2


@pytest.mark.parametrize("name", ["bulk.v", "unit.v", "a b/step.v"])
def test_a_unit_of_any_name_in_a_folder_of_any_name_passes(name, tmp_path):
    table = secant_table("gelu").save(tmp_path / "gelu.json")
    assert rtl.cli.main(["pwl", "--table", str(table), "-o", str(tmp_path / name)]) == 0
    assert check(tmp_path / name, table) == 0


def test_a_table_with_finer_slopes_than_intercepts_passes_on_the_unit_made_for_it(tmp_path):
    table = dataclasses.replace(secant_table("gelu"), slope_frac_bits=8).save(tmp_path / "fine.json")
    assert rtl.cli.main(["pwl", "--table", str(table), "-o", str(tmp_path / "fine.v")]) == 0
    assert check(tmp_path / "fine.v", table) == 0


WIRED = ("--storage", "constants", "--scale", "5")
ONE_SCALE = ("--scale", "5", "--output-scale", "4")
SHAPES = {
    "wired": ([*WIRED, "--output-scale", "4"], 1),
    "wired accumulator": ([*WIRED, "--output", "acc"], 1),
    "fixed shifts": ([*ONE_SCALE, "--intercept-shift", "5", "--output-shift", "7"], 1),
    "fixed output": (["--output-shift", "6"], 7),
    "wider": (["--coef-width", "12", "--in-width", "10", "--entries", "11"], 7),
    "accumulator": (["--output", "acc", "--storage", "latches", "--stages", "2"], 7),
}


@pytest.mark.parametrize("options, scales", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_that_holds_the_table_is_checked_and_another_table_is_found(options, scales, tmp_path, capsys):
    table = secant_table("gelu").save(tmp_path / "gelu.json")
    file = tmp_path / "shaped.v"
    assert rtl.cli.main(["pwl", "--table", str(table), *options, "-o", str(file)]) == 0
    unit, vectors = check_set(file, Given((PwlTable.load(table),)))
    assert vectors.size == 256 * scales and runner.run_bulk(vectors, BenchOptions("icarus", dut=unit)).passed
    other = dataclasses.replace(secant_table("gelu"), intercepts=tuple(9 - v for v in secant_table("gelu").intercepts))
    if unit.table is None:  # another table is another unit
        outcome = runner.run_bulk(check_set(file, Given((other,)))[1], BenchOptions("icarus", dut=unit))
        assert outcome.mismatches and not outcome.passed


def test_a_file_that_was_edited_is_refused_and_a_described_fault_is_found(emitted, capsys):
    file, table = emitted
    text = file.read_text()
    file.write_text(text.replace(">= $signed(threshold_2)", ">= $signed(threshold_3)"))
    assert check(file, table) == 2
    assert capsys.readouterr().err.endswith("gelu8.v: its SHA-256 is not the one in gelu8.rtl.json\n")
    description = json.loads(file.with_suffix(".rtl.json").read_text())
    description["verilog"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    file.with_suffix(".rtl.json").write_text(json.dumps(description))
    assert check(file, table) == 2
    assert capsys.readouterr().err.endswith("gelu8.rtl.json: its own SHA-256 is not the one it names\n")
    rewrite(file, description)
    assert check(file, table) == 1
    assert "FAILED gelu8 icarus flow: " in capsys.readouterr().err


def test_a_unit_that_does_not_suit_the_table_is_one_line(emitted, tmp_path, capsys):
    file, table = emitted

    def message() -> str:
        assert check(file, table) == 2
        lines = capsys.readouterr().err.splitlines()
        return lines[-1]

    rtl.cli.main(["pwl", "--width", "16", "-o", str(file)])
    assert message().endswith("gelu8.v: out_bits of the table must be the unit's 16, not 8")
    rtl.cli.main(["pwl", "--entries", "4", "-o", str(file)])
    assert "entries of the table must be at most the unit's 4, not 8" in message()
    rtl.cli.main(["pwl", "--max-intercept-shift", "3", "-o", str(file)])
    assert "intercept_shift of the table must be at most the unit's 3, not 4" in message()
    rtl.cli.main(["pwl", "--intercept-shift", "9", "-o", str(file)])
    assert message().endswith("gelu8.v: the fixed intercept_shift of 9 is that of no scale of the table")
    rtl.cli.main(["requant", "-o", str(file)])
    assert message().endswith("gelu8.v: requant has no table: --table must not be given")
    file.with_suffix(".rtl.json").write_text("{}")
    assert "not a description that python -m rtl wrote" in message()
    file.unlink()
    assert "cannot be read" in message()


def rewrite(file: Path, description: dict[str, Any]) -> None:
    """The description beside `file`, with its own hash made good."""
    text = json.dumps(description | {"sha256": description_sha256(description)})
    file.with_suffix(".rtl.json").write_text(text)


DAMAGE = [
    (lambda d: d.pop("parameters"), "parameters and source must be those of pwl (KeyError('parameters'))"),
    (lambda d: d["parameters"].pop("storage"), "parameters and source must be those of pwl (KeyError('storage'))"),
    (
        lambda d: d["parameters"].update(max_intercept_shift="7"),
        "max_intercept_shift must be an integer in 0..27, not '7'",
    ),
    (lambda d: d["parameters"].update(colour=7), "unexpected keyword argument 'colour'"),
    (lambda d: d.update(parameters=[]), "parameters and source must be those of pwl (TypeError("),
    (lambda d: d["parameters"].update(stages=4), "latency must be what its parameters say"),
    (lambda d: d["parameters"].update(acc_bits=40), "parameters must be what its parameters say"),
    (lambda d: d["table"]["load_order"][0].update(count=6), "table must be what its parameters say"),
    (lambda d: d["ports"][2].update(signed=False), "ports must be what its parameters say"),
    (lambda d: d["ports"].clear(), "not a description that python -m rtl wrote ('i__payload')"),
    (lambda d: d.pop("unit"), "not None"),
    (lambda d: d.pop("sha256"), "its own SHA-256 is not the one it names"),
]


@pytest.mark.parametrize("damage, message", DAMAGE, ids=[message for _, message in DAMAGE])
def test_a_description_that_contradicts_itself_is_one_line_and_exit_2(damage, message, emitted, capsys):
    file, table = emitted
    description = json.loads(file.with_suffix(".rtl.json").read_text())
    capsys.readouterr()
    damage(description)
    if "SHA-256" in message:
        file.with_suffix(".rtl.json").write_text(json.dumps(description))
    else:
        rewrite(file, description)
    assert check(file, table) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
