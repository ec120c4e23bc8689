"""A netlist with its wires: what the tools are asked once, and what the wires cost."""

from dataclasses import asdict

import pytest

from cost_model.designs.design import PwlOptions, pwl_design
from cost_model.layout import layout, lef, placement, routing
from cost_model.layout.layout import lay_out
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow, synthesise
from sim.reference import InputError
from tests.cost_model.layout.small import PLACED, made, netlist
from tests.cost_model.layout.test_routing import ROUTED
from tests.cost_model.libraries import IHP, needs_ihp

missing = [name for name in layout.PROGRAMS if layout.shutil.which(name) is None]
needs_tools = pytest.mark.skipif(bool(missing), reason=f"{missing} must be installed: bash .ci/system-tools layout")


@pytest.fixture
def tools(monkeypatch):
    """The tools' answers without the tools; what they were asked."""
    asked: list[str] = []

    def place(cells, parameters, folder):
        asked.append("placement")
        return placement.read_placed(PLACED)

    def route(design, script, files, folder):
        asked.append("wires")
        return routing.read_wires(ROUTED, files, [6])

    monkeypatch.setattr(layout, "require_programs", lambda: None)
    monkeypatch.setattr(placement, "run", place)
    monkeypatch.setattr(routing, "run", route)
    return asked


def test_each_tool_is_asked_once_and_every_net_has_its_wires(tmp_path, tools):
    small = made(tmp_path)
    first = lay_out(netlist(), small, cache=tmp_path)
    again = lay_out(netlist(), small, cache=tmp_path)
    assert tools == ["placement", "wires"] and asdict(again.placement) == asdict(first.placement)
    assert first.wires.failed == (6,) and first.cell_area == pytest.approx((1 + 1.5 + 4) * 4)
    wired, plain = first.wired, first.netlist
    assert set(wired.wires) == {2, 3, 4, 5, 6} and wired.sha256 == plain.sha256
    extra = 4.0 * small.layers[0].capacitance
    assert wired.load_f(5) - plain.load_f(5) == pytest.approx(extra) and wired.load_f(3) == plain.load_f(3)
    assert set(first.without_wires.wires.values()) == {0.0}


def test_missing_tools_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(layout.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"graywolf and qrouter must be installed: bash \.ci/system-tools layout"):
        lay_out(netlist(), made(tmp_path), cache=tmp_path)


@needs_tools
@needs_ihp
@pytest.mark.slow
def test_a_unit_is_placed_and_routed_whole(tmp_path):
    folder = IHP.parent
    cells = lef.load(folder / "sg13g2_tech.lef", folder / "sg13g2_stdcell.lef")
    unit = pwl_design(PwlOptions(2, 4, stages=1)).device
    flow = Flow(IHP, 8e-9)
    laid = lay_out(synthesise(unit.verilog, unit.module, flow, tmp_path).netlist, cells, cache=tmp_path)
    assert not laid.wires.failed and laid.wires.length > 0
    assert set(laid.wires.lengths) == set(placement.terminals(laid.netlist))
    if timing.tool() is not None:
        slacks = [timing.analyse(one, flow, tmp_path).slack_s for one in (laid.wired, laid.without_wires)]
        assert slacks[0] < slacks[1]
