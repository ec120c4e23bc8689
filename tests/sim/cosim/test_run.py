"""The units equal the specification in both simulators, and each checker is shown to fail on a unit that is wrong."""

import dataclasses
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from unittest import mock

import numpy as np
import pytest

from sim.cosim import run as runner
from sim.cosim import simulators, wrapper
from sim.cosim.dut import Device, device, lowered
from sim.cosim.options import BUILD, BenchOptions
from sim.reference import InputError
from sim.vectors.pwl import pwl_set, random_set, random_table
from sim.vectors.vector_set import VectorSet, integers
from tests.sim.tables import wide_set

# compiled ones are long to build and have the same benches
BOTH = [pytest.param(name, marks=pytest.mark.slow if name == "verilator" else ()) for name in simulators.SIMULATORS]
EIGHT = random_set("eight", seed=1, tables=8, entries=8)
UNIT = device(EIGHT)


@pytest.mark.parametrize("simulator", BOTH)
def test_a_unit_equals_the_specification_on_every_vector_with_and_without_stalls(simulator):
    flowing = runner.run_bulk(EIGHT, BenchOptions(simulator))
    assert (flowing.vectors, flowing.mismatches, flowing.problem) == (EIGHT.size, 0, None)
    assert flowing.cycles == EIGHT.size + len(EIGHT.counts) * UNIT.latency
    for seed in (1, 2):
        stalled = runner.run_bulk(EIGHT, BenchOptions(simulator, stall_seed=seed))
        assert (stalled.vectors, stalled.mismatches, stalled.problem) == (EIGHT.size, 0, None)
        assert stalled.cycles > 1.5 * flowing.cycles  # the stalls were there


@pytest.mark.parametrize("simulator", BOTH)
def test_stalls_resets_and_throughput_hold_on_the_unit_s_own_ports(simulator):
    outcome = runner.run_protocol(EIGHT, BenchOptions(simulator), seed=3)
    assert outcome.passed, outcome.problem
    assert outcome.vectors == 2 * 256 * 3


def replaced(pattern: str, by: str, count: int = 0) -> Device:
    """The unit with an edit of its Verilog, which must have an effect."""
    text, edits = re.subn(pattern, by, UNIT.verilog, count=count)
    assert edits
    return dataclasses.replace(UNIT, verilog=text)


def around(body: str) -> Device:
    """The unit inside a module that tampers with its output stream; `body` assigns o__payload, o__valid and ready."""
    inner = UNIT.verilog.replace("module unit(", "module inner(")
    statics = "".join(f"  input [{bits - 1}:0] {name},\n" for name, bits in UNIT.statics.items())
    table = "".join(f"  input [{bits - 1}:0] table__{name},\n" for name, bits in (UNIT.table or {}).items())
    names = [*UNIT.statics, *(f"table__{name}" for name in UNIT.table or {})]
    tampered = f"""
module unit(
{statics}{table}  input table__en, input clk, input rst, input [{UNIT.in_bits - 1}:0] i__payload, input i__valid,
  output i__ready, output [{UNIT.out_bits - 1}:0] o__payload, output o__valid, input o__ready
);
  wire [{UNIT.out_bits - 1}:0] payload;
  wire valid, ready;
  reg [7:0] beats;
  always @(posedge clk) if (rst) beats <= 0; else if (valid && ready) beats <= beats + 1;
  inner core(.clk(clk), .rst(rst), .table__en(table__en), {", ".join(f".{name}({name})" for name in names)},
    .i__payload(i__payload), .i__valid(i__valid), .i__ready(i__ready),
    .o__payload(payload), .o__valid(valid), .o__ready(ready));
{body}
endmodule
"""
    return dataclasses.replace(UNIT, verilog=inner + tampered)


def without_round_bit() -> Device:
    """The unit whose rounding constant is wrong: the round bit is always 0."""
    with mock.patch("rtl.pwl.shift_right", lambda value, shift: (value >> shift) << 1):
        return device(EIGHT)


FAULTS = ("none", "comparator", "rounding", "dropped")


@cache
def switched() -> Device:
    """The unit, and beside it one with > for >= and one that does not round; the input `fault`, a number of `FAULTS`,
    says which answers, or has beat 100 dropped. One build shows that a simulator passes the first and finds the others.
    """
    wrong = {"inner": UNIT.verilog, "comparator": COMPARATOR.verilog, "rounding": without_round_bit().verilog}
    modules = "".join(text.replace("module unit(", f"module {name}(") for name, text in wrong.items())
    names = [*UNIT.statics, *(f"table__{name}" for name in UNIT.table or {})]
    ports = "".join(f".{name}({name}), " for name in ["clk", "rst", "table__en", *names, "i__payload", "i__valid"])
    cores = "".join(
        f"  {name} core_{k}({ports}.i__ready(readies[{k}]), .o__payload(payload_{k}), .o__valid(valids[{k}]),"
        f" .o__ready(ready));\n"
        for k, name in enumerate(wrong)
    )
    inputs = {"table__en": 1, **UNIT.statics, **{f"table__{name}": bits for name, bits in (UNIT.table or {}).items()}}
    declared = "".join(f"  input [{bits - 1}:0] {name},\n" for name, bits in inputs.items())
    text = f"""
module unit(
{declared}  input [1:0] fault, input clk, input rst, input [{UNIT.in_bits - 1}:0] i__payload, input i__valid,
  output i__ready, output [{UNIT.out_bits - 1}:0] o__payload, output o__valid, input o__ready
);
  wire [2:0] readies, valids;
  wire [{UNIT.out_bits - 1}:0] payload_0, payload_1, payload_2;
  reg [7:0] beats;
  always @(posedge clk) if (rst) beats <= 0; else if (valids[0] && ready) beats <= beats + 1;
  wire drop = fault == 3 && beats == 100;
  wire ready = o__ready || (valids[0] && drop);
  assign i__ready = readies[0], o__valid = valids[0] && !drop;
  assign o__payload = fault == 1 ? payload_1 : fault == 2 ? payload_2 : payload_0;
{cores}endmodule
"""
    ports = (*UNIT.ports, "fault")
    return dataclasses.replace(UNIT, verilog=modules + text, ports=ports, statics={**UNIT.statics, "fault": 2})


COMPARATOR = replaced(r">= \$signed\(threshold_2\)", "> $signed(threshold_2)")


def with_fault(name: str) -> VectorSet:
    """The vectors, and `fault` to be driven for all of them."""
    fault = np.full(len(EIGHT.counts), FAULTS.index(name))
    return dataclasses.replace(EIGHT, arrays={**EIGHT.arrays, "fault": fault})


@pytest.mark.parametrize("simulator", BOTH)
def test_each_bulk_bench_finds_greater_for_greater_or_equal_a_wrong_rounding_constant_and_a_dropped_beat(simulator):
    none, comparator, rounding, dropped = (
        runner.run_bulk(with_fault(name), BenchOptions(simulator, dut=switched())) for name in FAULTS
    )
    assert none.passed and none.vectors == EIGHT.size, none
    assert comparator.mismatches and comparator.first is not None
    thresholds = EIGHT.arrays["thresholds"][comparator.first["load"]]
    assert comparator.first["input"] == thresholds[2]
    assert comparator.first["expected"] != comparator.first["got"]
    assert rounding.mismatches and rounding.first is not None
    assert rounding.first["got"] == rounding.first["expected"] - 1
    assert dropped.problem == f"stuck after 255 of {EIGHT.size} results"


@pytest.mark.parametrize("simulator", BOTH)
def test_each_protocol_bench_finds_greater_for_greater_or_equal_and_a_dropped_beat(simulator):
    assert runner.run_protocol(with_fault("none"), BenchOptions(simulator, dut=switched()), limit=128).passed
    comparator = runner.run_protocol(with_fault("comparator"), BenchOptions(simulator, dut=switched()), loads=8)
    assert comparator.mismatches == 1 and comparator.first is not None
    assert comparator.first["input"] == EIGHT.arrays["thresholds"][comparator.first["load"]][2]
    dropped = runner.run_protocol(with_fault("dropped"), BenchOptions(simulator, dut=switched()))
    assert dropped.first is not None and dropped.problem is not None
    assert dropped.first["expected"] == EIGHT.arrays["expected"][dropped.first["vector"]] != dropped.first["got"]
    assert re.search(r"beat \d+: expected", dropped.problem)


@pytest.mark.parametrize("simulator", simulators.SIMULATORS)
def test_one_flipped_bit_of_a_table_is_found_and_reported_in_full(simulator):
    slopes = EIGHT.arrays["slopes"].copy()
    load, segment = _used_segment(EIGHT)
    slopes[load, segment] ^= 4
    wrong = dataclasses.replace(EIGHT, arrays={**EIGHT.arrays, "slopes": slopes})
    outcome = runner.run_bulk(wrong, BenchOptions(simulator))
    assert 0 < outcome.mismatches <= 256 and outcome.first is not None
    assert (outcome.first["load"], outcome.first["segment"]) == (load, segment)
    vector = outcome.first["vector"]
    assert outcome.first["input"] == EIGHT.arrays["inputs"][vector]
    assert outcome.first["expected"] == EIGHT.arrays["expected"][vector] != outcome.first["got"]


def _used_segment(vectors: VectorSet) -> tuple[int, int]:
    """A load and a segment whose outputs are not all saturated."""
    for load in range(len(vectors.counts)):
        part = slice(load * 256, load * 256 + 256)
        free = ~np.isin(vectors.arrays["expected"][part], (-128, 127)) & (abs(vectors.arrays["inputs"][part]) > 40)
        if free.any() and vectors.arrays["output_shift"][load] < 6:
            code = vectors.arrays["inputs"][part][free][0]
            return load, int((vectors.arrays["thresholds"][load] <= code).sum())
    raise AssertionError("no load is sensitive")


DROPPED = (
    "  assign o__payload = payload, o__valid = valid && beats != 100, ready = o__ready || (valid && beats == 100);"
)
DOUBLED = """
  reg again; reg [7:0] last;
  always @(posedge clk) if (rst) again <= 0; else if (o__valid && o__ready) begin
    again <= !again && beats == 100; last <= payload;
  end
  assign o__payload = again ? last : payload, o__valid = again || valid, ready = o__ready && !again;
"""
WITHDRAWN = """
  reg [3:0] blink;
  always @(posedge clk) blink <= rst ? 0 : blink + 1;
  assign o__payload = payload, o__valid = valid && blink != 0, ready = o__ready && blink != 0;
"""


@pytest.mark.parametrize(
    "body, message",
    [
        (DROPPED, r"stuck after 255 of 16384 results"),
        (DOUBLED, r"results too many"),
        (WITHDRAWN, "took .* cycles, not"),
    ],
    ids=["dropped", "doubled", "slow"],
)
def test_a_beat_that_is_dropped_doubled_or_late_is_found_by_the_bulk_bench(body, message):
    outcome = runner.run_bulk(EIGHT, BenchOptions("icarus", dut=around(body)))
    assert not outcome.passed
    assert outcome.problem is not None and re.search(message, outcome.problem), outcome


PROTOCOL = {
    "dropped": (DROPPED, "beat 124: expected"),
    "doubled": (DOUBLED, "expected"),
    "withdrawn": (WITHDRAWN, "withdrawn before it was taken"),
    "unstable": (
        "  reg odd; always @(posedge clk) odd <= rst ? 0 : !odd;\n"
        "  assign o__payload = payload ^ odd, o__valid = valid, ready = o__ready;",
        "expected|changed",
    ),
    "reset ignored": (
        "  assign o__payload = payload, o__valid = valid, ready = o__ready;",
        "a beat too many",
    ),
}


@pytest.mark.parametrize("optimise", ["", "1"])
@pytest.mark.parametrize("body, message", PROTOCOL.values(), ids=PROTOCOL.keys())
def test_a_fault_of_the_stream_is_found_by_the_protocol_tests_without_asserts_too(body, message, optimise, monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", optimise)
    unit = around(body)
    if message == "a beat too many":  # the inner unit never hears of a reset in mid-stream
        unit = dataclasses.replace(
            unit,
            verilog=unit.verilog.replace("inner core(.clk(clk), .rst(rst)", "inner core(.clk(clk), .rst(1'b0)"),
        )
    outcome = runner.run_protocol(EIGHT, BenchOptions("icarus", dut=unit))
    assert outcome.problem is not None and re.search(message, outcome.problem), outcome


def test_the_protocol_bench_finds_a_flipped_table_bit():
    slopes = EIGHT.arrays["slopes"].copy()
    slopes[0] ^= 64
    wrong = dataclasses.replace(EIGHT, arrays={**EIGHT.arrays, "slopes": slopes})
    outcome = runner.run_protocol(wrong, BenchOptions("icarus"), limit=100)
    assert outcome.mismatches == 1 and outcome.vectors > 0 and outcome.first is not None
    vector, got = outcome.first["vector"], outcome.first["got"]
    assert outcome.first == wrong.describe(vector, got) and got != outcome.first["expected"]
    table = lowered(wrong, outcome.first["load"])  # what the unit was loaded with, so what it answers
    assert got == table.output(wrong.arrays["inputs"][vector : vector + 1])
    assert vector == 2 * (outcome.vectors - 1)  # every second one was sent, and the last of them is wrong
    words = "random_stalls_lose_duplicate_and_reorder_nothing: beat {}: expected {:#x}, got {:#x}"
    expected = outcome.first["expected"]
    assert outcome.problem == words.format(outcome.vectors - 1, expected & 255, got & 255)


def test_the_protocol_bench_finds_a_wrong_rounding_constant():
    outcome = runner.run_protocol(EIGHT, BenchOptions("icarus", dut=without_round_bit()), loads=8)
    assert outcome.problem is not None and re.search(r"beat \d+: expected", outcome.problem), outcome
    assert outcome.first is not None and outcome.first["got"] == outcome.first["expected"] - 1


@pytest.mark.slow
def test_an_accumulator_of_more_than_64_bits_is_compared_to_its_last_bit():
    vectors = wide_set()
    bits = vectors.widths["expected"][0]
    values = integers(vectors.arrays["expected"])
    assert bits > 64 and max(abs(values)) >= 1 << 64
    assert runner.run_bulk(vectors, BenchOptions("icarus")).passed
    for bit in (0, 40, bits - 2):
        expected = vectors.arrays["expected"].copy()
        expected[7, bit // 32] ^= 1 << bit % 32
        outcome = runner.run_bulk(
            dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": expected}), BenchOptions("icarus")
        )
        assert outcome.mismatches == 1 and outcome.first is not None
        assert (outcome.first["got"], outcome.first["expected"] ^ outcome.first["got"]) == (values[7], 1 << bit)


def test_a_folder_with_a_space_is_one_line_where_make_cannot_take_it_and_works_where_it_can(tmp_path):
    folder = tmp_path / "a b"
    assert runner.run_bulk(EIGHT, BenchOptions("icarus", folder)).passed
    with pytest.raises(InputError, match="build folder must have no space in its path, which make cannot take, not "):
        runner.run_bulk(EIGHT, BenchOptions("verilator", folder))


def test_a_unit_that_answers_nothing_is_stuck_not_green():
    outcome = runner.run_bulk(
        EIGHT, BenchOptions("icarus", dut=around("  assign o__valid = 1'b0, ready = 1'b0, o__payload = 0;"))
    )
    assert outcome.problem == f"stuck after 0 of {EIGHT.size} results" and outcome.vectors == 0
    outcome = runner.run_protocol(
        EIGHT, BenchOptions("icarus", dut=around("  assign o__valid = 1'b0, ready = 1'b0, o__payload = 0;"))
    )
    assert outcome.problem is not None and "stuck" in outcome.problem.lower()


def test_a_set_larger_than_the_memories_is_cut_and_every_vector_is_compared(monkeypatch, tmp_path):
    monkeypatch.setattr(wrapper, "VECTORS", 1 << 9)
    monkeypatch.setattr(wrapper, "PROGRAM", 1 << 6)
    small = random_set("small", seed=4, tables=1, entries=8, per_table=1500)
    parts = wrapper.chunks(small, UNIT)
    assert len(parts) == 3 and parts[0].first == 0 and parts[-1].last == small.size
    assert [p.last for p in parts[:-1]] == [p.first for p in parts[1:]]
    outcome = runner.run_bulk(small, BenchOptions("icarus", tmp_path))
    assert (outcome.vectors, outcome.passed) == (small.size, True)


@pytest.mark.slow
def test_repeats_compare_the_set_again_and_count_it_again():
    once, thrice = (runner.run_bulk(EIGHT, BenchOptions("icarus", repeats=n)) for n in (1, 3))
    assert (thrice.vectors, thrice.cycles, thrice.passed) == (3 * once.vectors, 3 * once.cycles, True)
    once, thrice = (runner.run_bulk(EIGHT, BenchOptions("icarus", repeats=n, dut=COMPARATOR)) for n in (1, 3))
    assert thrice.mismatches == 3 * once.mismatches > 0 and thrice.first == once.first


def test_a_verilog_error_is_a_build_error_with_the_log(tmp_path):
    broken = dataclasses.replace(UNIT, verilog=UNIT.verilog.replace("endmodule", "endmodul"))
    with pytest.raises(simulators.SimulationError, match=r"icarus cannot build bulk[\s\S]*syntax error"):
        runner.run_bulk(EIGHT, BenchOptions("icarus", tmp_path, dut=broken))
    assert list(tmp_path.iterdir()) == []  # nothing half built stays


def test_a_missing_simulator_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    simulators.version.cache_clear()
    try:
        with pytest.raises(InputError, match="simulator icarus is missing: no iverilog on PATH"):
            simulators.version("icarus")
        with pytest.raises(InputError, match="simulator verilator is missing: no make on PATH"):
            simulators.version("verilator")
    finally:
        simulators.version.cache_clear()
    with pytest.raises(InputError, match="simulator must be one of icarus, verilator, not 'vcs'"):
        simulators.version("vcs")


def test_a_build_is_made_once_and_shared(tmp_path):
    first = runner.run_bulk(EIGHT, BenchOptions("icarus", tmp_path))
    (place,) = tmp_path.iterdir()
    made = (place / "sim.vvp").stat().st_mtime_ns
    again = runner.run_bulk(EIGHT, BenchOptions("icarus", tmp_path))
    assert first.passed and again.passed
    assert list(tmp_path.iterdir()) == [place] and (place / "sim.vvp").stat().st_mtime_ns == made


def test_two_processes_may_build_the_same_unit_at_once(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        outcomes = list(pool.map(runner.run_bulk, [EIGHT] * 2, [BenchOptions("icarus", tmp_path)] * 2))
    assert all(outcome.passed and outcome.vectors == EIGHT.size for outcome in outcomes)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_build_that_another_process_finished_first_is_used(tmp_path, monkeypatch):
    made = simulators._build

    def late(*arguments):
        made(*arguments)
        place = arguments[2]
        shutil.copytree(place, place.with_name(place.name.removeprefix(".").rpartition(".")[0]))

    monkeypatch.setattr(simulators, "_build", late)
    assert runner.run_bulk(EIGHT, BenchOptions("icarus", tmp_path)).passed
    assert [path.name[0] for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    "simulator, name",
    [
        ("icarus", "x.fst"),
        pytest.param("verilator", "x.fst", marks=pytest.mark.slow),
    ],  # a runtime of its own to compile
)
def test_a_waveform_is_written_where_it_is_asked_for(simulator, name, tmp_path):
    small = random_set("small", seed=4, tables=1, entries=8, per_table=5)
    outcome = runner.run_bulk(small, BenchOptions(simulator, BUILD, waves=tmp_path / name))
    assert outcome.passed and (tmp_path / name).stat().st_size > 1000


def test_a_stalled_run_that_never_stalled_is_a_failure():
    vectors = random_set("s", 0, 1, 4, in_bits=4, coef_bits=4)
    unit, [chunk, *_] = device(vectors), wrapper.chunks(vectors, device(vectors))
    count, streams = chunk.last - chunk.first, sum(s.operation == wrapper.STREAM for s in chunk.steps)
    counted = {"mismatches": 0, "stuck": 0, "checked": count, "extra": 0, "seconds": 1.0}
    smooth = counted | {"cycles": count + streams * unit.latency}
    flowing, stalled = (BenchOptions("icarus", stall_seed=seed) for seed in (0, 1))
    assert runner._judge(vectors, chunk, unit, smooth, flowing).problem is None
    assert "nothing stalled" in str(runner._judge(vectors, chunk, unit, smooth, stalled).problem)


def test_a_test_filter_in_the_environment_leaves_no_test_out(monkeypatch, tmp_path):
    monkeypatch.setenv("COCOTB_TEST_FILTER", "random")
    vectors = random_set("s", 0, 1, 4, in_bits=4, coef_bits=4)
    assert runner.run_protocol(vectors, BenchOptions("icarus", tmp_path)).problem is None
    monkeypatch.setattr(simulators, "_require_passed", partial(counting, simulators._require_passed))
    assert runner.run_protocol(vectors, BenchOptions("icarus", tmp_path)).problem is None


def counting(required, results, log, tests) -> None:
    """As `required`, and one test more would have been missed."""
    required(results, log, tests)
    with pytest.raises(simulators.SimulationError, match="3 of 4 tests ran"):
        required(results, log, tests + 1)


def test_a_first_load_of_few_vectors_is_enough_for_the_protocol(tmp_path):
    table = random_table(np.random.default_rng(0), 4, 0).lower(2, -8)
    vectors = pwl_set("tiny", [(table, np.arange(-5, 5))], {})
    assert runner.run_protocol(vectors, BenchOptions("icarus", tmp_path)).problem is None


def test_a_word_that_the_bench_s_program_cannot_hold_is_refused_and_the_widest_is_not_cut():
    top = wrapper.Step(wrapper.STATIC, (1 << 32) - 1, (1 << 16) - 1, 3)
    assert top.word() == wrapper.STATIC << 56 | 3 << 48 | (1 << 48) - 1
    for field, bits in (("value", 32), ("address", 16), ("select", 8)):
        with pytest.raises(InputError, match=f"the bench's {field} must be in 0..{(1 << bits) - 1}, not {1 << bits}"):
            dataclasses.replace(top, **{field: 1 << bits}).word()
    wide = dataclasses.replace(EIGHT, arrays={**EIGHT.arrays, "zero": np.full(len(EIGHT.counts), 1 << 48)})
    unit = dataclasses.replace(UNIT, table=None, statics={"zero": 49})
    [step] = wrapper.load_steps(wide, unit, 0)
    with pytest.raises(InputError, match=r"the bench's address must be in 0\.\.65535, not 65536"):
        step.word()
