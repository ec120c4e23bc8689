"""Libraries as foundries give them: a unit is mapped to each, and its netlist gives every expected result."""

import json
from decimal import Decimal

import pytest

from cost_model import cli
from cost_model.cells import library
from cost_model.designs.design import PwlOptions, pwl_design
from cost_model.netlist.synthesis import Flow, synthesise
from cost_model.power.bit_parallel import flowing
from cost_model.power.gate_level import GateLevel
from sim.reference import InputError
from tests.cost_model.libraries import in_several_files, of_one_tie_cell, of_set_reset_flip_flops

SMALL = pwl_design(PwlOptions(3, 4, stages=1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cost")


def test_one_cell_may_give_both_constants_and_flip_flops_may_hold(tmp_path, cache):
    flow = Flow(of_one_tie_cell(tmp_path))
    assert flow.library.tie_cells == {"1": ("conb_1", "HI"), "0": ("conb_1", "LO")}
    netlist = synthesise(SMALL.device.verilog, "unit", flow, cache).netlist
    names = {instance.cell.name for instance in netlist.instances}
    assert "edfxtp_1" in names, "the table's registers hold"
    found, _ = flowing(netlist, SMALL.device, SMALL.work, SMALL.checks)
    gates = GateLevel(netlist, SMALL.device, "icarus", cache)
    assert gates.verify(SMALL.checks).vectors == SMALL.checks[0].size
    simulated = gates.activity(SMALL.work)
    assert all(abs(found.toggles[net] - count) <= 2 for net, count in simulated.toggles.items())


def test_a_library_may_come_in_several_files_with_inverted_flip_flops(tmp_path, cache):
    paths = in_several_files(tmp_path)
    cells = library.load(*paths)
    assert cells.name == "several" and {"NAND2", "DFFHQNx1"} <= set(cells.cells) and "DFF" not in cells.cells
    netlist = synthesise(SMALL.device.verilog, "unit", Flow(tuple(paths)), cache).netlist
    assert any(instance.cell.name == "DFFHQNx1" for instance in netlist.instances)
    flowing(netlist, SMALL.device, SMALL.work, SMALL.checks)
    GateLevel(netlist, SMALL.device, "icarus", cache).verify(SMALL.checks)
    assert sum((i.cell.area for i in netlist.instances), Decimal(0)) == netlist.area
    with pytest.raises(InputError, match=r"gates\.lib: cell \w+ is in another of the library's files too"):
        library.load(paths[0], paths[1], paths[0])


def test_leakage_is_read_from_its_groups_and_said_to_be_missing(tmp_path, cache, capsys):
    paths = in_several_files(tmp_path)
    cells = library.load(*paths)
    assert cells.cell("DFFHQNx1").leakage_w == pytest.approx((2 + 4) / 2 + 1)  # a supply each; the unit is 1 W
    assert cells.cell("NAND2").leakage_w is None
    netlist = synthesise(SMALL.device.verilog, "unit", Flow(tuple(paths)), cache).netlist
    assert netlist.leakage_w is None
    arguments = ["unit", "--in-width", "4", "--coef-width", "4", "--out-width", "4", "--entries", "3", "--stages", "1"]
    liberties = [word for path in paths for word in ("--liberty", str(path))]
    assert cli.main([*arguments, *liberties, "--cache", str(cache), "--simulator", "bit-parallel", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["leakage_w"] is None


def test_set_and_reset_are_tied_off_and_three_state_outputs_and_latches_of_area_0_are_not_used(tmp_path, cache):
    flow = Flow(of_set_reset_flip_flops(tmp_path))
    assert "TBUFX1" not in flow.library.cells and flow.library.latch is None
    netlist = synthesise(SMALL.device.verilog, "unit", flow, cache).netlist
    flops = [instance for instance in netlist.instances if instance.cell.state]
    assert {flop.cell.name for flop in flops} == {"DFFSR"}
    flowing(netlist, SMALL.device, SMALL.work, SMALL.checks)
    assert GateLevel(netlist, SMALL.device, "icarus", cache).verify(SMALL.checks).vectors == SMALL.checks[0].size
    latched = pwl_design(PwlOptions(3, 4, stages=1, storage="latches"))
    with pytest.raises(InputError, match="the area of cell DLATCH is unknown"):
        synthesise(latched.device.verilog, "unit", flow, cache)
