"""`python -m sim check` of every kind of unit: it passes as it was emitted, and fails with a wrong output."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import rtl.cli
from ga_search.methods.secants import secant_table
from sim import cli
from sim.cosim.check import Given, check_set
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.reference import InputError, PwlTable
from sim.vectors.pwl import random_table

GAINS = {"gain": [900, -700, 300, 5], "bias": [3, -9, 0, 70000], "epsilon": 9, "shift": 12}
CASES = {
    "normaliser": (["normaliser", "--table", "div", "--scale", "5", "--output-scale", "7"], ["div"], None),
    "normaliser acc": (
        ["normaliser", "--table", "rsqrt", "--scale", "5", "--output", "acc", "--input-bits", "24", "--in-unsigned",
         "--storage", "constants"], ["rsqrt"], None,
    ),
    "requant": (["requant", "--in-width", "20", "--out-unsigned", "--stages", "1"], [], None),
    "product": (["product", "--a-bits", "8", "--b-bits", "6", "--stages", "4"], [], None),
    "rope": (["rope", "--in-bits", "8", "--out-bits", "8"], [], None),
    "residual": (["residual"], [], None),
    "hadamard": (["hadamard", "--block", "8", "--in-bits", "8"], [], None),
    "fp-pwl": (["fp-pwl", "--format", "fp16", "--table", "gelu", "--entries", "9"], ["gelu"], None),
    "fp-pwl wired": (["fp-pwl", "--format", "fp16", "--table", "gelu", "--storage", "constants"], ["gelu"], None),
    "fp-add": (["fp-add", "--format", "fp16"], [], None),
    "fp-compare": (["fp-compare", "--format", "fp16"], [], None),
    "softmax": (
        ["softmax", "--exp", "exp", "--scale", "4", "--div", "div", "--div-scale", "5", "--row-length", "7"],
        ["exp", "div"], None,
    ),
    "softmax of 16 bits": (
        ["softmax", "--exp", "exp", "--scale", "4", "--div", "div", "--div-scale", "5", "--row-length", "7",
         "--probability-width", "16"], ["exp", "div"], None,
    ),
    "token": (["token", "--row-length", "9", "--divider-stages", "7"], [], None),
    "layernorm": (["layernorm", "--rsqrt", "rsqrt", "--rsqrt-scale", "5", "--length", "4"], ["rsqrt"], None),
    "rmsnorm wired": (
        ["rmsnorm", "--rsqrt", "rsqrt", "--rsqrt-scale", "5", "--storage", "constants", "--parameters", "gains"],
        ["rsqrt"], GAINS,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tables")
    for function in ("gelu", "exp", "div", "rsqrt"):
        secant_table(function).save(path / function)
    (path / "gains").write_text(json.dumps(GAINS))
    return path


def emitted(folder: Path, arguments: list[str], file: Path) -> Path:
    paths = [str(folder / a) if k and (folder / a).exists() else a for k, a in enumerate(arguments)]
    assert rtl.cli.main([*paths, "-o", str(file)]) == 0
    return file


def with_wrong_bit(verilog: str) -> str:
    """The text with the lowest bit of the output inverted."""
    head, top = verilog[: verilog.index("module unit8(")], verilog[verilog.index("module unit8(") :]
    kept = re.compile(r"module |  output .*o__payload;")
    lines = [line if kept.match(line) else line.replace("o__payload", "o__right") for line in top.splitlines()]
    return head + "\n".join(lines).replace("endmodule", "  assign o__payload = o__right ^ 1;\nendmodule", 1) + "\n"


@pytest.mark.parametrize("arguments, tables, parameters", CASES.values(), ids=CASES)
def test_an_emitted_unit_passes_and_one_with_a_wrong_bit_does_not(arguments, tables, parameters, folder, tmp_path):
    file = emitted(folder, arguments, tmp_path / "unit8.v")
    given = Given(tuple(PwlTable.load(folder / name) for name in tables), parameters, edited=True)
    device, vectors = check_set(file, given)
    options = BenchOptions("icarus", tmp_path / "build", dut=device)
    assert run_bulk(vectors, options).passed
    file.write_text(with_wrong_bit(file.read_text()))
    device, vectors = check_set(file, given)
    assert run_bulk(vectors, BenchOptions("icarus", tmp_path / "build", dut=device)).mismatches


def test_a_file_with_a_comment_is_checked_as_edited_and_the_row_says_so(folder, tmp_path, capsys):
    file = emitted(folder, ["fp-compare", "--format", "fp16"], tmp_path / "compare.v")
    file.write_text(f"// mine\n{file.read_text()}")
    command = ["check", str(file), "--simulator", "icarus", "--build", str(tmp_path / "build")]
    assert cli.main(command) == 2
    assert "its SHA-256 is not the one in compare.rtl.json" in capsys.readouterr().err
    assert cli.main([*command, "--edited"]) == 0
    assert "compare (edited)" in capsys.readouterr().out
    assert cli.main([*command, "--edited", "--json"]) == 0
    assert {row["edited"] for row in json.loads(capsys.readouterr().out)} == {True}


def test_a_threshold_rounded_down_is_seen_though_the_unit_is_loaded_with_it(tmp_path, monkeypatch):
    table = random_table(np.random.default_rng(1), 8, 0, in_bits=8)
    path = table.save(tmp_path / "table.json")
    file = emitted(tmp_path, ["pwl", "--table", str(path), "--max-intercept-shift", "19"], tmp_path / "unit8.v")

    def floor(self: PwlTable, scale: int) -> tuple[int, ...]:
        return tuple(p << scale >> self.bp_frac_bits for p in self.breakpoints)

    options = {"simulator": "icarus", "folder": tmp_path / "build"}
    device, vectors = check_set(file, Given((table,)))
    assert run_bulk(vectors, BenchOptions(**options, dut=device)).passed
    monkeypatch.setattr(PwlTable, "thresholds", floor)
    device, vectors = check_set(file, Given((table,)))
    assert run_bulk(vectors, BenchOptions(**options, dut=device)).mismatches


BAD = [
    (["requant"], [], GAINS, "--parameters are those of a norm, not of requant"),
    (["requant"], ["gelu"], None, "requant has no table: --table must not be given"),
    (CASES["fp-pwl"][0], [], None, "fp-pwl has one table: --table must be given once, not 0 times"),
    (CASES["softmax"][0], ["exp"], None, "needs a table of exp and one of div, not of exp"),
    (CASES["rmsnorm wired"][0], ["rsqrt"], None, "gain, bias, epsilon and shift are wired in and must be given too"),
    (["array", "--rows", "2", "--columns", "2"], [], None, "unit must be one of pwl, "),
]


@pytest.mark.parametrize("arguments, tables, parameters, message", BAD, ids=[message for *_, message in BAD])
def test_what_does_not_suit_the_unit_is_refused(arguments, tables, parameters, message, folder, tmp_path):
    file = emitted(folder, arguments, tmp_path / "unit8.v")
    with pytest.raises(InputError, match=f"unit8.v: {re.escape(message)}"):
        check_set(file, Given(tuple(PwlTable.load(folder / name) for name in tables), parameters))
