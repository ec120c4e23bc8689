"""Liberty files: what is read, and what is refused."""

from decimal import Decimal
from pathlib import Path

import pytest

from cost_model.cells import liberty, library
from cost_model.netlist.netlist import expression
from sim.reference import InputError
from tests.cost_model.libraries import IHP, needs_ihp, without_area


def test_the_shipped_library_counts_in_nand2():
    cells = library.load()
    assert cells.cell("NAND2").area == 1 and cells.area_unit == "GE"
    assert not cells.has_energies
    assert cells.tie_cells == {"0": ("TIE0", "Y"), "1": ("TIE1", "Y")}


@needs_ihp
def test_a_real_library_is_read_in_si_units():
    cells = library.load(IHP)
    flop = cells.cell("sg13g2_dfrbp_1")
    assert flop.area == Decimal("47.1744") and cells.area_unit == "um2" and cells.voltage_v == 1.2
    assert flop.leakage_w == pytest.approx(538.542e-12)
    assert flop.pins["CLK"].capacitance_f == pytest.approx(2.74351e-15)
    assert flop.pins["CLK"].clock and flop.pins["CLK"].energy == pytest.approx(15e-15, rel=0.05)


@needs_ihp
def test_the_energy_of_a_load_is_counted_once():
    # the tables of IHP's flip-flops rise by half C V² with the load of the other output, those of its gates do not
    cells = library.load(IHP)
    assert cells.charging(100e-15) == pytest.approx(72e-15)
    q = cells.cell("sg13g2_dfrbp_1").pins["Q"]
    at_load = [surface.at(library.NOMINAL_SLEW_S, 100e-15) for surface in q.energies]
    assert q.energy < min(at_load)


def test_a_missing_file_a_missing_cell_and_an_unknown_area_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"nothere\.lib: cannot be read"):
        library.load(tmp_path / "nothere.lib")
    with pytest.raises(InputError, match="cell NAND9 is missing"):
        library.load().cell("NAND9")
    with pytest.raises(InputError, match="the area of cell XOR2 is unknown"):
        library.load(without_area(tmp_path, "XOR2")).cell("XOR2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("library (x) { cell (A) { area : 1;", "group cell is not closed near line 1"),
        ("library (x) { } }", "a } too many"),
        ("module x; endmodule", "out of place"),
        ("", "must hold one library, not 0"),
        ("library (x) { cell (A) { } }", "must hold cells with areas"),
    ],
)
def test_what_is_no_library_is_refused(tmp_path, text, message):
    path = Path(tmp_path) / "bad.lib"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        library.load(path)


def test_attributes_groups_and_comments():
    text = '/* a */ library (x) { a : 1 ; b : "c d"; l ("1, 2", \\\n "3"); pin (A) { f : VDD + 0.5; } // end\n }'
    root = liberty.parse(text)
    assert root.get("a") == "1" and root.get("b") == "c d" and root.attributes["l"] == ("1, 2", "3")
    assert next(root.of_kind("pin")).get("f") == "VDD + 0.5"


@pytest.mark.parametrize(
    ("function", "verilog"),
    [
        ("!(A*B)", "(~(a & b))"),
        ("A B + C'", "((a & b) | (~c))"),
        ("A ^ B & C", "(a ^ (b & c))"),
        ("(A | !B) C", "((a | (~b)) & c)"),
        ("1", "1'b1"),
    ],
)
def test_functions_in_verilog(function, verilog):
    assert expression(function, {"A": "a", "B": "b", "C": "c"}) == verilog


@pytest.mark.parametrize("function", ["", "(A", "A)", "A &", "A | | B"])
def test_a_function_that_is_none_is_refused(function):
    with pytest.raises(InputError, match="is not one of Liberty"):
        expression(function, {"A": "a", "B": "b"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("area : 1.00", "area : -1", "cell BUF: area must be a number from 0 on, not '-1'"),
        ("area : 1.00", "area : nan", "cell BUF: area must be"),
        ("nom_voltage : 0", "nom_voltage : high", "nom_voltage must be a number, not 'high'"),
        ("nom_voltage : 0", "nom_voltage : 1e999", "nom_voltage must be a number"),
        ("(1, f)", "(1)", "capacitive_load_unit must be like"),
        ("(1, f)", "(x, pf)", "capacitive_load_unit must be a number, not 'x'"),
        ('time_unit : "1ns"', 'time_unit : "1.2.3ns"', "a unit must be like 1ns"),
        ("capacitance : 1;", "capacitance : inf;", "cell INV: pin A: capacitance must be a number"),
        ('values ("1")', 'values ("1, x")', "pin Y: power: values must be a number, not 'x'"),
        ('values ("1")', 'values ("1, 2")', "pin Y: power: must have 1 values for its indices, not 2"),
        ('values ("1")', 'number ("1")', "pin Y: power: must have 1 values for its indices, not 0"),
        ("latch (IQ, IQN)", "latch ()", "cell DLATCH: latch must name its state variable"),
        ("cell (TIE1)", "cell (TIE0)", "cell TIE0 is there twice"),
    ],
)
def test_a_wrong_number_or_size_is_one_line_with_its_place(tmp_path, old, new, message):
    text = library.GATE_EQUIVALENTS.read_text()
    assert old in text
    path = tmp_path / "bad.lib"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as raised:
        library.load(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_tables_with_falling_indices_are_refused(tmp_path):
    template = 'power_lut_template (two) { variable_1 : total_output_net_capacitance; index_1 ("2, 1"); }\n  cell (INV)'
    text = library.GATE_EQUIVALENTS.read_text().replace("cell (INV)", template, 1)
    path = tmp_path / "bad.lib"
    path.write_text(text.replace('power (scalar) { values ("1"); }', 'power (two) { values ("1, 2"); }', 1))
    with pytest.raises(InputError, match="index_1 must rise"):
        library.load(path)


def test_a_damaged_gzip_file_and_a_folder_are_one_line(tmp_path):
    (tmp_path / "bad.lib.gz").write_bytes(b"\x1f\x8b\x08\x00damaged")
    with pytest.raises(InputError, match="damaged gzip file"):
        library.load(tmp_path / "bad.lib.gz")
    with pytest.raises(InputError, match="must be a regular file"):
        library.load(tmp_path)


@pytest.mark.parametrize(
    ("function", "said"), [("A & C", "reads C, which is not connected"), ("A $ B", "is not one of")]
)
def test_a_function_of_what_is_not_there_does_not_read_0(function, said):
    with pytest.raises(InputError, match=said):
        expression(function, {"A": "a", "B": "b"})


def test_a_nested_function_is_bounded():
    with pytest.raises(InputError, match="is not one of Liberty"):
        expression("(" * 10_000 + "A", {"A": "a"})
