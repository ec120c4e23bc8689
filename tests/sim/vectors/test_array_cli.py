"""`python -m sim` with the array's layers: files written, rows with cycles, a wrong code found."""

import dataclasses
import json
import sys

import numpy as np

from rtl.array.config import ArrayConfig
from sim import cli
from sim.cosim import regress
from sim.vectors.array_suite import random_array_set
from sim.workloads import array_layers as layers

SMALL = random_array_set(
    "array-small", np.random.default_rng(3), ArrayConfig(2, 3, group=4, max_inputs=16, depth=4), (5, 9, 4), seed=3
)


def test_layers_of_real_size_are_written_and_a_missing_one_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layers, "real_layers", lambda seed: [SMALL])
    command = ["vectors", "--unit", "array", "--no-random", "--real", "--json", "-o", str(tmp_path)]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == [{"unit": "array", "set": "array-small", "vectors": 20, "loads": 1}]
    assert 'pip install "bitwright[sentence]"' in err and (tmp_path / "array-small.npz").exists()


def test_a_layer_gives_a_row_for_each_bench_with_the_formula_s_cycles(tmp_path, capsys):
    SMALL.save(tmp_path)
    command = ["regress", "--unit", "array", "--from", str(tmp_path), "--simulator", "icarus", "--json"]
    assert cli.main(command) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["bench"], row["vectors"], row["mismatches"]) for row in rows] == [
        ("flow", 20, 0), ("stall", 20, 0), ("protocol", 20, 0),
    ]  # fmt: skip
    assert rows[0]["utilisation"] == round(5 * 9 * 4 / (2 * 3 * SMALL.cycles), 6)
    assert rows[0]["utilisation"] == round(SMALL.config.schedule.utilisation(5, 9, 4), 6)
    assert rows[1]["utilisation"] is rows[2]["utilisation"] is None
    assert rows[0]["cycles"] == SMALL.cycles < min(row["cycles"] for row in rows[1:])


def test_a_wrong_code_exits_1_with_the_beat_in_full(tmp_path, capsys):
    expected = SMALL.arrays["expected"].copy()
    expected[1, 3] ^= 1
    dataclasses.replace(SMALL, arrays={**SMALL.arrays, "expected": expected}).save(tmp_path)
    assert cli.main(["regress", "--unit", "array", "--from", str(tmp_path), "--simulator", "icarus"]) == 1
    error = capsys.readouterr().err
    assert "FAILED array-small icarus flow: 1 of 20 wrong, the first: output_tile 1, token 1, expected [" in error


def test_a_layer_that_is_too_long_for_icarus_is_left_to_verilator_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(regress, "ICARUS_STEPS", 100)
    assert [job.simulator for job in regress.jobs([SMALL], ("icarus", "verilator"), False)] == ["verilator"]
    SMALL.save(tmp_path)
    command = ["regress", "--unit", "array", "--from", str(tmp_path), "--json", "--simulator"]
    assert cli.main([*command, "icarus"]) == 2  # a regression that compares nothing has not passed
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.endswith(
        "nothing to run: array-small is too long for icarus, add --simulator verilator\n"
    )
    dataclasses.replace(SMALL, name="array-other").save(tmp_path)
    assert cli.main([*command, "icarus"]) == 2
    assert "nothing to run: array-other, array-small are too long for icarus" in capsys.readouterr().err
    monkeypatch.setattr(regress, "too_long_for_icarus", lambda vectors: vectors.name == "array-other")
    assert cli.main([*command, "icarus"]) == 0
    captured = capsys.readouterr()
    assert {row["set"] for row in json.loads(captured.out)} == {"array-small"}
    assert "array-other is too long for icarus and left to verilator" in captured.err


def test_without_pytorch_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sim.workloads.array_layers", None)
    assert cli.main(["vectors", "--unit", "array", "--no-random", "--real", "-o", str(tmp_path)]) == 2
    assert 'pip install "bitwright[digits]"' in capsys.readouterr().err
