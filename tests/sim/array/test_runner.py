"""The array's bench in the simulators: layers pass with the formula's cycles, and what is wrong is found."""

import dataclasses

import numpy as np

from rtl.array.columns import Columns
from rtl.array.config import ArrayConfig
from rtl.array.controller import Controller
from rtl.array.gemm import Gemm
from sim.array.runner import array_device, run_array
from sim.array.sets import ArraySet
from sim.array.suite import array_suite, random_array_set

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
            outcome = run_array(vectors, "icarus", stall_seed=stall_seed, resets=resets, unit=unit)
            assert outcome.passed and outcome.vectors == SMALL.size, outcome


def wrong(vectors: ArraySet) -> ArraySet:
    """The set with one expected code off by one."""
    expected = vectors.arrays["expected"].copy()
    expected[2, 1] += 1 if expected[2, 1] < 127 else -1
    return dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": expected})


def test_one_wrong_code_is_found_with_its_place():
    outcome = run_array(wrong(SMALL), "icarus")
    assert outcome.mismatches == 1 and outcome.problem is None and outcome.first is not None
    assert (outcome.first["output_tile"], outcome.first["token"]) == (0, 2)
    differences = [g - e for e, g in zip(outcome.first["expected"], outcome.first["got"], strict=True)]
    assert sorted(map(abs, differences)) == [0, 1]


def test_a_dropped_carry_a_zero_point_off_by_one_and_a_late_group_are_each_found(monkeypatch):
    join, group = Columns._join, Columns._group

    def dropped(self, m, sums, *rest):
        return join(self, m, [value[:-2].as_signed() for value in sums], *rest)

    def off_by_one(self, m, sums, activations, tag):
        return group(self, m, [value - activations for value in sums], activations, tag)

    with monkeypatch.context() as patch:
        patch.setattr(Columns, "_join", dropped)
        assert run_array(SMALL, "icarus").mismatches
    with monkeypatch.context() as patch:
        patch.setattr(Columns, "_group", off_by_one)
        assert run_array(SMALL, "icarus").mismatches
    with monkeypatch.context() as patch:
        patch.setattr(ArrayConfig, "tiles_per_group", 3)
        assert run_array(SMALL, "icarus").mismatches
    swapped = np.roll(SMALL.arrays["group_multipliers"], 1, axis=1)
    other = dataclasses.replace(SMALL, arrays={**SMALL.arrays, "group_multipliers": swapped})
    assert run_array(other, "icarus").mismatches


def test_a_cycle_too_many_and_a_stream_that_gets_stuck_are_found(monkeypatch):
    elaborate = Controller.elaborate

    def greedy(self, platform):
        m = elaborate(self, platform)
        m.d.comb += self.load.eq(1)  # wants weights in every cycle
        return m

    outcome = run_array(SMALL, "icarus", unit=array_device(dataclasses.replace(SMALL, configuration=_deeper())))
    assert outcome.problem == f"{SMALL.cycles + 1} cycles, not the formula's {SMALL.cycles}"
    with monkeypatch.context() as patch:
        patch.setattr(Controller, "elaborate", greedy)
        outcome = run_array(SMALL, "icarus")
    assert outcome.problem is not None and outcome.problem.startswith("stuck after ")


def test_a_result_that_changes_before_it_is_taken_is_found(monkeypatch):
    elaborate = Gemm.elaborate

    def fickle(self, platform):
        m = elaborate(self, platform)
        with m.If(~self.o.ready):  # pyright: ignore[reportGeneralTypeIssues]
            m.d.comb += self.o.payload.as_value().eq(0)
        return m

    monkeypatch.setattr(Gemm, "elaborate", fickle)
    outcome = run_array(SMALL, "icarus", stall_seed=2)
    assert outcome.mismatches == 0 and outcome.problem is not None and "before they were taken" in outcome.problem


def _deeper() -> dict:
    return {**SMALL.configuration, "stages": SMALL.config.stages + 1}
