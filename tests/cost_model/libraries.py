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


SET_RESET = """
  cell (DFFSR) {
    area : 6.0;
    ff (P0002,P0003) {
      next_state : "D"; clocked_on : "CLK"; clear : "(!R)"; preset : "(!S)"; clear_preset_var1 : L;
    }
    pin(CLK)  { direction : input; capacitance : 1; clock : true; }
    pin(D)  { direction : input; capacitance : 1; }
    pin(R)  { direction : input; capacitance : 1; }
    pin(S)  { direction : input; capacitance : 1; }
    pin(Q)  { direction : output; function : "P0002"; internal_power() { power(scalar) { values ("4"); } } }
  }
"""
THREE_STATE = """
  cell (TBUFX1) {
    area : 0.1;
    pin(A)  { direction : input; capacitance : 1; }
    pin(EN)  { direction : input; capacitance : 1; }
    pin(Y)  { direction : output; function : "(!A)"; three_state : "(!EN)"; }
  }
"""


def of_set_reset_flip_flops(folder: Path) -> Path:
    """A library with set and reset on every flip-flop, a three-state inverter, and a latch of area 0, as OSU's have."""
    text = physical(GATE_EQUIVALENTS.read_text())
    text = text.replace(cell_text(text, "DFF"), "").replace("area : 3.33", "area : 0")
    path = folder / "set_reset.lib"
    path.write_text(text.rstrip().removesuffix("}") + SET_RESET + THREE_STATE + "}\n")
    return path


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


def with_delays(folder: Path, time_unit: str, capacitance_unit: str) -> Path:
    """A library whose gates take 40 ps and whose pins have 1 fF, in the units given, as Sky130 has ns and ASAP7 ps."""
    time, capacitance = {"ns": 0.001, "ps": 1}[time_unit], {"pf": 0.001, "ff": 1}[capacitance_unit]

    def arc(pin: str, kind: str = "", delay: float = 40) -> str:
        ps = {"cell_rise": delay, "cell_fall": delay, "rise_transition": 10, "fall_transition": 10}
        values = "".join(
            f'{edge} (grid) {{ values ("{t * time:g}, {t * time:g}", "{t * time:g}, {t * time:g}"); }} '
            for edge, t in ps.items()
        )
        if kind == "setup_rising":
            values = "".join(f'{e}_constraint (scalar) {{ values ("{delay * time:g}"); }} ' for e in ("rise", "fall"))
        return f'timing () {{ related_pin : "{pin}"; {f"timing_type : {kind}; " if kind else ""}{values}}} '

    def cell(match: re.Match) -> str:
        body = match[0]
        if "latch (" in body or "cell (TIE" in body:
            return body
        if "ff (" in body:
            body = body.replace("pin (D) {", f"pin (D) {{ {arc('C', 'setup_rising', 20)}")
            return body.replace("pin (Q) {", f"pin (Q) {{ {arc('C', 'rising_edge')}")
        inputs = re.findall(r"pin \((\w+)\) \{ direction : input", body)
        return re.sub(r"direction : output;", lambda m: m[0] + " " + "".join(map(arc, inputs)), body)

    text = re.sub(r"  cell \(\w+\) \{.*?\n  \}\n", cell, physical(GATE_EQUIVALENTS.read_text()), flags=re.DOTALL)
    text = re.sub(r"(?<!fanout_)capacitance : (\d+)", lambda m: f"capacitance : {int(m[1]) * capacitance:g}", text)
    text = text.replace('time_unit : "1ns"', f'time_unit : "1{time_unit}"')
    text = text.replace("capacitive_load_unit (1, ff)", f"capacitive_load_unit (1, {capacitance_unit})")
    grid = (
        "  lu_table_template (grid) { variable_1 : input_net_transition; variable_2 : total_output_net_capacitance; "
        f'index_1 ("{time:g}, {1000 * time:g}"); index_2 ("{capacitance:g}, {1000 * capacitance:g}"); }}\n'
    )
    percent = {"input_threshold": 50, "output_threshold": 50, "slew_lower_threshold": 20, "slew_upper_threshold": 80}
    thresholds = "".join(f"  {key}_pct_{edge} : {n};\n" for key, n in percent.items() for edge in ("rise", "fall"))
    text = text.replace("  cell (INV) {", f"{thresholds}{grid}  cell (INV) {{")
    path = folder / f"delays_{time_unit}_{capacitance_unit}.lib"
    path.write_text(text.replace("library (gate_equivalents)", f"library (delays_{time_unit})"))
    return path
