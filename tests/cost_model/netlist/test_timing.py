"""Times of a library in any unit, and the units in which OpenSTA is asked."""

import pytest

from cost_model.cells import library
from cost_model.designs.design import PwlOptions, pwl_design
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow, synthesise
from tests.cost_model.libraries import with_delays

PERIOD_S = 2e-9
UNITS = (("ns", "pf"), ("ps", "ff"))


@pytest.fixture(scope="module")
def netlists(tmp_path_factory):
    """A unit mapped to one library in two sets of units, with the flow of each."""
    folder = tmp_path_factory.mktemp("libraries")
    unit = pwl_design(PwlOptions(3, 4, stages=1)).device
    flows = [Flow(with_delays(folder, *units), PERIOD_S) for units in UNITS]
    return [(synthesise(unit.verilog, unit.module, flow, folder).netlist, flow) for flow in flows]


def test_a_library_in_ps_and_ff_is_one_in_ns_and_pf(tmp_path):
    first, second = (library.load(with_delays(tmp_path, *units)) for units in UNITS)
    assert first.has_delays and set(first.cells) == set(second.cells)
    for name, cell in first.cells.items():
        for pin, other in zip(cell.pins.values(), second.cells[name].pins.values(), strict=True):
            assert pin.capacitance_f == pytest.approx(other.capacitance_f)
            assert pin.delays(1e-15) == pytest.approx(other.delays(1e-15))
    assert max(first.cell("NAND2").pins["Y"].delays(1e-15)) == pytest.approx(40e-12)


def test_the_longest_path_and_the_netlist_do_not_depend_on_the_units(netlists):
    (first, _), (second, _) = netlists
    path = timing.longest_path(first)
    assert path == pytest.approx(timing.longest_path(second), rel=1e-9)
    assert 5 < path / 40e-12 == pytest.approx(round(path / 40e-12)), "a whole number of gates"


def test_opensta_is_asked_in_units_that_no_library_decides(netlists):
    for netlist, flow in netlists:
        lines = timing._script(netlist.top, flow).splitlines()
        units = lines.index("set_cmd_units -time ns -capacitance pF")
        read = [k for k, line in enumerate(lines) if line.startswith("read_liberty")]
        (period,) = (k for k, line in enumerate(lines) if "-period 2 " in line)
        assert max(read) < units < period, "a library that is read later would set its own"


@pytest.mark.skipif(timing.tool() is None, reason="OpenSTA is not installed: apt-get install opensta")
def test_the_slack_does_not_depend_on_the_units(netlists, tmp_path):
    (first, flow), (second, other) = netlists
    slack = timing.analyse(first, flow, tmp_path).slack_s
    assert slack == pytest.approx(timing.analyse(second, other, tmp_path).slack_s, abs=1e-12)
    setup, driver = 20e-12, 40e-12
    assert slack == pytest.approx(PERIOD_S - timing.longest_path(first) - setup, abs=driver + 11e-12)
