"""The bit-parallel evaluation against a simulator: the same toggles, the same verdicts."""

from dataclasses import replace

import pytest

from cost_model.designs.design import PwlOptions, float_design, pwl_design
from cost_model.designs.normaliser import normaliser_design
from cost_model.designs.processing_element import element_design, requant_design
from cost_model.netlist.netlist import Instance
from cost_model.netlist.synthesis import Flow, synthesise
from cost_model.power.bit_parallel import flowing
from cost_model.power.gate_level import GateLevel, GateLevelError
from rtl.pwl import PwlConfig
from sim.reference.floating import FloatFormat
from tests.cost_model.power.mutants import equivalent, mutants


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cost")


DESIGNS = {
    "integer": lambda: pwl_design(PwlOptions(4, 5, stages=2)),
    "latches": lambda: pwl_design(PwlOptions(3, 4, stages=1, storage="latches")),
    "wired in": lambda: pwl_design(PwlOptions(4, 4, stages=2, storage="constants")),
    "float": lambda: float_design(FloatFormat(4, 4), 3, 3),
    "float, wired in": lambda: float_design(FloatFormat(4, 4), 3, 3, "constants"),
    "element": lambda: element_design("W2A8"),
    "requantiser": lambda: requant_design(2, in_bits=12, multiplier_bits=4, max_shift=8, out_bits=4),
    "normaliser": lambda: normaliser_design("div", 4, 12, 3),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_toggles_equal_those_of_a_simulator(cache, name):
    design = DESIGNS[name]()
    design = replace(design, work=design.work.head(600))
    netlist = synthesise(design.device.verilog, "unit", Flow(), cache).netlist
    found, verified = flowing(netlist, design.device, design.work, design.checks)
    simulated = GateLevel(netlist, design.device, "icarus", cache).activity(design.work)
    assert found.cycles == simulated.cycles and verified.netlist_sha256 == netlist.sha256
    for net in set(found.toggles) | set(simulated.toggles):  # the ends of the window may be counted or not
        assert abs(found.toggles.get(net, 0) - simulated.toggles.get(net, 0)) <= 2


def test_a_wrong_netlist_is_found(cache):
    design = pwl_design(PwlOptions(4, 4, stages=2))
    netlist = synthesise(design.device.verilog, "unit", Flow(), cache).netlist
    k = next(k for k, i in enumerate(netlist.instances) if i.cell.name == "XOR2")
    right = netlist.instances[k]
    wrong = Instance(right.name, netlist.library.cell("XNOR2"), right.nets)
    faulty = replace(netlist, instances=(*netlist.instances[:k], wrong, *netlist.instances[k + 1 :]))
    with pytest.raises(GateLevelError, match=r"results differ, the first: \{'vector'"):
        flowing(faulty, design.device, design.work, design.checks)


def test_results_that_come_late_are_found(cache):
    design = pwl_design(PwlOptions(4, 4, stages=2))
    netlist = synthesise(design.device.verilog, "unit", Flow(), cache).netlist
    with pytest.raises(GateLevelError, match="do not come one per cycle after 3 cycles"):
        flowing(netlist, replace(design.device, latency=3), design.work, ())


def survivors(options: PwlOptions, seed: int, count: int, cache, folder) -> tuple[list[str], list[str]]:
    """The mutants of a unit's netlist that pass all its vectors: those that are proved equivalent, and the others."""
    design = pwl_design(options)
    design = replace(design, work=design.work.head(600))
    netlist = synthesise(design.device.verilog, "unit", Flow(), cache).netlist
    config = PwlConfig.from_dict(design.work.configuration)
    harmless, missed = [], []
    for label, wrong in mutants(netlist, seed, count):
        try:
            flowing(wrong, design.device, design.work, design.checks)
        except GateLevelError:
            continue
        (harmless if equivalent(netlist, wrong, config, folder) else missed).append(label)
    return harmless, missed


@pytest.mark.slow
def test_every_mutant_that_passes_the_vectors_is_proved_to_be_no_fault(cache, tmp_path):
    harmless, missed = survivors(PwlOptions(4, 4, stages=1), 1, 60, cache, tmp_path)
    assert missed == [] and harmless


@pytest.mark.slow
def test_of_many_mutants_one_in_fifty_at_most_is_missed(cache, tmp_path):
    _, missed = survivors(PwlOptions(4, 4, stages=1), 2, 300, cache, tmp_path)
    assert len(missed) <= 6, missed


def test_a_fault_of_the_stall_logic_or_of_the_reset_is_found(cache):
    design = pwl_design(PwlOptions(4, 4, stages=1))
    netlist = synthesise(design.device.verilog, "unit", Flow(), cache).netlist
    [ready], [reset] = (netlist.ports[name][1] for name in ("o__ready", "rst"))
    for port in (ready, reset):  # a gate that reads one of them reads a constant instead
        for k, right in enumerate(netlist.instances):
            for pin, net in right.read.items():
                if net == port:
                    for value in "01":
                        wrong = Instance(right.name, right.cell, {**right.nets, pin: value})
                        changed = (*netlist.instances[:k], wrong, *netlist.instances[k + 1 :])
                        with pytest.raises(GateLevelError):
                            flowing(replace(netlist, instances=changed), design.device, design.work, design.checks)
