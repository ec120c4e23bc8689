"""The fetchers: operands read from memories of the stated layout, in the formula's cycles and one more for each job."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.memory import Memory
from amaranth.sim import Simulator

from rtl.array import operands
from rtl.array.config import ArrayConfig
from rtl.array.fetch import FETCH_CYCLES, MemoryGemm
from sim.reference import InputError
from tests.rtl.array.bench import Work, collected, cycles, expected, integers, job_beat, random_work


def run(config: ArrayConfig, work: Work, seed: int | None = None, jobs: int = 1) -> tuple[np.ndarray, int]:
    """(codes, cycles to the first job's last result) of the same job, `jobs` times over, from memories."""
    m = Module()
    m.submodules.dut = dut = MemoryGemm(config)
    for name, words in operands.images(config, *work)._asdict().items():
        if words is None:
            continue
        layout = config.operand_layouts[name]
        memory = Memory(shape=layout.size, depth=len(words), init=integers(words))
        m.submodules[f"memory_{name}"] = memory
        read, port = memory.read_port(), getattr(dut, name)
        m.d.comb += [read.addr.eq(port.address), read.en.eq(port.enable), port.data.as_value().eq(read.data)]
    layer, activations = work
    each = len(activations) * config.schedule.output_tiles(layer.outputs)
    rng = np.random.default_rng(seed)
    got, given, taken = [], [], []

    async def drive(ctx):
        ctx.set(dut.zero_point, layer.zero_point)
        ctx.set(dut.i.payload.as_value(), job_beat(config, *work))
        for cycle in range(20_000):
            ready = seed is None or rng.random() < 0.6
            ctx.set(dut.i.valid, len(taken) < jobs)
            ctx.set(dut.o.ready, int(ready))
            _, _, took, valid, payload = await ctx.tick().sample(dut.i.ready, dut.o.valid, dut.o.payload.as_value())
            if took and len(taken) < jobs:
                taken.append(cycle)
            if valid and ready:
                got.append(payload)
                given.append(cycle)
            if len(got) == jobs * each:
                return
        raise TimeoutError(f"{len(got)} of {jobs * each} results")

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    return collected(config, got), given[each - 1] - taken[0] + 1


@pytest.mark.parametrize(
    "rows, columns, group, depth, shape",
    [
        (1, 1, None, 1, (1, 1, 1)),
        (3, 2, 5, 4, (9, 13, 5)),
        (2, 3, None, 8, (5, 9, 7)),
        (1, 2, 2, 3, (7, 5, 3)),
        (4, 1, 8, 2, (5, 17, 2)),
    ],
)
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
        codes, took = run(config, work)
        assert np.array_equal(codes, expected(config, [work])) and took == cycles(config, *work) + FETCH_CYCLES
        codes, took = run(config, work, seed=1, jobs=2)
        assert np.array_equal(codes, np.tile(expected(config, [work]), (2, 1)))


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
    assert not np.array_equal(run(config, (moved, activations))[0], expected(config, [(layer, activations)]))


def test_images_that_do_not_fit_the_addresses_are_refused():
    config = ArrayConfig(2, 2, max_inputs=8, group_multiplier_bits=0, address_bits=3)
    work = random_work(np.random.default_rng(3), config, (3, 8, 2))
    with pytest.raises(InputError, match="address_bits must be at least 4 for 12 words, not 3"):
        operands.images(config, *work)
