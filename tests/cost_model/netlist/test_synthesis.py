"""Synthesis: areas that add up, and nothing incomplete."""

import json
from fractions import Fraction

import pytest

from cost_model.cells import library
from cost_model.designs.design import PwlOptions, pwl_design
from cost_model.netlist import synthesis
from cost_model.netlist.breakdown import kept_wires, parts
from cost_model.netlist.netlist import Netlist
from cost_model.netlist.synthesis import Flow, synthesise, synthesise_all
from sim.reference import InputError
from tests.cost_model.libraries import IHP, needs_ihp, without, without_area

SMALL = pwl_design(PwlOptions(4, 4, stages=2))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cost")


def areas(path) -> dict[str, str]:
    """Cell areas as the file writes them, found without our parser."""
    found, cell = {}, ""
    for line in path.read_text().splitlines():
        if line.strip().startswith("cell ("):
            cell = line.split("(")[1].split(")")[0]
        if line.strip().startswith("area :") and cell not in found and cell:
            found[cell] = line.split(":")[1].strip(" ;")
    return found


@pytest.mark.parametrize("liberty", [pytest.param(None, id="gate equivalents"), pytest.param(IHP, marks=needs_ihp)])
def test_area_is_the_sum_over_the_cells_exactly(cache, liberty):
    flow = Flow() if liberty is None else Flow(liberty, 8e-9)
    made = synthesise(SMALL.device.verilog, "unit", flow, cache)
    by_name = areas(flow.liberty)
    total = sum(Fraction(by_name[instance.cell.name]) for instance in made.netlist.instances)
    assert Fraction(made.netlist.area) == total > 0
    assert made.source["netlist_sha256"] == made.netlist.sha256


def test_parts_add_up_to_the_unit(cache):
    whole = synthesise(SMALL.device.verilog, "unit", Flow(), cache).netlist
    kept = synthesise(SMALL.device.verilog, "unit", Flow(keep=kept_wires(SMALL.device.verilog)), cache).netlist
    found = parts(whole, kept, {}, 0.0)
    assert sum(part.area for part in found) == whole.area
    by_name = {part.component: part.area for part in found}
    flop = library.load().cell("DFF").area
    assert by_name["table"] >= flop * (3 * 4 + 2 * 4 * 4), "3 thresholds, 4 slopes and intercepts, 4 bits each"
    assert {"comparators", "selection", "multiplier", "adder", "shifter", "rounding"} <= set(by_name)
    assert abs(by_name["shared"]) < whole.area / 10


def test_the_cache_gives_the_same_netlist(cache, monkeypatch):
    first = synthesise(SMALL.device.verilog, "unit", Flow(), cache)
    monkeypatch.setattr(synthesis, "yosys", None)  # a second run would fail
    assert synthesise(SMALL.device.verilog, "unit", Flow(), cache).netlist.sha256 == first.netlist.sha256
    assert synthesise_all([(SMALL.device.verilog, "unit")] * 2, Flow(), cache)[1].area == first.area


@pytest.mark.parametrize(
    ("cell", "storage", "message"),
    [("DFF", "flops", "D flip-flops are not supported"), ("DLATCH", "latches", "D latches are not supported")],
)
def test_a_library_without_a_needed_cell_is_one_line(cache, tmp_path, cell, storage, message):
    design = pwl_design(PwlOptions(4, 4, stages=2, storage=storage))
    with pytest.raises(InputError, match=message) as caught:
        synthesise(design.device.verilog, "unit", Flow(without(tmp_path, cell)), cache)
    assert "\n" not in str(caught.value)


def test_a_cell_of_unknown_area_is_one_line(cache, tmp_path):
    with pytest.raises(InputError, match="the area of cell DFF is unknown"):
        synthesise(SMALL.device.verilog, "unit", Flow(without_area(tmp_path, "DFF")), cache)


def module(cells, nets=None) -> dict:
    ports = {"y": {"direction": "output", "bits": [3]}, "a": {"direction": "input", "bits": [2]}}
    return {"ports": ports, "cells": cells, "netnames": nets or {}}


INVERTER = {"type": "INV", "connections": {"A": [2], "Y": [3]}}


def test_a_hierarchical_top_is_refused_not_weighed_as_0():
    inner = {"type": "inner", "connections": {"a": [2], "y": [3]}}
    content = {"modules": {"unit": module({"u": inner}), "inner": module({"g": INVERTER})}}
    with pytest.raises(InputError, match="must be flat, but unit instantiates the module inner"):
        Netlist.from_dict(content, "unit", library.load())
    with pytest.raises(InputError, match="it is empty"):
        Netlist.from_dict({"modules": {"unit": module({})}}, "unit", library.load())
    with pytest.raises(InputError, match="cell MYSTERY is missing"):
        Netlist.from_dict({"modules": {"unit": module({"u": {**INVERTER, "type": "MYSTERY"}})}}, "unit", library.load())


def test_a_net_that_nothing_drives_is_refused():
    loose = {"type": "INV", "connections": {"A": [7], "Y": [3]}}
    with pytest.raises(InputError, match="1 nets of unit are read but driven by nothing"):
        Netlist.from_dict({"modules": {"unit": module({"g": loose})}}, "unit", library.load())


@pytest.mark.parametrize("fault", ["log", "netlist", "statistics", "area"])
def test_nothing_incomplete_is_taken_for_a_result(tmp_path, fault):
    log = "ABC RESULTS: 1\nEnd of script." if fault != "log" else "ABC: + strash"
    text = json.dumps({"modules": {"unit": module({"g": INVERTER})}})
    (tmp_path / "netlist.json").write_text(text[: 40 if fault == "netlist" else None])
    said = {"modules": {"\\unit": {"area": 0.0 if fault == "area" else 0.67}}}
    (tmp_path / "stat.json").write_text(json.dumps(said)[: 5 if fault == "statistics" else None])
    with pytest.raises(InputError, match=r"^synthesis: "):
        synthesis.complete(tmp_path, log, "unit", library.load())


def test_a_complete_run_is_taken(tmp_path):
    text = json.dumps({"modules": {"unit": module({"g": INVERTER})}})
    (tmp_path / "netlist.json").write_text(text)
    (tmp_path / "stat.json").write_text(json.dumps({"modules": {"\\unit": {"area": 0.67}}}))
    assert synthesis.complete(tmp_path, "ABC RESULTS: 1", "unit", library.load()) == text


@pytest.mark.parametrize("field", [{"multiplier": "magic"}, {"adder": "magic"}, {"period_s": 0.0}])
def test_a_flow_that_is_none_is_refused(field):
    with pytest.raises(InputError, match="must be"):
        Flow(**field)
