"""graywolf's files, and cells on the grid of the rows."""

import pytest

from cost_model.layout import placement
from cost_model.layout.placement import Core, cel, legal, parameters, read_placed, terminals
from sim.reference import InputError
from tests.cost_model.layout.small import HEIGHT, PLACED, SITE, made, netlist


def test_a_net_has_every_pin_and_port_that_it_joins():
    assert terminals(netlist()) == {
        2: [(2, "C")],
        3: [(0, "A"), (1, "A")],
        4: [(2, "Q")],
        5: [(0, "Y"), (1, "B")],
        6: [(1, "Y"), (2, "D")],
    }


def test_the_netlist_is_written_with_pins_around_the_middle_of_each_cell(tmp_path):
    text = cel(netlist(), made(tmp_path))
    assert "cell 1 u0\nleft -25 right 25 bottom -100 top 100\npin name A signal n3 layer 1 -20 -40\n" in text
    assert text.count("\ncell ") + text.startswith("cell ") == 3 and text.count("pad ") == 3
    assert "pad 1 name twpin_2\n" in text and "pin name p2 signal n2 layer 1 0 0" in text
    assert "*random.seed : 7" in parameters(made(tmp_path), Core(seed=7))


@pytest.mark.parametrize("filled", [0.3, 0.5, 0.9, 1])
def test_cells_stand_on_sites_side_by_side_and_inside_the_rows(tmp_path, filled):
    lef, unit = made(tmp_path), netlist()
    where = legal(unit, lef, Core(filled), read_placed(PLACED))
    assert [cell.row for cell in where.cells] == [0, 0, 1] and where.rows == 2
    assert [cell.orientation for cell in where.cells] == ["N", "N", "FS"]
    ends = [0.0, 0.0]
    for k in (1, 0, 2):  # in graywolf's order
        cell, width = where.cells[k], lef.macro(unit.instances[k].cell.name).width
        assert (cell.x / SITE).is_integer() and cell.y == cell.row * HEIGHT and cell.x >= ends[cell.row]
        ends[cell.row] = cell.x + width
    assert max(ends) <= where.core[2] and where.core[3] == 2 * HEIGHT
    assert where.area >= sum(lef.macro(i.cell.name).width for i in unit.instances) * HEIGHT / filled * 0.9


def test_pins_stand_on_tracks_of_their_own_at_the_edge(tmp_path):
    where = legal(netlist(), made(tmp_path), Core(), read_placed(PLACED))
    assert set(where.pins) == {2, 3, 4} and len({(pin.x, pin.y) for pin in where.pins.values()}) == 3
    assert where.pins[2].x == where.pins[3].x < where.core[0] and where.pins[4].x > where.core[2]
    assert all(pin.layer.name == "m3" and ((pin.y - 0.25) / 0.5).is_integer() for pin in where.pins.values())


def test_what_graywolf_does_not_give_is_one_line(tmp_path):
    with pytest.raises(InputError, match="placement cannot be read"):
        read_placed("u0 1 2 3\n")
    with pytest.raises(InputError, match="must have the cell u2"):
        legal(netlist(), made(tmp_path), Core(), read_placed(PLACED.replace("u2", "u7")))
    with pytest.raises(InputError, match=r"filled must be in 0\.3\.\.1, not 1\.2"):
        Core(1.2)
    assert placement.PROGRAM == "graywolf"
