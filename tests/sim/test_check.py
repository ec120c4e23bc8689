"""`python -m sim check`: the emitted file itself is judged, and only the file that the description describes."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

import rtl.cli
from sim import cli
from tests.sim.tables import chord_table


@pytest.fixture
def emitted(tmp_path) -> tuple[Path, Path]:
    table = chord_table("gelu").save(tmp_path / "gelu.json")
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
    table = chord_table("gelu").save(tmp_path / "gelu.json")
    assert rtl.cli.main(["pwl", "--table", str(table), "-o", str(tmp_path / name)]) == 0
    assert check(tmp_path / name, table) == 0


def test_a_table_with_finer_slopes_than_intercepts_passes_on_the_unit_made_for_it(tmp_path):
    table = dataclasses.replace(chord_table("gelu"), slope_frac_bits=8).save(tmp_path / "fine.json")
    assert rtl.cli.main(["pwl", "--table", str(table), "-o", str(tmp_path / "fine.v")]) == 0
    assert check(tmp_path / "fine.v", table) == 0


def test_a_file_that_was_edited_is_refused_and_a_described_fault_is_found(emitted, capsys):
    file, table = emitted
    text = file.read_text()
    file.write_text(text.replace(">= $signed(threshold_2)", ">= $signed(threshold_3)"))
    assert check(file, table) == 2
    assert capsys.readouterr().err.endswith("gelu8.v: its SHA-256 is not the one in gelu8.rtl.json\n")
    description = json.loads(file.with_suffix(".rtl.json").read_text())
    description["verilog"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    file.with_suffix(".rtl.json").write_text(json.dumps(description))
    assert check(file, table) == 1
    assert "FAILED gelu8 icarus flow: " in capsys.readouterr().err


def test_a_unit_that_does_not_suit_the_table_is_one_line(emitted, tmp_path, capsys):
    file, table = emitted

    def message() -> str:
        assert check(file, table) == 2
        lines = capsys.readouterr().err.splitlines()
        return lines[-1]

    rtl.cli.main(["pwl", "--width", "16", "-o", str(file)])
    assert message().endswith("gelu8.v: in_bits must be the table's 8, not 16")
    rtl.cli.main(["pwl", "--entries", "4", "-o", str(file)])
    assert "entries of the table must be at most the unit's 4, not 8" in message()
    rtl.cli.main(["pwl", "--max-intercept-shift", "3", "-o", str(file)])
    assert "max_intercept_shift must be at least 6 for the table" in message()
    rtl.cli.main(["pwl", "--intercept-shift", "5", "-o", str(file)])
    assert "must have a table port and shifts that are inputs" in message()
    rtl.cli.main(["requant", "-o", str(file)])
    assert "unit must be pwl, not requant" in message()
    file.with_suffix(".rtl.json").write_text("{}")
    assert "not a description that python -m rtl wrote" in message()
    file.unlink()
    assert "cannot be read" in message()
