"""The command: rows, exit codes, and one line for every mistake."""

import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim import cli
from sim.cosim import simulators
from sim.vectors.files import load_folder
from sim.vectors.pwl import random_set
from sim.vectors.requant import requant_set
from sim.vectors.vector_set import VectorSet
from tests.sim.tables import FUNCTIONS, secant_table

ROW = {
    "unit", "set", "configuration", "simulator", "bench", "vectors", "of", "rows", "mismatches", "cycles",
    "utilisation", "vectors_per_second", "seed", "edited", "first", "problem", "waves",
}  # fmt: skip


@pytest.fixture
def small(tmp_path) -> VectorSet:
    vectors = random_set("small", seed=1, tables=2, entries=8)
    vectors.save(tmp_path / "v")
    return vectors


def test_regress_gives_a_row_for_each_bench_and_exits_0(small, tmp_path, capsys):
    assert cli.main(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus", "--seed", "5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["bench"] for row in rows] == ["flow", "stall", "protocol"]
    assert all(set(row) == ROW and row["seed"] == 5 and row["simulator"] == "icarus" for row in rows)
    assert [(row["vectors"], row["of"]) for row in rows[:2]] == [(small.size, small.size)] * 2
    assert all(row["mismatches"] == 0 and row["cycles"] > 0 and row["vectors_per_second"] > 0 for row in rows)
    assert rows[0]["configuration"] == {**small.configuration}


def test_a_wrong_expectation_exits_1_with_the_first_failing_vector_in_full(small, tmp_path, capsys):
    expected = small.arrays["expected"].copy()
    position = 300
    expected[position] += 1 if expected[position] < 127 else -1
    dataclasses.replace(small, arrays={**small.arrays, "expected": expected}).save(tmp_path / "v")
    assert cli.main(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus", "--json"]) == 1
    captured = capsys.readouterr()
    row, _, protocol = json.loads(captured.out)
    assert f"waveform: {row['waves']}\n" in captured.err and Path(row["waves"]).stat().st_size > 0
    assert (protocol["bench"], protocol["mismatches"], protocol["first"]) == ("protocol", 1, row["first"])
    got = int(small.arrays["expected"][position])
    assert row["mismatches"] == 1 and row["first"] == small.describe(position, got & 255) | {
        "expected": int(expected[position])
    }
    first = row["first"]
    text = f"vector 300, load 1, input {first['input']}, segment {first['segment']}, "
    assert f"FAILED small icarus flow: 1 of {small.size} wrong, the first: {text}" in captured.err
    assert f"expected {first['expected']}, got {got}" in captured.err
    assert f"FAILED small icarus protocol: 1 of {protocol['vectors']} wrong, the first: {text}" in captured.err
    assert captured.err.count("FAILED") == 3 and "assert" not in captured.err


@pytest.mark.slow
def test_the_same_seed_gives_the_same_cycles_and_another_seed_others(small, tmp_path, capsys):
    def cycles(seed: int) -> list[int]:
        arguments = ["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus", "--seed", str(seed), "--json"]
        assert cli.main(arguments) == 0
        return [row["cycles"] for row in json.loads(capsys.readouterr().out)]

    first, same, other = cycles(1), cycles(1), cycles(2)
    assert same == first
    assert other[0] == first[0] and other[1] != first[1] and other[2] != first[2]


def test_vectors_writes_files_that_regress_accepts_and_the_same_seed_the_same_bytes(tmp_path, capsys):
    tables = tmp_path / "tables"
    for function in FUNCTIONS:
        secant_table(function).save(tables / f"{function}-8.json")
    for name in ("a", "b"):
        arguments = ["vectors", "--quick", "--seed", "4", "--tables", str(tables), "--json", "-o", str(tmp_path / name)]
        assert cli.main(arguments) == 0
        rows = json.loads(capsys.readouterr().out)
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    sets = load_folder(tmp_path / "a")
    assert sorted((v.name, v.size) for v in sets) == sorted((row["set"], row["vectors"]) for row in rows)
    assert {v.name for v in sets} >= {"fitted-gelu-8", "fitted-normaliser-div-8", "random-requant-int8"}


def test_fitted_tables_alone_can_be_written(tmp_path):
    secant_table("gelu").save(tmp_path / "t/gelu-8.json")
    arguments = ["vectors", "--no-random", "--tables", str(tmp_path / "t"), "-o", str(tmp_path / "v")]
    assert cli.main(arguments) == 0
    names = ["fitted-fp-pwl-fp16-gelu-8", "fitted-fp-pwl-fp32-gelu-8", "fitted-gelu-8"]
    assert [v.name for v in load_folder(tmp_path / "v")] == names
    alone = [*arguments[:-1], str(tmp_path / "alone"), "--unit", "fp-pwl"]
    assert cli.main(alone) == 0
    assert [v.name for v in load_folder(tmp_path / "alone")] == names[:2]


def test_sets_that_were_in_the_folder_before_are_named(small, tmp_path, capsys):
    secant_table("gelu").save(tmp_path / "t/gelu-8.json")
    for _ in range(2):
        assert cli.main(["vectors", "--no-random", "--tables", str(tmp_path / "t"), "-o", str(tmp_path / "v")]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == f"{tmp_path / 'v'} also holds small, which --from will run too" and len(lines) == 4


def test_a_simulator_that_breaks_is_a_failed_row_and_exit_1(small, tmp_path, capsys, monkeypatch):
    def broken(*arguments, **options):
        raise simulators.SimulationError("icarus stopped: 139")

    monkeypatch.setattr(simulators, "simulate", broken)
    assert cli.main(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus", "--json"]) == 1
    captured = capsys.readouterr()
    assert [row["problem"] for row in json.loads(captured.out)] == ["icarus stopped: 139"] * 3
    assert "FAILED small icarus flow: icarus stopped: 139" in captured.err


def one_line(arguments: list[str], capsys) -> str:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_a_corrupted_or_missing_file_is_one_line_and_exit_2(small, tmp_path, capsys):
    folder = tmp_path / "v"
    data = bytearray((folder / "small.npz").read_bytes())
    data[len(data) // 2] ^= 16
    (folder / "small.npz").write_bytes(data)
    assert "small.npz: corrupted: its SHA-256" in one_line(["regress", "--from", str(folder)], capsys)
    (folder / "small.json").write_text("[]")
    assert "small.json: format must be" in one_line(["regress", "--from", str(folder)], capsys)
    assert "there are none" in one_line(["regress", "--from", str(tmp_path / "none")], capsys)
    (tmp_path / "t").mkdir()
    (tmp_path / "t/bad.json").write_text("nonsense")
    arguments = ["vectors", "--quick", "--tables", str(tmp_path / "t"), "-o", str(tmp_path / "w")]
    assert "bad.json: not valid JSON" in one_line(arguments, capsys)
    assert not (tmp_path / "w").exists()


def test_a_missing_simulator_is_one_line_and_exit_2(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    simulators.version.cache_clear()
    try:
        message = one_line(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus"], capsys)
    finally:
        simulators.version.cache_clear()
    assert "simulator icarus is missing" in message


def test_bad_arguments_are_one_line_and_exit_2(small, tmp_path, capsys):
    assert "--jobs must be at least 1, not 0" in one_line(["regress", "--jobs", "0"], capsys)
    assert "--seed must be in 0..2147483647, not -1" in one_line(["regress", "--seed", "-1"], capsys)
    secant_table("gelu").save(tmp_path / "t/gelu-8.json")
    arguments = ["vectors", "--no-random", "--tables", str(tmp_path / "t"), "-o", str(tmp_path / "d")]
    assert "t: none of its tables is for softmax, fp-mac" in one_line(
        [*arguments, "--unit", "softmax", "fp-mac"], capsys
    )
    assert "--no-random needs --tables" in one_line(["vectors", "--no-random", "-o", str(tmp_path / "d")], capsys)
    assert "--digits needs --tables" in one_line(["vectors", "--quick", "--digits", "-o", str(tmp_path / "d")], capsys)
    for arguments in (["regress", "--simulator", "vcs"], ["regress", "--unit", "fpu"], ["vectors"], []):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_build_folder_that_is_none_is_one_line_and_exit_2(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for more in ([], ["--waves"]):
        line = one_line(["regress", "--from", str(tmp_path / "v"), "--build", str(tmp_path / "file"), *more], capsys)
        assert f"--build must be a folder to write to, not {tmp_path / 'file'}: " in line


BAD_CONFIGURATIONS = [
    ({"entries": 9}, "small: thresholds must be 8 for the unit, not 7"),
    ({"entries": 1}, "small: configuration: entries must be in 2..64, not 1"),
    ({"max_output_shift": 9}, "small: output_shift must be in 0..9 for the unit, not 15"),
    ({"out_bits": 9}, "small: expected must be 9 bits wide, not 8"),
    ({"colour": 1}, "small: configuration: "),
    ({"storage": "constants"}, "small: configuration: storage constants holds one load, not 16"),
]


@pytest.mark.parametrize("changes, message", BAD_CONFIGURATIONS, ids=[message for _, message in BAD_CONFIGURATIONS])
def test_a_configuration_that_does_not_suit_its_vectors_is_one_line_and_exit_2(
    changes, message, small, tmp_path, capsys
):
    dataclasses.replace(small, configuration={**small.configuration, **changes}).save(tmp_path / "v")
    assert message in one_line(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus"], capsys)


BAD_ARRAYS = [
    (lambda a: a.pop("intercept_shift"), "small: missing array 'intercept_shift'"),
    (lambda a: a["intercept_shift"].put(3, 99), "small: intercept_shift must be in 0.."),
    (lambda a: a["output_shift"].put(0, -1), "small: output_shift must be in 0..15 for the unit, not -1"),
    (lambda a: a.pop("slopes"), "small: missing array 'slopes'"),
    (lambda a: a["slopes"].put(0, 128), "small: slopes must be in -128..127 for the unit, not 128"),
    (lambda a: a.update(slopes=a["slopes"][:, 0]), "small: slopes must have 8 for each load, not [16]"),
    (lambda a: a.update(output_shift=a["slopes"]), "small: output_shift must have 1 for each load, not [16, 8]"),
    (lambda a: a.update({key: a[key][:0] for key in a}), "small.json: inputs must have at least one vector"),
]


@pytest.mark.parametrize("damage, message", BAD_ARRAYS, ids=[message for _, message in BAD_ARRAYS])
def test_arrays_that_cannot_be_loaded_are_one_line_and_exit_2(damage, message, small, tmp_path, capsys):
    arrays = {key: array.copy() for key, array in small.arrays.items()}
    damage(arrays)
    save_unchecked(small, arrays, tmp_path / "v")
    assert message in one_line(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus"], capsys)


def test_a_shift_that_travels_with_its_beat_must_be_one_that_the_unit_takes(tmp_path, capsys):
    vectors = requant_set("requant", 0, 10)
    vectors.arrays["inputs.shift"][7] = 48  # six bits hold it, and the unit's shifter goes to 47
    vectors.save(tmp_path / "v")
    message = "requant: inputs.shift must be in 0..47 for the unit, not 48"
    assert message in one_line(["regress", "--from", str(tmp_path / "v"), "--simulator", "icarus"], capsys)


def save_unchecked(vectors: VectorSet, arrays: dict[str, np.ndarray], folder: Path) -> None:
    """A set as a file that is consistent with itself and that no set would accept."""
    odd = copy.copy(vectors)
    object.__setattr__(odd, "arrays", arrays)
    widths = {key: width for key, width in vectors.widths.items() if key in ("inputs", "expected")}
    object.__setattr__(odd, "widths", widths)
    odd.save(folder)


@pytest.mark.parametrize("module", ["sim.reference", "sim", "sim.cli", "sim.vectors.vector_set"])
def test_importing_needs_neither_torch_nor_cocotb(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'cocotb', 'sklearn') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
