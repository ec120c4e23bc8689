"""The array against `sim.reference.gemm`, with equality, and against its closed cycle formula, exactly."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtl.array import core, operands
from rtl.array.columns import Columns
from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.gemm import GroupedLinear
from tests.rtl.array.bench import (
    Work,
    beats,
    cycles,
    ends,
    expected,
    job_shapes,
    random_jobs,
    random_work,
    run,
    small_arrays,
)  # fmt: skip
from tests.rtl.array.faults import dropped_carry
from tests.rtl.test_pwl import random_lowered

WIDTHS = [
    (weight_bits, signed, activation_bits, two_pass)
    for weight_bits, signed in product((2, 3, 4, 8), (True, False))
    for activation_bits, two_pass in ((4, False), (8, False), (8, True))
]


def wrong(config: ArrayConfig, work: Work, seed: int | None = None, **how) -> int:
    """How many codes differ; all operands must have been taken, and without stalls the cycles must be the formula's."""
    outcome = run(config, [work], seed, **how)
    assert outcome.left == 0
    if seed is None:
        assert outcome.cycles == cycles(config, *work)
    return int((outcome.codes != expected(config, [work])).sum())


@pytest.mark.parametrize("weight_bits, signed, activation_bits, two_pass", WIDTHS)
def test_every_width_equals_the_reference_and_takes_the_formula_s_cycles(
    weight_bits, signed, activation_bits, two_pass
):
    rng = np.random.default_rng(weight_bits + 10 * signed + 20 * activation_bits)
    config = ArrayConfig(
        3, 2, weight_bits, signed, activation_bits, two_pass, group=5, max_inputs=16, depth=4, stages=2
    )
    for narrow in (False, True) if two_pass else (False,):
        work = random_work(rng, config, (5, 8, 3), 4 if narrow else None)
        assert len(np.unique(expected(config, [work]))) > 8
        assert wrong(config, work) == 0
        assert wrong(config, work, seed=1) == 0


SHAPES = [
    # rows, columns, group, depth, (tokens, inputs, outputs)
    (1, 1, None, 1, (1, 1, 1)),
    (4, 4, None, 8, (1, 1, 1)),
    (1, 1, 2, 3, (4, 5, 3)),
    (1, 4, None, 8, (3, 6, 9)),
    (4, 1, 3, 2, (5, 7, 3)),
    (2, 3, 2, 8, (7, 8, 6)),
    (3, 2, 7, 5, (11, 15, 5)),
    (5, 3, 2, 4, (2, 5, 4)),
    (1, 2, 1, 1, (3, 4, 3)),
    (1, 2, None, 4, (1, 5, 3)),
]


@pytest.mark.parametrize("rows, columns, group, depth, shape", SHAPES)
def test_every_shape_equals_the_reference_and_takes_the_formula_s_cycles(rows, columns, group, depth, shape):
    rng = np.random.default_rng(rows + columns)
    for signed, two_pass in ((True, False), (False, True)):
        config = ArrayConfig(
            rows, columns, 4, signed, two_pass=two_pass, group=group, depth=depth, max_inputs=64,
            group_multiplier_bits=0 if group is None else 8,
        )  # fmt: skip
        work = random_work(rng, config, shape)
        assert wrong(config, work) == 0
        assert wrong(config, work, seed=3) == 0


@settings(deadline=None, max_examples=25)
@given(small_arrays(), job_shapes(), st.sampled_from([None, 1, 2]), st.integers(0, 99))
def test_any_array_and_any_shape_equal_the_reference_and_take_the_formula_s_cycles(config, job, stalls, seed):
    [work] = random_jobs(np.random.default_rng(seed), config, [job])
    assert wrong(config, work, stalls) == 0


@settings(deadline=None, max_examples=25)
@given(small_arrays(), st.lists(job_shapes(), min_size=2, max_size=4), st.integers(0, 99))
def test_any_jobs_follow_one_another_in_the_formula_s_cycles(config, jobs, seed):
    work = random_jobs(np.random.default_rng(seed), config, jobs)
    outcome = run(config, work)
    assert np.array_equal(outcome.codes, expected(config, work)) and outcome.left == 0
    assert outcome.ends == ends(config, work)


def test_jobs_follow_one_another_without_waiting_for_their_results():
    config = ArrayConfig(2, 3, weight_signed=False, two_pass=True, group=3, depth=4, max_inputs=32)
    work = random_jobs(np.random.default_rng(4), config, [((3, 7, 5), 8), ((1, 1, 1), 4), ((5, 6, 3), 8)])
    for seed in (None, 5):
        outcome = run(config, work, seed)
        assert np.array_equal(outcome.codes, expected(config, work)) and outcome.left == 0
        if seed is None:  # the way through the grid is gone once, and the last tile's wait for its rows added
            waits = [config.schedule.period(size, passes) - passes * size for size, passes in ((3, 2), (1, 1))]
            assert outcome.cycles == sum(cycles(config, *job) for job in work) - 2 * config.latency + sum(waits)
            assert outcome.ends == ends(config, work)


@pytest.mark.parametrize("two_pass", [False, True])
@pytest.mark.parametrize("late", ["w", "a"])
def test_a_job_whose_operands_are_late_withholds_no_results_of_the_one_before(late, two_pass):
    rng = np.random.default_rng(12)
    config = ArrayConfig(3, 4, weight_signed=False, two_pass=two_pass, group=4, depth=4, max_inputs=16)
    work = random_work(rng, config, (3, 7, 5))
    feeding = {name: 2 * values for name, values in beats(config, *work).items()}
    feeding[late] = feeding[late][: len(feeding[late]) // 2]
    for seed in (None, 1):
        outcome = run(config, [work], seed, feeding=feeding)
        assert np.array_equal(outcome.codes, expected(config, [work]))
        assert seed is not None or outcome.cycles == cycles(config, *work)


@pytest.mark.parametrize("signed, two_pass", [(True, False), (False, False), (False, True)])
def test_accumulators_at_both_ends_of_their_proved_bound_are_exact(signed, two_pass):
    config = ArrayConfig(2, 1, 3, signed, two_pass=two_pass, group=3, max_inputs=7, group_multiplier_bits=4, depth=2)
    low, high = code_range(3, signed)
    ends = config.accumulator_range
    assert -ends[0] > 1 << config.accumulator_bits - 2 or ends[1] >= 1 << config.accumulator_bits - 2  # a tight width
    reached = []
    for end, (weight, zero, activation) in zip(ends, _extremes(signed, low, high), strict=True):
        bias = code_range(config.bias_width, True)[end > 0]
        layer = GroupedLinear(
            weights=np.full((1, 7), weight), bias=np.array([bias]), multiplier=np.array([1]), shift=np.array([0]),
            weight_bits=3, weight_signed=signed, group=3, zero_points=None if signed else np.full((1, 3), zero),
            group_multipliers=np.full((1, 3), 15), out_bits=32,
        )  # fmt: skip
        wide = dataclasses.replace(config, out_bits=32)  # so that the code is the accumulator itself
        work = (layer, np.full((3, 7), activation))
        assert wrong(wide, work) == 0
        reached.append(int(layer.accumulate(work[1])[0, 0]))
    assert tuple(reached) == ends
    with pytest.raises(InputError, match=f"acc_bits must be at least {config.accumulator_bits}, since 7 inputs and"):
        dataclasses.replace(config, acc_bits=config.accumulator_bits - 1)


def _extremes(signed: bool, low: int, high: int) -> list[tuple[int, int, int]]:
    """(weight, zero point, activation) with the lowest and with the highest product."""
    if signed:
        return [(low, 0, 127), (low, 0, -128)]
    return [(high, 0, -128), (low, high, -128)]


def test_a_wider_accumulator_more_stages_and_other_outputs_equal_the_reference():
    rng = np.random.default_rng(6)
    for fields in ({"acc_bits": 50, "stages": 1}, {"stages": 5}, {"out_bits": 16, "out_signed": False}):
        config = ArrayConfig(2, 2, group=4, max_inputs=16, depth=3, **fields)
        assert wrong(config, random_work(rng, config, (4, 9, 3)), seed=2) == 0


def test_what_padding_rows_are_given_as_activations_does_not_matter():
    rng = np.random.default_rng(7)
    config = ArrayConfig(4, 2, weight_signed=False, group=3, max_inputs=16, depth=4)
    work = random_work(rng, config, (3, 5, 3))
    feeding = beats(config, *work)
    for k, beat in enumerate(feeding["a"]):
        used = 3 if (k // 3) % 2 == 0 else 2  # tiles of 3 and of 2 inputs, of 3 tokens each
        feeding["a"][k] = beat | int(rng.integers(1, 1 << 8 * (4 - used))) << 8 * used
    assert feeding["a"] != beats(config, *work)["a"]
    assert wrong(config, work, feeding=feeding) == 0


def test_activations_that_are_no_codes_of_the_layer_are_refused_and_never_wrapped():
    config = ArrayConfig(2, 2, group_multiplier_bits=0, max_inputs=8, depth=4)
    layer, activations = random_work(np.random.default_rng(0), config, (1, 4, 2))
    for wrong_ones, message in (
        (np.full((1, 4), 200), r"activations must be in -128\.\.127, not 200"),
        (np.full((1, 4), 1.7), "activations must be integers, not float64"),
        (np.zeros((1, 3), dtype=int), r"activations must have shape \[1, 4\], not \[1, 3\]"),
        (np.zeros((1, 7), dtype=int), r"activations must have shape \[1, 4\], not \[1, 7\]"),
        (np.zeros(4, dtype=int), r"activations must be an array of \(tokens, 4\), not \[4\]"),
    ):
        with pytest.raises(InputError, match=message):
            operands.images(config, layer, wrong_ones)
    small = operands.images(config, layer, activations.astype(np.int8))
    assert np.array_equal(small.a, operands.images(config, layer, activations).a)


def test_a_layer_that_the_array_cannot_do_exactly_is_refused():
    rng = np.random.default_rng(8)
    config = ArrayConfig(2, 2, group=4, max_inputs=16, group_multiplier_bits=4)
    layer, activations = random_work(rng, config, (2, 9, 3))
    for fields, message in (
        ({"max_inputs": 8}, r"inputs of the layer must be in 1\.\.8, not 9"),
        ({"weight_bits": 8}, "weight_bits of the layer must be the array's 8, not 4"),
        ({"group": 8}, "group of the layer must be the array's 8, not 4"),
        ({"group_multiplier_bits": 2}, r"group_multipliers of the layer must be in 0\.\.3, not"),
        ({"group_multiplier_bits": 0}, r"group_multipliers of the layer must be in 1\.\.1, not"),
        ({"bias_bits": 4}, r"bias of the layer must be in -8\.\.7, not"),
        ({"activation_bits": 4}, "activation_bits of the layer must be at most 4, not 8"),
        ({"count_bits": 1}, r"tokens must be in 1\.\.1, not 2"),
    ):
        with pytest.raises(InputError, match=message):
            beats(dataclasses.replace(config, **fields), layer, activations)


BAD = [
    ({"rows": 0}, "rows must be in 1..1024, not 0"),
    ({"weight_bits": 5}, "weight_bits must be one of 2, 3, 4, 8, not 5"),
    ({"activation_bits": 16}, "activation_bits must be 4 or 8, not 16"),
    ({"activation_bits": 4, "two_pass": True}, "activation_bits must be 8 or 16 for two passes, not 4"),
    ({"activation_bits": 16}, "activation_bits must be 4 or 8, not 16"),
    ({"stages": 6}, "stages must be in 1..5, not 6"),
    ({"group": 0}, "group must be in 1..65536, not 0"),
    (
        {"acc_bits": 24},
        "acc_bits must be at least 32, since 4096 inputs and the bias can reach 1606418431, and at most 62, not 24",
    ),
]


@pytest.mark.parametrize("fields, message", BAD, ids=lambda v: "" if isinstance(v, dict) else v[:40])
def test_a_bad_parameter_is_named_with_what_it_must_be(fields, message):
    with pytest.raises(InputError) as error:
        ArrayConfig(**fields)
    assert str(error.value) == message


# faults that the comparison must see

FAULTY = ArrayConfig(3, 2, weight_signed=False, two_pass=True, group=5, max_inputs=32, depth=4)


@pytest.fixture
def work() -> Work:
    work = random_work(np.random.default_rng(9), FAULTY, (4, 14, 3))
    assert wrong(FAULTY, work) == 0
    return work


def test_a_dropped_carry_between_the_passes_is_seen(work, monkeypatch):
    monkeypatch.setattr(Columns, "_join", dropped_carry)
    assert wrong(FAULTY, work) > 0


def test_a_zero_point_off_by_one_is_seen(work, monkeypatch):
    group = Columns._group

    def off_by_one(self, m, sums, activations, tag):
        return group(self, m, [value - activations for value in sums], activations, tag)

    monkeypatch.setattr(Columns, "_group", off_by_one)
    assert wrong(FAULTY, work) > 0


def test_a_swapped_group_is_seen(work):
    feeding = beats(FAULTY, *work)
    feeding["g"][0], feeding["g"][1] = feeding["g"][1], feeding["g"][0]
    assert wrong(FAULTY, work, feeding=feeding) > 0


def test_a_group_border_one_tile_late_is_seen(work, monkeypatch):
    monkeypatch.setattr(ArrayConfig, "tiles_per_group", 3)
    feeding = beats(FAULTY, *work)
    outcome = run(FAULTY, [work], feeding=feeding)
    assert (outcome.codes != expected(FAULTY, [work])).any() and outcome.left > 0


def test_an_accumulator_that_is_read_again_too_soon_is_seen(monkeypatch):
    config = ArrayConfig(1, 2, group=None, max_inputs=8, depth=4)
    tight = random_work(np.random.default_rng(11), config, (1, 5, 3))
    assert wrong(config, tight) == 0
    monkeypatch.setattr("rtl.array.controller.HAZARD", 1)
    outcome = run(config, [tight])
    assert (outcome.codes != expected(config, [tight])).any()


def test_a_slot_a_cycle_too_long_is_seen_in_the_first_job_and_in_those_that_follow(monkeypatch):
    config = ArrayConfig(1, 2, group=None, max_inputs=8, depth=4)
    work = random_jobs(np.random.default_rng(11), config, [((1, 5, 3), 8), ((3, 2, 1), 8), ((1, 1, 1), 8)])
    assert run(config, work).ends == ends(config, work)
    monkeypatch.setattr("rtl.array.controller.HAZARD", 3)
    late = [seen - formula for seen, formula in zip(run(config, work).ends, ends(config, work), strict=True)]
    assert late == [2 * 5 - 1, 2 * 5, 2 * 5]  # a tile of one token takes a cycle more, the job's last one does not


def test_weights_that_come_into_use_a_cycle_early_in_one_row_are_seen(work, monkeypatch):
    late = core.delayed

    def early(m, value, count, name):
        return late(m, value, 0 if name == "swap_0" else count, name)

    monkeypatch.setattr(core, "delayed", early)
    assert wrong(FAULTY, work) > 0


# with a piecewise-linear unit at its end


@pytest.mark.parametrize(
    "storage, stages, output", [("flops", 3, "code"), ("constants", 6, "code"), ("flops", 9, "acc")]
)
def test_gemm_bias_and_a_table_as_one_stream_equal_the_reference(storage, stages, output):
    rng = np.random.default_rng(10)
    loose = PwlConfig(entries=5, output=output)
    table = dataclasses.replace(random_lowered(rng, loose), intercept_shift=5, output_shift=6)
    pwl = PwlConfig.hard_wired(table) if storage == "constants" else loose
    config = ArrayConfig(2, 3, group=4, max_inputs=16, depth=4, pwl=pwl, stages=stages)
    layer, activations = random_work(rng, config, (6, 7, 4))
    words = [] if storage == "constants" else pwl.words(table)
    shifts = {name: getattr(table, name) for name in pwl.shift_ports}
    codes = operands.results(config, layer.output(activations), layer.zero_point)
    want = table.output(codes) if output == "code" else table.accumulate(codes)
    assert len(np.unique(want)) > 10
    for seed in (None, 1):
        outcome = run(config, [(layer, activations)], seed, words=words, settings=shifts)
        assert np.array_equal(outcome.codes, want)
        assert seed is not None or outcome.cycles == cycles(config, layer, activations)
    if words:
        wrong_words = [word._replace(data=word.data ^ 1) if word.select == 2 else word for word in words]
        outcome = run(config, [(layer, activations)], words=wrong_words, settings=shifts)
        assert not np.array_equal(outcome.codes, want)


def test_a_table_for_other_codes_and_too_many_stages_are_refused():
    with pytest.raises(InputError, match="in_bits and sign of pwl must be those of the requantiser's code, not 16"):
        ArrayConfig(pwl=PwlConfig(in_bits=16, coef_bits=16))
    with pytest.raises(InputError, match=r"stages must be in 1\.\.12, not 13"):
        ArrayConfig(pwl=PwlConfig(), stages=13)
