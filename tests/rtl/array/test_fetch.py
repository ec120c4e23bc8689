"""The fetchers: operands read from memories of the stated layout, in the formula's cycles and one more."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator, SimulatorContext
from hypothesis import given, settings
from hypothesis import strategies as st

from rtl.array import operands
from rtl.array.config import ArrayConfig
from rtl.array.fetch import FETCH_CYCLES, MemoryGemm, Waiting
from sim.reference import InputError
from sim.reference.array_cycles import Schedule
from tests.rtl.array.bench import (
    Run,
    Work,
    collected,
    cycles,
    ends,
    expected,
    integers,
    job_shapes,
    last_results,
    random_jobs,
    random_work,
    small_arrays,
)  # fmt: skip


def run(config: ArrayConfig, work: Sequence[Work], seed: int | None = None, gap: int = 0) -> Run:
    """The jobs of `work`, all offered at once, from memories that hold their images one behind the other, with a `gap`
    of words before each; a `seed` stalls the results. All layers have one zero point.
    """
    m = Module()
    m.submodules.dut = dut = MemoryGemm(config)
    jobs = [operands.job(config, layer, len(activations)).payload(config) for layer, activations in work]
    images = [operands.images(config, *job)._asdict() for job in work]
    for name, layout in config.operand_layouts.items():
        words: list[int] = []
        for job, image in zip(jobs, images, strict=True):
            words += gap * [0]
            job[f"{name}_base"] = len(words)
            words += integers(image[name])
        memory = Memory(shape=layout.size, depth=len(words), init=words)
        m.submodules[f"memory_{name}"] = memory
        read, port = memory.read_port(), getattr(dut, name)
        m.d.comb += [read.addr.eq(port.address), read.en.eq(port.enable), port.data.as_value().eq(read.data)]
    last = last_results(config, work)
    rng = np.random.default_rng(seed)
    got: list[int] = []
    given: list[int] = []
    taken: list[int] = []

    async def drive(ctx: SimulatorContext) -> None:
        ctx.set(dut.zero_point, work[0][0].zero_point)
        for cycle in range(20_000):
            ready = seed is None or rng.random() < 0.6
            ctx.set(dut.i.valid, len(taken) < len(jobs))
            ctx.set(dut.i.payload, jobs[min(len(taken), len(jobs) - 1)])
            ctx.set(dut.o.ready, int(ready))
            _, _, took, valid, payload = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload.as_value())
            if took and len(taken) < len(jobs):
                taken.append(cycle)
            if valid and ready:
                got.append(payload)
                given.append(cycle)
            if len(got) == last[-1] + 1:
                return
        raise TimeoutError(f"{len(got)} of {last[-1] + 1} results")

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return Run(collected(config, got), [given[place] - taken[0] + 1 for place in last], len(jobs) - len(taken))


SHAPES = [
    # rows, columns, group, depth, (tokens, inputs, outputs)
    (1, 1, None, 1, (1, 1, 1)),
    (3, 2, 5, 4, (9, 13, 5)),
    (2, 3, None, 8, (5, 9, 7)),
    (1, 2, 2, 3, (7, 5, 3)),
    (4, 1, 8, 2, (5, 17, 2)),
    (1, 6, 2, 2, (1, 4, 6)),
    (2, 5, 3, 2, (3, 7, 12)),
]


@pytest.mark.parametrize("rows, columns, group, depth, shape", SHAPES)
def test_operands_from_memories_give_the_reference_in_one_cycle_more_than_from_streams(
    rows, columns, group, depth, shape
):
    rng = np.random.default_rng(sum(shape))
    for signed, two_pass in ((True, False), (False, True)):
        config = ArrayConfig(
            rows, columns, 4, signed, two_pass=two_pass, group=group, depth=depth, max_inputs=32,
            group_multiplier_bits=8 if group else 0, address_bits=10,
        )  # fmt: skip
        work = random_work(rng, config, shape)
        outcome = run(config, [work])
        assert np.array_equal(outcome.codes, expected(config, [work]))
        assert outcome.cycles == cycles(config, *work) + FETCH_CYCLES
        outcome = run(config, [work, work], seed=1)
        assert np.array_equal(outcome.codes, expected(config, [work, work]))


def late(config: ArrayConfig, work: Sequence[Work], gap: int = 0) -> list[int]:
    """By how many cycles each job's last result misses the formula; the codes must be the reference's."""
    outcome = run(config, work, gap=gap)
    assert np.array_equal(outcome.codes, expected(config, work)) and outcome.left == 0
    return [seen - FETCH_CYCLES - formula for seen, formula in zip(outcome.ends, ends(config, work), strict=True)]


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(small_arrays(), st.lists(job_shapes(), min_size=2, max_size=4), st.integers(0, 3), st.integers(0, 99))
def test_any_jobs_that_wait_behind_one_another_in_memories_are_fetched_without_a_cycle_between(config, jobs, gap, seed):
    config = dataclasses.replace(config, address_bits=12)
    assert late(config, random_jobs(np.random.default_rng(seed), config, jobs), gap) == [0] * len(jobs)


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 7), (2, 6), (3, 4), (1, 16), (5, 2)])
@pytest.mark.parametrize("signed, two_pass", [(True, False), (False, False), (False, True)])
def test_jobs_shorter_than_the_way_through_the_grid_follow_one_another_too(rows, columns, signed, two_pass):
    config = ArrayConfig(rows, columns, 2, signed, two_pass=two_pass, group=2, depth=2, max_inputs=8, address_bits=8)
    shapes = [((tokens, inputs, outputs), 4) for tokens, inputs, outputs in ((3, 8, columns + 1), *6 * [(1, 1, 1)])]
    work = random_jobs(np.random.default_rng(columns), config, shapes)
    assert late(config, work) == [0] * len(work)


def test_too_little_room_for_jobs_and_a_formula_off_by_one_are_seen(monkeypatch):
    config = ArrayConfig(1, 7, 2, False, group=2, depth=2, max_inputs=8, address_bits=8)
    work = random_jobs(np.random.default_rng(6), config, 5 * [((1, 1, 1), 8)])
    assert late(config, work) == [0] * 5
    interval = Schedule.interval
    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "interval", lambda *job: interval(*job) + 1)
        assert late(config, work) == [-1, -2, -3, -4, -5]
    made = Waiting.__init__

    def narrow(self, *arguments):
        made(self, *arguments)
        self.depth = 1

    monkeypatch.setattr(Waiting, "__init__", narrow)
    seen = late(config, work)
    assert seen[0] == 0 and seen[-1] > 0


def test_the_results_are_the_image_of_a_following_layer_s_activations():
    config = ArrayConfig(2, 2, max_inputs=8, group_multiplier_bits=0, depth=4)
    rng = np.random.default_rng(1)
    layer, activations = random_work(rng, config, (3, 5, 6))
    following, _ = random_work(rng, config, (3, 6, 1))
    outputs = layer.output(activations)
    as_image = operands.pack([(operands.results(config, outputs, layer.zero_point), 8)])
    assert np.array_equal(as_image, operands.images(config, following, outputs).a)


def test_a_word_out_of_place_is_seen():
    config = ArrayConfig(2, 2, weight_signed=False, group=4, max_inputs=8, depth=4)
    layer, activations = random_work(np.random.default_rng(2), config, (3, 8, 4))
    moved = dataclasses.replace(layer, weights=np.roll(layer.weights, 1, axis=1))
    assert not np.array_equal(run(config, [(moved, activations)]).codes, expected(config, [(layer, activations)]))


def test_images_that_do_not_fit_the_addresses_are_refused():
    config = ArrayConfig(2, 2, max_inputs=8, group_multiplier_bits=0, address_bits=3)
    work = random_work(np.random.default_rng(3), config, (3, 8, 2))
    with pytest.raises(InputError, match="address_bits must be at least 4 for 12 words, not 3"):
        operands.images(config, *work)
