"""Softmax and the norms equal the specification in both simulators; a checker that must fail does, for each fault."""

import dataclasses
import re

import numpy as np
import pytest

from ga_search.methods.secants import secant_table
from rtl.rowwise import norm, passes, softmax
from rtl.units import UNITS
from sim.cosim import run as runner
from sim.cosim import wrapper
from sim.cosim.dut import Device, device
from sim.cosim.options import BenchOptions
from sim.reference import InputError
from sim.vectors.files import load
from sim.vectors.random_rows import Rows, random_rows
from sim.vectors.rowwise import softmax_set
from sim.vectors.rowwise_suite import NORMS, fitted_row_suite, row_suite

ROW_UNITS = ("softmax", *NORMS)
CASES = ("40", "8-bit", "17")
QUICK = {vectors.name: vectors for vectors in row_suite(0, True, ROW_UNITS, dict.fromkeys(ROW_UNITS, CASES))}
SMALL = {unit: QUICK[f"random-{unit}-17"] for unit in ROW_UNITS}  # wired in, so that they build in little time
DEVICES = {unit: device(vectors) for unit, vectors in SMALL.items()}


@pytest.mark.parametrize("vectors", [*SMALL.values(), QUICK["random-softmax-8-bit"]], ids=lambda vectors: vectors.name)
def test_every_result_equals_the_specification_at_the_formula_s_cycles(vectors):
    # tests/sim/test_suites.py runs the quick suite, stalled too, in both simulators
    outcome = runner.run_bulk(vectors, BenchOptions("icarus"))
    assert (outcome.vectors, outcome.passed) == (vectors.size, True), outcome


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_stalls_resets_and_throughput_hold_on_the_unit_s_own_ports(unit):
    outcome = runner.run_protocol(QUICK[f"random-{unit}-40"], BenchOptions("icarus"), seed=3, limit=100)
    assert outcome.passed, outcome.problem


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_the_sets_have_every_length_and_outputs_of_many_values(unit):
    for name in CASES:
        vectors = QUICK[f"random-{unit}-{name}"]
        lengths = vectors.lengths(0, int(vectors.counts[0]))
        longest = vectors.configuration["row_length" if unit == "softmax" else "length"]
        assert {*lengths} >= {*range(1 if unit == "softmax" else 2, longest + 1)}
        key = next(key for key in vectors.columns("expected") if key != "expected.last")
        assert len(np.unique(vectors.arrays[key])) > 25


def test_masks_leave_some_one_and_none():
    vectors = QUICK["random-softmax-40"]
    rows = Rows(np.array(vectors.lengths(0, vectors.size)), vectors.arrays["inputs.valid"])
    left = rows.evaluate(lambda valid, _: np.broadcast_to(valid.sum(-1, keepdims=True), valid.shape))
    probability = vectors.arrays["expected.probability"]
    assert {0, 1, 2} <= {*left.tolist()} and probability[left > 1].any() and not probability[left == 0].any()


def replaced(unit: str, pattern: str, by: str) -> Device:
    """The unit with an edit of its Verilog, which must have an effect."""
    text, edits = re.subn(pattern, by, DEVICES[unit].verilog)
    assert edits
    return dataclasses.replace(DEVICES[unit], verilog=text)


def around(unit: str, sent: str, given: str) -> Device:
    """The unit in a module that tampers with its streams; `sent` goes in for i__payload, `given` out for `payload`.

    `row` and `out_row` count the rows taken and given.
    """
    own = DEVICES[unit]
    outer = f"""
module unit(input clk, input rst,
  input [{own.in_bits - 1}:0] i__payload, input i__valid, output i__ready,
  output [{own.out_bits - 1}:0] o__payload, output o__valid, input o__ready);
  wire [{own.in_bits - 1}:0] sent = {sent};
  wire [{own.out_bits - 1}:0] payload;
  reg [15:0] row, out_row;
  always @(posedge clk) if (rst) begin row <= 0; out_row <= 0; end else begin
    if (i__valid && i__ready && i__payload[{own.in_bits - 1}]) row <= row + 1;
    if (o__valid && o__ready && payload[{own.out_bits - 1}]) out_row <= out_row + 1;
  end
  inner core(.clk(clk), .rst(rst), .i__payload(sent), .i__valid(i__valid), .i__ready(i__ready),
    .o__payload(payload), .o__valid(o__valid), .o__ready(o__ready));
  assign o__payload = {given};
endmodule
"""
    return dataclasses.replace(own, verilog=own.verilog.replace("module unit(", "module inner(") + outer)


def found(unit: str, wrong: Device | None = None) -> runner.Outcome:
    """The outcome of the bulk bench on a unit, which must not pass."""
    outcome = runner.run_bulk(SMALL[unit], BenchOptions("icarus", dut=wrong or device(SMALL[unit])))
    assert not outcome.passed
    return outcome


@pytest.mark.parametrize(
    "unit, total", [("softmax", "maximum"), ("layernorm", "sum"), ("rmsnorm", "squares")], ids=lambda v: v
)
def test_a_stale_total_is_found(unit, total):
    assert found(unit, replaced(unit, rf"first  ?\? \d+'h\w+ : {total}", total)).mismatches


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_a_lost_last_flag_is_found_on_either_side(unit):
    own = DEVICES[unit]
    outcome = found(unit, around(unit, f"i__payload & ~((row == 9) << {own.in_bits - 1})", "payload"))
    assert outcome.mismatches and outcome.first is not None and outcome.first["row"] >= 9
    outcome = found(unit, around(unit, "i__payload", f"payload & ~((out_row == 9) << {own.out_bits - 1})"))
    # the wrapper's count of rows stops at the one that has lost its end, and so have all after it
    assert outcome.first is not None and (outcome.first["row"], outcome.first["got"]["last"]) == (9, 0)
    assert outcome.first["expected"]["last"] == 1


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_a_wrong_rounding_constant_is_found(unit, monkeypatch):
    # the round bit is always 0
    monkeypatch.setattr(softmax if unit == "softmax" else norm, "shift_right", lambda v, shift: (v >> shift) << 1)
    assert found(unit).mismatches


def last_left_out(plan: passes.PassPlan) -> passes.PassPlan:
    """The pass with a total that lacks its row's last element."""
    name, (shape, _) = next(iter(plan.totals.items()))
    own = plan.add

    def add(total, f):
        late = {**total, name: total["late"]}
        return {**own(total, f), name: total["late"], "late": own(late, f)[name]}

    return dataclasses.replace(plan, totals={**plan.totals, "late": (shape, 0)}, add=add)


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_a_sum_that_is_one_element_short_is_found(unit, monkeypatch):
    room, name = (softmax, "_probability_plan") if unit == "softmax" else (norm, "_plan")
    good = getattr(room, name)
    monkeypatch.setattr(room, name, lambda *arguments: last_left_out(good(*arguments)))
    assert found(unit).mismatches


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_a_ring_that_is_too_short_is_found(unit, monkeypatch):
    vectors = QUICK[f"random-{unit}-40"]  # with rows enough inside to fill it
    monkeypatch.setattr(passes.PassPlan, "depth", property(lambda self: self.row_length + self.delay - 2))
    assert runner.run_bulk(vectors, BenchOptions("icarus")).mismatches


def test_a_unit_that_is_a_cycle_late_is_found():
    schedule = DEVICES["softmax"].schedule
    assert schedule is not None
    slow = dataclasses.replace(DEVICES["softmax"], schedule=dataclasses.replace(schedule, rows=3))
    assert "took" in str(found("softmax", slow).problem)


@pytest.mark.parametrize("register", ["first", "left"])
def test_a_reset_that_leaves_part_of_a_row_is_found_by_the_protocol_bench(register):
    wrong = replaced(
        "layernorm", rf"(= {register};\n(?:(?!  end\n  always).*\n)*?\s*if \()rst", r"\g<1>rst && $time < 12"
    )  # only at the start
    outcome = runner.run_protocol(SMALL["layernorm"], BenchOptions("icarus", dut=wrong), limit=100)
    assert outcome.problem is not None and outcome.problem.startswith("a_reset_in_mid_stream"), outcome


@pytest.mark.parametrize("unit", ROW_UNITS)
def test_a_set_is_its_configuration_again_after_saving(unit, tmp_path):
    again = load(SMALL[unit].save(tmp_path))
    assert device(again).verilog == DEVICES[unit].verilog


def test_a_set_is_cut_between_rows_only(monkeypatch, tmp_path):
    monkeypatch.setattr(wrapper, "VECTORS", 1 << 8)
    vectors = QUICK["random-softmax-40"]
    own = device(vectors)
    parts = wrapper.chunks(vectors, own)
    assert len(parts) > 3 and parts[-1].last == vectors.size
    assert all(vectors.arrays["inputs.last"][part.last - 1] for part in parts)
    outcome = runner.run_bulk(vectors, BenchOptions("icarus", tmp_path, dut=own))
    assert (outcome.vectors, outcome.passed) == (vectors.size, True)
    head = vectors.head(100)
    assert head.size <= 100 and head.arrays["inputs.last"][-1] == 1
    with pytest.raises(InputError, match="the first row is longer than the limit"):
        vectors.head(vectors.lengths(0, vectors.size)[0] - 1)
    monkeypatch.setattr(wrapper, "VECTORS", 16)
    with pytest.raises(InputError, match="is larger than the wrapper's memories"):
        wrapper.chunks(vectors, own)


def test_a_sample_has_whole_rows_of_each_load():
    vectors = QUICK["random-layernorm-40"]
    sample = vectors.sample(loads=2, limit=60)
    assert len(sample.counts) == 2 and 2 * 30 < sample.size < 300
    assert {*sample.lengths(0, sample.size)} <= {*vectors.lengths(0, vectors.size)}


def test_the_full_suite_has_a_hundred_thousand_rows_of_each_unit():
    for unit in ROW_UNITS:
        sets = row_suite(0, False, (unit,))
        assert sum(int(vectors.arrays["inputs.last"].sum()) for vectors in sets) > 100_000
        assert {str(v.configuration.get("storage")) for v in sets} == {"None", "latches", "constants"}
        assert len({v.configuration.get("rows") for v in sets}) > 3


def test_fitted_tables_serve_every_unit():
    tables = {name: secant_table(name) for name in ("gelu", "exp", "div", "rsqrt")}
    sets = {vectors.unit: vectors for vectors in fitted_row_suite(tables, ROW_UNITS)}
    assert set(sets) == set(ROW_UNITS) and all(len(vectors.counts) == 4 for vectors in sets.values())
    assert runner.run_bulk(sets["softmax"].head(2_000), BenchOptions("icarus")).passed
    assert runner.run_bulk(sets["layernorm"].head(2_000), BenchOptions("icarus")).passed


def test_rows_of_a_batch_are_evaluated_as_the_batch_is():
    rng = np.random.default_rng(0)
    reference = UNITS["softmax"].configuration(SMALL["softmax"].configuration).reference
    scores, valid = rng.integers(-300, 300, (4, 3, 9)), rng.random((4, 1, 9)) < 0.7
    rows = Rows.of_batch(scores, valid)
    assert rows.lengths.tolist() == [9] * 12 and rows.last.sum() == 12
    assert np.array_equal(rows.evaluate(reference.compute), reference.compute(scores, valid).ravel())
    vectors = softmax_set("dumped", [(reference, rows)], {}, storage="constants")
    assert runner.run_bulk(vectors, BenchOptions("icarus")).passed


def test_random_rows_have_every_length_first_and_stay_within_their_bits():
    rows = random_rows(np.random.default_rng(0), 300, 2, 40, bits=8, masked=True)
    assert sorted(rows.lengths[:39]) == list(range(2, 41)) and len(rows.lengths) == 300
    assert rows.codes.min() == -128 and rows.codes.max() == 127 and rows.valid is not None
    assert len(random_rows(np.random.default_rng(0), 5, 1, 40, bits=8).lengths) == 5


def test_a_bad_configuration_is_named():
    configuration = dict(SMALL["softmax"].configuration) | {"rows": 0}
    with pytest.raises(InputError, match=r"rows must be in 1\.\.64, not 0"):
        UNITS["softmax"].configuration(configuration)
    configuration = dict(SMALL["rmsnorm"].configuration) | {"in_bits": 20}
    with pytest.raises(InputError, match=r"in_bits must be in 4\.\.16, not 20"):
        UNITS["rmsnorm"].configuration(configuration, SMALL["rmsnorm"].loaded(0))
    broken = {**SMALL["rmsnorm"].arrays, "inputs.last": SMALL["rmsnorm"].arrays["inputs.last"] * 0}
    with pytest.raises(InputError, match=r"inputs.last must be 1 at the end of each load"):
        dataclasses.replace(SMALL["rmsnorm"], arrays=broken)
