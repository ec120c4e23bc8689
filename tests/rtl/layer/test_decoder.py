"""The parts of an engine for causal language models in Amaranth's simulator."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from rtl.layer.config import EngineConfig
from rtl.layer.decoder import ColumnMagnitudes, Rotators
from sim.reference.rope import Rope
from tests.rtl.layer.small import NORM, SOFTMAX

CONFIG = EngineConfig(SOFTMAX, NORM, lanes=2, words=64, row_units=2, max_tokens=5, max_inputs=8, decoder=True)


def _run(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_rotators_turn_every_pair_with_and_without_stalls(seed):
    component, rng = Rotators(CONFIG), np.random.default_rng(seed or 0)
    pairs, found = 12, []
    halves = rng.integers(-(1 << 15), 1 << 15, (pairs, CONFIG.lanes, 2))
    angles = rng.integers(-16384, 16385, (pairs, CONFIG.lanes, 2))
    beats = np.stack([halves, angles], 1).reshape(2 * pairs, CONFIG.lanes, 2)

    async def bench(ctx):
        given = 0
        for _ in range(20 * pairs):
            offered = given < len(beats) and (seed is None or rng.random() < 0.6)
            wanted = seed is None or rng.random() < 0.6
            ctx.set(component.i.valid, offered)
            ctx.set(component.o.ready, wanted)
            if offered:
                ctx.set(component.i.payload, {name: beats[given, :, k].tolist() for k, name in enumerate("ab")})
            if wanted and ctx.get(component.o.valid):
                found.append([ctx.get(component.o.payload[k]) for k in range(CONFIG.lanes)])
            given += offered and ctx.get(component.i.ready)
            await ctx.tick()

    _run(component, bench)
    expected = Rope().rotate(halves, angles[..., :1], angles[..., 1:]).transpose(0, 2, 1)
    assert found == expected.reshape(-1, CONFIG.lanes).tolist()


def test_magnitudes_are_read_a_tile_at_a_time():
    component = ColumnMagnitudes(replace(CONFIG, max_tokens=4))
    values = [7, 32768, 1, 9, 300, 5, 8, 2]
    found = []

    async def bench(ctx):
        for row, value in enumerate(values):
            ctx.set(component.write.enable, 1)
            ctx.set(component.write.row, row)
            ctx.set(component.write.value, value)
            await ctx.tick()
        ctx.set(component.write.enable, 0)
        ctx.set(component.first, 2)
        ctx.set(component.start, 1)
        await ctx.tick()
        ctx.set(component.start, 0)
        await ctx.tick()
        for _ in range(3):
            found.append([ctx.get(component.word[k]) for k in range(CONFIG.lanes)])
            ctx.set(component.step, 1)
            await ctx.tick()
            ctx.set(component.step, 0)

    _run(component, bench)
    assert found == [values[2:4], values[4:6], values[6:8]]
