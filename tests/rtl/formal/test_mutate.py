"""The vectors find the faults of a netlist, survivors are judged by proof alone, and the simulator tells truth."""

import json

import numpy as np
import pytest

from rtl.formal import mutate as module
from rtl.formal.mutate import Fault, main, mutate, passed
from rtl.formal.netlist import Netlist, differ, of_copy_0
from rtl.formal.stimulus import STALLS, cycles, random_lowered
from rtl.pwl import PwlConfig
from sim.cosim.cocotb_tests import protocol

SMALL = PwlConfig(entries=4, in_bits=4, coef_bits=4, out_bits=4)


@pytest.mark.slow
def test_at_least_95_of_100_faults_of_the_8_bit_unit_are_killed(capsys):
    assert main(["--json", "--tables", "10"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 100 and sum(row["outcome"] == "killed" for row in rows) >= 95


def test_the_same_seed_gives_the_same_faults():
    assert mutate(SMALL, 10, 1, 1) == mutate(SMALL, 10, 1, 1)


def test_vectors_that_send_nothing_kill_nothing_and_the_command_exits_with_1(monkeypatch, capsys):
    idle = dict.fromkeys(("i__valid", "i__payload", "o__ready", "rst"), 0)
    monkeypatch.setattr(module, "cycles", lambda *_: (step for step in [idle | {"rst": 1}, idle, idle]))
    monkeypatch.setattr(module, "equivalence", lambda *_: "refuted")
    assert main(["--width", "4", "--entries", "2", "--count", "10"]) == 1
    out = capsys.readouterr().out
    assert out.count("survived (refuted): mutate -mode") >= 5


def test_a_code_that_is_offered_stays_offered_until_it_is_taken_and_every_code_is():
    rng = np.random.default_rng(0)
    steps = cycles(rng, SMALL, 4)
    before, taken, sent, held = next(steps), False, [], 0
    while True:
        try:
            step = steps.send(taken)
        except StopIteration:
            break
        if before["i__valid"] and not taken:
            assert (step["i__valid"], step["i__payload"]) == (1, before["i__payload"])
            held += 1
        taken = bool(step["i__valid"] and rng.random() < 0.5)
        sent += [step["i__payload"]] * taken
        before = step
    assert held > 20 and [sorted(sent[k : k + 16]) for k in range(0, 64, 16)] == [list(range(16))] * 4


def test_a_netlist_that_differs_from_the_reference_is_an_error_and_no_score(monkeypatch):
    good = module._expected
    monkeypatch.setattr(module, "_expected", lambda *arguments: good(*arguments) ^ 1)
    with pytest.raises(RuntimeError, match="differs from the reference"):
        mutate(SMALL, 5)


def gates(cells: dict[str, tuple[str, dict]], ports: dict[str, tuple[str, list]]) -> str:
    """yosys' JSON of a small module `top`."""
    module = {
        "ports": {name: {"direction": flow, "bits": bits} for name, (flow, bits) in ports.items()},
        "cells": {
            n: {"type": kind, "connections": {p: [b] for p, b in pins.items()}} for n, (kind, pins) in cells.items()
        },
    }
    return json.dumps({"modules": {"top": module}})


def test_every_gate_of_the_simulator_has_its_truth_table():
    truth = {"AND": 8, "OR": 14, "XOR": 6, "NAND": 7, "NOR": 1, "XNOR": 9, "ANDNOT": 2, "ORNOT": 11}
    for name, table in truth.items():
        text = gates({"g": (f"$_{name}_", {"A": 2, "B": 3, "Y": 4})}, {"a": ("input", [2, 3]), "y": ("output", [4])})
        netlist = Netlist(text, "top", 4)
        netlist.drive(a=[0b1010, 0b1100])  # copy k sees a = k
        netlist.settle()
        assert netlist.read("y") == [table], name
    text = gates({"g": ("$_MUX_", {"A": 2, "B": 3, "S": 4, "Y": 5}), "n": ("$_NOT_", {"A": 5, "Y": 6})},
                 {"a": ("input", [2, 3, 4]), "y": ("output", [5, 6])})  # fmt: skip
    netlist = Netlist(text, "top", 8)
    netlist.drive(a=[0xAA, 0xCC, 0xF0])
    netlist.settle()
    assert netlist.read("y") == [0xCA, 0x35]


def test_flip_flops_take_their_inputs_together():
    cells = {"f": ("$_DFF_P_", {"C": 9, "D": 2, "Q": 3}), "g": ("$_DFF_P_", {"C": 9, "D": 3, "Q": 4})}
    netlist = Netlist(gates(cells, {"d": ("input", [2]), "q": ("output", [3, 4])}), "top", 1)
    seen = []
    for value in (1, 0, 0):
        netlist.drive(d=value)
        netlist.settle()
        netlist.clock()
        seen.append(of_copy_0(netlist.read("q")))
    assert seen == [1, 2, 0]
    assert differ([0b0101, 0b1111], 0b1111) == 0b1010


def test_a_flip_flop_whose_clock_is_stuck_in_a_copy_is_held_there_alone():
    cells = {"n": ("$_OR_", {"A": 9, "B": 5, "Y": 6}), "f": ("$_DFF_P_", {"C": 6, "D": 2, "Q": 3})}
    ports = {"d": ("input", [2]), "clk": ("input", [9]), "fault": ("input", [5]), "q": ("output", [3])}
    netlist = Netlist(gates(cells, ports), "top", 2)
    netlist.drive(fault=[0b10], d=1)
    netlist.stop_clocks()
    netlist.settle()
    netlist.clock()
    assert netlist.read("q") == [0b01]


@pytest.mark.slow
def test_every_fault_of_a_narrow_unit_is_seen():
    """Its codes are few, so that an entry is seldom reached and a carry seldom decides a result."""
    faults = mutate(PwlConfig(entries=8, in_bits=4, coef_bits=4, out_bits=4), 200, 3)
    assert {fault.outcome for fault in faults} == {"killed"}


def test_nothing_passes_where_no_fault_is_real_or_too_few_are_killed(monkeypatch, capsys):
    def faults(**outcomes: int) -> list[Fault]:
        return [Fault(0, "mutate", outcome) for outcome, count in outcomes.items() for _ in range(count)]

    assert passed(faults(killed=19, survived=1, equivalent=80)) and passed(faults(killed=1))
    assert not passed(faults(killed=18, survived=1)) and not passed(faults(equivalent=5)) and not passed([])
    monkeypatch.setattr(module, "mutate", lambda *_: faults(equivalent=5))
    assert main(["--count", "5"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("0 killed, 5 equivalent, 0 survived") and "nothing was shown" in captured.err


def test_a_netlist_with_fewer_faults_than_asked_for_is_one_line_and_exit_code_2(monkeypatch, capsys):
    def few(folder, script, *_):
        if script == "list.ys":
            lines = [f"mutate -mode inv -module unit -cell x -port {port} -ctrlbit 0" for port in "CCYA"]
            (folder / "faults.txt").write_text("\n".join(lines))

    monkeypatch.setattr(module, "yosys", few)
    assert main(["--count", "3"]) == 2
    assert capsys.readouterr().err == "error: --count must be at most 2 for this unit, not 3\n"


def test_the_stalls_are_those_of_the_bench_on_the_unit_s_ports():
    assert STALLS == protocol.STALLS


def test_a_bad_count_is_one_line_and_exit_code_2(capsys):
    assert main(["--count", "0"]) == 2
    assert capsys.readouterr().err == "error: --count must be in 1..1000, not 0\n"


def test_tables_of_edges_have_sums_on_both_sides_of_a_power_of_two_that_is_outside_the_codes():
    config, rng = PwlConfig(), np.random.default_rng(0)
    beside = []
    for _ in range(20):
        lowered = random_lowered(rng, config, results="edges")
        sums = np.abs(lowered.accumulate(lowered.codes()))
        powers = 1 << np.arange(7 + lowered.output_shift, 15)
        beside.append((np.abs(sums - powers[:, None]).min(1) < 4 + (1 << lowered.intercept_shift)).any())
    assert sum(beside) >= 15
