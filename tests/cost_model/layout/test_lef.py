"""LEF files: what is read, and what is refused."""

import pytest

from cost_model.layout import lef
from sim.reference import InputError
from tests.cost_model.layout.small import TEXT, made


def test_layers_and_cells_are_read(tmp_path):
    found = made(tmp_path)
    assert [(layer.name, layer.horizontal) for layer in found.layers] == [("m1", True), ("m2", False), ("m3", True)]
    assert found.layers[0].capacitance == pytest.approx((1e-5 * 0.2 + 2 * 4e-5) * 1e-12)
    cell = found.macro("NAND2")
    assert (cell.width, cell.height) == (1.5, 4.0) and cell.supplies == {"POWER": "VDD", "GROUND": "VSS"}
    assert cell.pins["Y"] == pytest.approx((1.1, 1.2)) and set(cell.pins) == set("ABY")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("END m3\n", "", r"LAYER m3 is not closed"),
        ("SIZE 1.5 BY 4 ;", "", "cell NAND2: SIZE must be a width and a height above 0"),
        ("SIZE 1.5 BY 4 ;", "SIZE x BY 4 ;", "cell NAND2: SIZE must be a number, not 'x'"),
        ("CPERSQDIST 1e-5", "CPERSQDIST much", "layer m1: CAPACITANCE must be a number, not 'much'"),
        ("INV\n", "IN[V\n", "the name of a cell must be a letter or _"),
        ("TYPE ROUTING", "TYPE CUT", "at least 3 routing layers, not 0"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_place(tmp_path, old, new, message):
    assert old in TEXT
    path = tmp_path / "bad.lef"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(InputError, match=message) as raised:
        lef.load(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_cell_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="must hold the cell XOR2"):
        made(tmp_path).macro("XOR2")
