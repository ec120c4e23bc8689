"""The libraries that the tests use: the shipped one, IHP's where it is found, and small ones that lack something."""

import gzip
import os
import re
from pathlib import Path

import pytest

from cost_model.cells.library import GATE_EQUIVALENTS

ROOT = Path(__file__).parents[2]
NAME = "sg13g2_stdcell_typ_1p20V_25C.lib"
IHP = Path(os.environ.get("BITWRIGHT_LIBERTY", ROOT.parent / "shared" / "data" / NAME))
needs_ihp = pytest.mark.skipif(not IHP.exists(), reason=f"{NAME} is not there: set BITWRIGHT_LIBERTY to its path")


def without(folder: Path, cell: str) -> Path:
    """The shipped library without a cell."""
    return _changed(
        folder, re.sub(rf"  cell \({cell}\) \{{.*?\n  \}}\n", "", GATE_EQUIVALENTS.read_text(), flags=re.DOTALL)
    )


def without_area(folder: Path, cell: str) -> Path:
    """The shipped library with the area of a cell left out."""
    return _changed(
        folder, re.sub(rf"(  cell \({cell}\) \{{\n)    area : [\d.]+;\n", r"\1", GATE_EQUIVALENTS.read_text())
    )


def _changed(folder: Path, text: str) -> Path:
    assert text != GATE_EQUIVALENTS.read_text()
    path = folder / "changed.lib"
    path.write_text(text)
    return path


def physical(text: str) -> str:
    """The shipped library's text as one in um2, with volts and energies but no delays."""
    return (
        text.replace('comment : "gate equivalents: NAND2 = 1";', "").replace("nom_voltage : 0", "nom_voltage : 1.2")
    ).replace("capacitive_load_unit (1, f)", "capacitive_load_unit (1, ff)")


TIES = """
  cell (conb_1) {
    area : 0.33;
    cell_leakage_power : 1;
    pin ("HI") { direction : "output"; function : "1"; }
    pin ("LO") { direction : "output"; function : "0"; }
  }
"""
ENABLE = """
  cell (edfxtp_1) {
    area : 6.0;
    ff ("IQ","IQ_N") { clocked_on : "CLK"; next_state : "(DE&D) | (IQ&!DE)"; }
    pin ("CLK") { clock : "true"; direction : "input"; capacitance : 1; }
    pin ("D") { direction : "input"; capacitance : 1; }
    pin ("DE") { direction : "input"; capacitance : 1; }
    pin ("Q") { direction : "output"; function : "IQ"; internal_power () { power (scalar) { values ("4"); } } }
  }
"""
INVERTED = """
  cell (DFFHQNx1) {
    area : 4.5;
    ff (IQN, IQNN) { clocked_on : "CLK"; next_state : "!D"; }
    leakage_power () { value : 5; related_pg_pin : VDD; }
    leakage_power () { value : 2; when : "D"; related_pg_pin : VDD; }
    leakage_power () { value : 4; when : "!D"; related_pg_pin : VDD; }
    leakage_power () { value : 1; related_pg_pin : VSS; }
    pin (CLK) { clock : true; direction : input; capacitance : 1; }
    pin (D) { direction : input; capacitance : 1; }
    pin (QN) { direction : output; function : "IQN"; internal_power () { power (scalar) { values ("4"); } } }
  }
"""


def cell_text(text: str, name: str) -> str:
    """A cell's group in the shipped library's layout."""
    found = re.search(rf"  cell \({name}\) \{{.*?\n  \}}\n", text, flags=re.DOTALL)
    assert found
    return found[0]


def of_one_tie_cell(folder: Path) -> Path:
    """A library with one cell for both constants, and a flip-flop with an enable, as Sky130 has them."""
    text = physical(GATE_EQUIVALENTS.read_text())
    for name in ("TIE0", "TIE1"):
        text = text.replace(cell_text(text, name), "")
    path = folder / "one_tie.lib"
    path.write_text(text.rstrip().removesuffix("}") + TIES + ENABLE + "}\n")
    return path


def in_several_files(folder: Path) -> list[Path]:
    """A library in two files, one of them compressed, with inverted flip-flops and leakage in groups, as ASAP7."""
    text = physical(GATE_EQUIVALENTS.read_text())
    head = text[: text.index("  cell (")]
    gates = text.replace(cell_text(text, "DFF"), "")
    paths = [folder / "gates.lib", folder / "registers.lib.gz"]
    paths[0].write_text(gates.replace("library (gate_equivalents)", "library (several_GATES)"))
    registers = head.replace("library (gate_equivalents)", "library (several_REGISTERS)") + INVERTED + "}\n"
    paths[1].write_bytes(gzip.compress(registers.encode()))
    return paths
