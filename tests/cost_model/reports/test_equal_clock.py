"""Stage counts belong to a library and a period: for any other they are counted anew, or said to be unchecked."""

import pytest

from cost_model import cli
from cost_model.designs.design import pwl_design
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow, synthesise
from cost_model.netlist.timing import Timing
from cost_model.reports import equal_clock
from tests.cost_model.libraries import IHP, needs_ihp

SMALL = ["unit", "--in-width", "4", "--coef-width", "4", "--out-width", "4", "--entries", "4", "--simulator"]


@needs_ihp
def test_a_clock_that_nobody_checked_is_said(monkeypatch):
    monkeypatch.setattr(timing, "tool", lambda: None)
    assert equal_clock.unchecked(Flow()) is None and equal_clock.unchecked(Flow(IHP, 8e-9)) is None
    warning = equal_clock.unchecked(Flow(IHP, 4e-9))
    assert warning is not None and "at 4 ns: the clock was not checked" in warning
    assert equal_clock.stage_count("pwl", "INT8", 8, Flow(IHP, 4e-9)) == 1


@needs_ihp
def test_stages_are_counted_for_another_period_if_there_is_a_tool(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "tool", lambda: "sta")
    monkeypatch.setattr(timing, "fewest_stages", lambda make, flow, start, deepest, cache: (start + 2, None))
    assert equal_clock.stage_count("pwl", "INT8", 8, Flow(IHP, 4e-9), tmp_path) == 3
    assert equal_clock.stage_count("pwl", "INT8", 8, Flow(IHP, 8e-9), tmp_path) == 1
    assert equal_clock.stage_count("pwl", "INT8", 8, Flow(), tmp_path) == 1
    assert equal_clock.unchecked(Flow(IHP, 4e-9)) is None


@needs_ihp
@pytest.mark.parametrize("installed", [False, True])
def test_a_period_that_is_missed_is_warned_of_and_one_that_is_met_is_not(installed, monkeypatch, tmp_path):
    netlist = synthesise(pwl_design(4, 4, stages=1).device.verilog, "unit", Flow(IHP, 8e-9), tmp_path).netlist
    assert 5e-10 < timing.longest_path(netlist) < 8e-9
    monkeypatch.setattr(timing, "tool", lambda: "sta" if installed else None)
    monkeypatch.setattr(timing, "analyse", lambda n, flow, cache: Timing(flow.period_s - 3e-9, "", "", ""))
    assert timing.missed_period(netlist, Flow(IHP, 8e-9), tmp_path) is None
    assert timing.missed_period(netlist, Flow(), tmp_path) is None
    warning = timing.missed_period(netlist, Flow(IHP, 0.5e-9), tmp_path)
    assert warning is not None and "the unit misses 0.5 ns: it needs about" in warning
    assert ("(OpenSTA)" in warning) == installed


@needs_ihp
def test_the_unit_command_warns_of_its_period(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, "tool", lambda: None)
    arguments = ["bit-parallel", "--stages", "1", "--liberty", str(IHP), "--cache", str(tmp_path), "--period", "0.5"]
    assert cli.main([*SMALL, *arguments]) == 0
    assert "warning: the unit misses 0.5 ns" in capsys.readouterr().err
