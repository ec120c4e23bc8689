"""The array's bench in the simulators: layers pass with the formula's cycles, and what is wrong is found."""

import dataclasses
import re
from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Signal

from rtl.array import columns
from rtl.array.columns import Columns
from rtl.array.config import ArrayConfig
from rtl.array.controller import Controller
from rtl.array.fetch import Waiting
from rtl.array.gemm import Gemm
from rtl.array.operands import reading_order
from sim.cosim.dut import Device
from sim.cosim.options import BenchOptions
from sim.cosim.run_array import array_device, run_array
from sim.reference.gemm import WEIGHT_BITS
from sim.vectors.array import ArraySet
from sim.vectors.array_suite import GROUPS, SHAPE, array_suite, random_array_set
from tests.rtl.array.faults import dropped_carry

SETS = {vectors.name: vectors for vectors in array_suite(seed=1)}
RNG = np.random.default_rng(5)
SMALL = random_array_set(
    "small", RNG, ArrayConfig(3, 2, 4, False, 8, True, group=5, max_inputs=32, depth=4), (5, 14, 3), seed=5
)


def test_stalls_and_resets_in_mid_stream_lose_nothing_and_leave_nothing_behind():
    for operands in ("stream", "memory"):
        vectors = dataclasses.replace(SMALL, configuration={**SMALL.configuration, "operands": operands})
        unit = array_device(vectors)
        for stall_seed, resets in ((0, 5), (3, 5), (4, 0)):
            outcome = run_array(vectors, BenchOptions("icarus", stall_seed=stall_seed, resets=resets, dut=unit))
            assert outcome.passed and outcome.vectors == SMALL.size, outcome
        for stall_seed in (0, 6):
            outcome = run_array(vectors, BenchOptions("icarus", stall_seed=stall_seed, repeats=3, dut=unit))
            assert outcome.passed and outcome.vectors == SMALL.size, outcome


UNIT = array_device(SMALL)
HEADER = re.search(r"module unit\((.*?)\);", UNIT.verilog, re.S)
assert HEADER is not None
PORTS = [port.strip() for port in HEADER.group(1).split(",")]
BODY = UNIT.verilog[UNIT.verilog.index("module unit(") :]


def declared(port: str) -> str:
    """The port as the unit declares it, direction and width."""
    found = re.search(rf"^\s*((?:input|output)\s+(?:\[\d+:\d+\]\s*)?{port})\s*;", BODY, re.M)
    assert found is not None
    return found.group(1)


def around(logic: str, **connected: str) -> Device:
    """The array in a module that tampers with its ports: those in `connected` go to its own expressions."""
    ports = ", ".join(map(declared, PORTS))
    connections = ", ".join(f".{port}({connected.get(port, port)})" for port in PORTS)
    inner = UNIT.verilog.replace("module unit(", "module inner(")
    text = f"{inner}\nmodule unit({ports});\n{logic}\n  inner core({connections});\nendmodule\n"
    return dataclasses.replace(UNIT, verilog=text)


def problem(unit: Device, resets: int = 0, jobs: int = 1) -> str:
    """What the bench says of an array that gives the right codes."""
    outcome = run_array(SMALL, BenchOptions("icarus", dut=unit, resets=resets, repeats=jobs))
    assert not outcome.passed and outcome.problem is not None
    return outcome.problem


def test_an_array_in_a_module_that_changes_nothing_passes():
    assert run_array(SMALL, BenchOptions("icarus", dut=around(""))).passed


@pytest.mark.parametrize("stream", ["w", "a", "g", "c"])
def test_an_operand_that_is_left_untaken_is_found(stream):
    beats = len(reading_order(SMALL.config, SMALL.layer, 5)[stream])
    unit = around(
        f"wire own; reg [31:0] n; assign {stream}__ready = own && n != {beats - 1};"
        f"always @(posedge clk) if (rst) n <= 0; else if ({stream}__valid && {stream}__ready) n <= n + 1;",
        **{f"{stream}__ready": "own"},
    )
    assert problem(unit) == "1 beats of operands were not taken"
    assert not run_array(SMALL, BenchOptions("icarus", repeats=2, dut=unit)).passed


def test_a_result_too_many_is_found():
    top = UNIT.out_bits - 1
    unit = around(
        f"wire own; reg [31:0] n; reg [{top}:0] kept; wire [{top}:0] code;"
        f"assign o__valid = own | n == {len(SMALL.beats)}; assign o__payload = own ? code : kept;"
        "always @(posedge clk) if (rst) n <= 0; else if (o__valid && o__ready) begin n <= n + 1; kept <= code; end",
        o__valid="own",
        o__payload="code",
    )
    assert problem(unit) == "1 beats too many"


def test_results_without_end_are_found_and_leave_no_reset_in_mid_stream():
    unit = around("assign o__valid = 1;", o__valid="")
    assert re.fullmatch(r"\d+ beats too many", problem(unit))
    assert problem(unit, resets=4) == "0 of 4 resets came in mid-stream"


@pytest.mark.parametrize("rst", ["rst & ($time < 12)", "late"], ids=["ignored", "late"])
@pytest.mark.parametrize("stall_seed", [0, 1])
def test_a_reset_that_is_ignored_or_a_cycle_late_is_found(rst, stall_seed):
    unit = around("reg late; always @(posedge clk) late <= rst;", rst=rst)
    outcome = run_array(SMALL, BenchOptions("icarus", dut=unit, stall_seed=stall_seed, resets=4))
    assert not outcome.passed


def test_tags_without_a_reset_are_found(monkeypatch):
    class Unreset:
        like = staticmethod(Signal.like)

        def __new__(cls, *arguments, name=None, **options):
            options |= {"name": name} if name else {}
            options |= {"reset_less": True} if name and name.startswith("tag_") else {}
            return Signal(*arguments, **options, src_loc_at=1)

    monkeypatch.setattr(columns, "Signal", Unreset)
    unit = array_device(SMALL)
    assert unit.verilog != UNIT.verilog
    assert not run_array(SMALL, BenchOptions("icarus", dut=unit, resets=4)).passed


def test_a_fault_that_shows_only_in_the_second_job_is_found():
    bit = f"assign o__payload = code ^ (n >= {len(SMALL.beats)});"
    unit = around(
        f"wire [{UNIT.out_bits - 1}:0] code; reg [31:0] n; {bit}"
        "always @(posedge clk) if (rst) n <= 0; else if (o__valid && o__ready) n <= n + 1;",
        o__payload="code",
    )
    assert run_array(SMALL, BenchOptions("icarus", dut=unit)).passed
    assert problem(unit, jobs=2) == f"{len(SMALL.beats)} codes wrong in the jobs after the first"
    late = around(
        "wire own; reg [4:0] wait_; assign i__ready = own && wait_ == 0;"
        "always @(posedge clk) if (rst) wait_ <= 0; else if (i__valid && i__ready) wait_ <= 1; "
        "else if (own && wait_ != 0) wait_ <= 0;",
        i__ready="own",
        i__valid="i__valid & wait_ == 0",
    )
    assert run_array(SMALL, BenchOptions("icarus", dut=late)).passed
    assert "cycles for 2 jobs, not the formula's" in problem(late, jobs=2)


def test_jobs_from_memories_that_wait_for_one_another_s_constants_are_found(monkeypatch):
    config = ArrayConfig(1, 7, 4, False, 8, True, group=5, max_inputs=32, depth=4)
    short = random_array_set("short", np.random.default_rng(7), config, (1, 1, 1), seed=7, operands="memory")
    assert run_array(short, BenchOptions("icarus", repeats=5)).passed
    made = Waiting.__init__

    def narrow(self, *arguments):
        made(self, *arguments)
        self.depth = 1

    monkeypatch.setattr(Waiting, "__init__", narrow)
    unit = array_device(short)
    assert run_array(short, BenchOptions("icarus", dut=unit)).passed
    outcome = run_array(short, BenchOptions("icarus", repeats=5, dut=unit))
    assert outcome.problem is not None and "cycles for 5 jobs, not the formula's" in outcome.problem


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("activation_bits, two_pass", [(4, False), (8, False), (8, True)])
def test_every_width_with_every_group_equals_the_specification(group, activation_bits, two_pass, tmp_path):
    for bits, signed in product(WEIGHT_BITS, (True, False)):
        config = ArrayConfig(
            5, 3, bits, signed, activation_bits, two_pass, group, 8 if group else 0, max_inputs=256, depth=4
        )
        vectors = random_array_set("crossed", np.random.default_rng(bits), config, SHAPE, bits)
        outcome = run_array(vectors, BenchOptions("icarus", tmp_path, repeats=2))
        assert outcome.passed and outcome.vectors == vectors.size, (config, outcome)


def wrong(vectors: ArraySet) -> ArraySet:
    """The set with one expected code off by one."""
    expected = vectors.arrays["expected"].copy()
    expected[2, 1] += 1 if expected[2, 1] < 127 else -1
    return dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": expected})


def test_one_wrong_code_is_found_with_its_place():
    outcome = run_array(wrong(SMALL), BenchOptions("icarus"))
    assert outcome.mismatches == 1 and outcome.problem is None and outcome.first is not None
    assert (outcome.first["output_tile"], outcome.first["token"]) == (0, 2)
    differences = [g - e for e, g in zip(outcome.first["expected"], outcome.first["got"], strict=True)]
    assert sorted(map(abs, differences)) == [0, 1]


def test_a_dropped_carry_a_zero_point_off_by_one_and_a_late_group_are_each_found(monkeypatch):
    group = Columns._group

    def off_by_one(self, m, sums, activations, tag):
        return group(self, m, [value - activations for value in sums], activations, tag)

    with monkeypatch.context() as patch:
        patch.setattr(Columns, "_join", dropped_carry)
        assert run_array(SMALL, BenchOptions("icarus")).mismatches
    with monkeypatch.context() as patch:
        patch.setattr(Columns, "_group", off_by_one)
        assert run_array(SMALL, BenchOptions("icarus")).mismatches
    with monkeypatch.context() as patch:
        patch.setattr(ArrayConfig, "tiles_per_group", 3)
        assert run_array(SMALL, BenchOptions("icarus")).mismatches
    swapped = np.roll(SMALL.arrays["group_multipliers"], 1, axis=1)
    other = dataclasses.replace(SMALL, arrays={**SMALL.arrays, "group_multipliers": swapped})
    assert run_array(other, BenchOptions("icarus")).mismatches


def test_a_cycle_too_many_and_a_stream_that_gets_stuck_are_found(monkeypatch):
    elaborate = Controller.elaborate

    def greedy(self, platform):
        m = elaborate(self, platform)
        m.d.comb += self.load.eq(1)  # wants weights in every cycle
        return m

    outcome = run_array(
        SMALL, BenchOptions("icarus", dut=array_device(dataclasses.replace(SMALL, configuration=_deeper())))
    )
    assert outcome.problem == f"{SMALL.cycles + 1} cycles, not the formula's {SMALL.cycles}"
    with monkeypatch.context() as patch:
        patch.setattr(Controller, "elaborate", greedy)
        outcome = run_array(SMALL, BenchOptions("icarus"))
    assert outcome.problem is not None and outcome.problem.startswith("stuck after ")


def test_a_result_that_changes_before_it_is_taken_is_found(monkeypatch):
    elaborate = Gemm.elaborate

    def fickle(self, platform):
        m = elaborate(self, platform)
        with m.If(~self.o.ready):  # pyright: ignore[reportGeneralTypeIssues]
            m.d.comb += self.o.payload.as_value().eq(0)
        return m

    monkeypatch.setattr(Gemm, "elaborate", fickle)
    outcome = run_array(SMALL, BenchOptions("icarus", stall_seed=2))
    assert outcome.mismatches == 0 and outcome.problem is not None and "before they were taken" in outcome.problem


def _deeper() -> dict:
    return {**SMALL.configuration, "stages": SMALL.config.stages + 1}
