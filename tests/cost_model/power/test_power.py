"""Toggles and power: netlists that pass their vectors, in two simulators, and nothing from one that does not."""

from dataclasses import replace

import numpy as np
import pytest

from cost_model.designs.design import PwlOptions, pwl_design
from cost_model.netlist.netlist import Instance
from cost_model.netlist.synthesis import Flow, synthesise
from cost_model.power.gate_level import GLITCHES, Activity, GateLevel, GateLevelError, Verified
from cost_model.power.power import PowerParameters, power
from sim.reference import InputError
from tests.cost_model.libraries import IHP, needs_ihp

INT8 = pwl_design(PwlOptions(8, 8, stages=1))
SMALL = pwl_design(PwlOptions(4, 4, stages=1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cost")


@pytest.fixture(scope="module")
def small(cache):
    return synthesise(SMALL.device.verilog, "unit", Flow(), cache).netlist


@pytest.mark.slow
def test_toggles_agree_between_the_simulators_within_one_percent(cache):
    netlist = synthesise(INT8.device.verilog, "unit", Flow(), cache).netlist
    work = INT8.work.head(500)
    found = {}
    for simulator in ("icarus", "verilator"):
        gates = GateLevel(netlist, INT8.device, simulator, cache)
        found[simulator] = gates.activity(work)  # which compares every result
    icarus, verilator = (found[s].toggles for s in ("icarus", "verilator"))
    assert found["icarus"].cycles == found["verilator"].cycles == work.size + INT8.stages
    assert sum(verilator.values()) == pytest.approx(sum(icarus.values()), rel=0.01)
    nets = np.array([[icarus.get(net, 0), verilator.get(net, 0)] for net in set(icarus) | set(verilator)])
    assert abs(nets[:, 0] - nets[:, 1]).max() <= 2, "Verilator's file begins with 0, and may end a step later"


def test_a_wrong_netlist_gives_no_figure(cache, small):
    kinds = {"XOR2": "XNOR2", "XNOR2": "XOR2"}
    places = [k for k, i in enumerate(small.instances) if i.cell.name in kinds][::7]
    assert len(places) >= 3
    for k in places:
        right = small.instances[k]
        wrong = Instance(right.name, small.library.cell(kinds[right.cell.name]), right.nets)
        faulty = replace(small, instances=(*small.instances[:k], wrong, *small.instances[k + 1 :]))
        assert faulty.sha256 != small.sha256
        with pytest.raises(GateLevelError, match="results differ, the first"):
            GateLevel(faulty, SMALL.device, "icarus", cache).verify([SMALL.work, *SMALL.checks])


def test_toggles_or_vectors_of_another_netlist_are_refused(small):
    mine, other = small.sha256, "0" * 64
    with pytest.raises(InputError, match="toggles belong to another netlist"):
        power(small, Activity(other, "", "", 1, {}), Verified(mine, "", 1))
    with pytest.raises(InputError, match="verified vectors belong to another netlist"):
        power(small, Activity(mine, "", "", 1, {}), Verified(other, "", 1))


def measured(netlist, design, cache, **parameters):
    gates = GateLevel(netlist, design.device, "icarus", cache)
    verified = gates.verify([design.work, *design.checks])
    return power(netlist, gates.activity(design.work), verified, PowerParameters(**parameters))


def test_the_shipped_library_gives_a_proxy_and_no_watts(cache, small):
    found = measured(small, SMALL, cache)
    assert found.energy > 0 and not found.physical
    with pytest.raises(InputError, match="not watts"):
        found.watts(1e8)


def test_each_parameter_acts_where_it_says(cache, small):
    plain = measured(small, SMALL, cache)
    assert measured(small, SMALL, cache, gated=0.5).clock == pytest.approx(0.5 * plain.clock)
    assert measured(small, SMALL, cache, activity=0.5).clock == plain.clock
    assert measured(small, SMALL, cache, activity=0.5).logic == pytest.approx(0.5 * plain.logic)
    glitchy = measured(small, SMALL, cache, glitches=2.0)
    assert plain.logic < glitchy.logic <= 2 * plain.logic and glitchy.registers == plain.registers
    assert sum(plain.by_instance.values()) <= plain.energy
    for name, value in (("glitches", 0.5), ("activity", 1.5), ("gated", -1.0), ("wire_load_f", 1.0)):
        with pytest.raises(InputError, match="must be in"):
            PowerParameters(**{name: value})


@needs_ihp
def test_power_in_watts_follows_from_toggles_by_hand(cache):
    netlist = synthesise(SMALL.device.verilog, "unit", Flow(IHP, 8e-9), cache).netlist
    gates = GateLevel(netlist, SMALL.device, "icarus", cache)
    work, verified = gates.activity(SMALL.work), gates.verify([SMALL.work])
    found = power(netlist, work, verified)
    flops = [i for i in netlist.instances if i.cell.state]
    clock = flops[0].cell.pins["CLK"]
    assert found.clock == pytest.approx(len(flops) * 2 * (clock.energy + 0.72 * clock.capacitance_f))
    by_hand = sum(
        work.toggles.get(net, 0) / work.cycles
        * (i.cell.pins[pin].energy + 0.72 * sum(s.cell.pins[p].capacitance_f for s, p in netlist.sinks.get(net, [])))
        for i in flops for pin, net in i.driven.items()
    ) + sum(work.toggles.get(i.read["D"], 0) / work.cycles * i.cell.pins["D"].energy for i in flops)  # fmt: skip
    assert found.registers == pytest.approx(by_hand, rel=0.01)
    assert found.watts(125e6) == pytest.approx(
        found.energy * 125e6 + sum(i.cell.leakage_w or 0 for i in netlist.instances)
    )
    assert measured(netlist, SMALL, cache, wire_load_f=5e-15).energy > found.energy


@pytest.mark.parametrize(
    "options", [{"storage": "latches"}, {"storage": "constants"}, {"stalls": False}, {"output_shift_fixed": True}]
)
def test_every_variant_of_the_unit_passes_its_vectors(cache, options):
    design = pwl_design(PwlOptions(4, 4, stages=2, **options))
    netlist = synthesise(design.device.verilog, "unit", Flow(), cache).netlist
    verified = GateLevel(netlist, design.device, "icarus", cache).verify([design.work, *design.checks], design.stalls)
    assert verified.vectors >= design.work.size and verified.netlist_sha256 == netlist.sha256


def test_glitches_need_delays(small):
    with pytest.raises(InputError, match="glitches need a library with delays"):
        GateLevel(small, SMALL.device, GLITCHES)


@needs_ihp
def test_glitches_cost_power_in_the_logic_and_none_in_the_clock(cache):
    netlist = synthesise(SMALL.device.verilog, "unit", Flow(IHP, 8e-9), cache).netlist
    work = SMALL.work.head(200)
    found = []
    for simulator in ("icarus", GLITCHES):
        gates = GateLevel(netlist, SMALL.device, simulator, cache)
        found.append(power(netlist, gates.activity(work), gates.verify([work])))
    settled, glitchy = found
    assert settled.clock == glitchy.clock and settled.registers == pytest.approx(glitchy.registers, rel=0.05)
    assert settled.logic * 1.1 < glitchy.logic < settled.logic * 10
    assert "delays" in glitchy.source["toggles"] and "delays" not in settled.source["toggles"]
