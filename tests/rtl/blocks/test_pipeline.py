"""The shared pipeline: where it is cut, that stalls and resets lose nothing, and that the bench would see it."""

import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import ClockDomain, Module, ResetSignal, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rtl.blocks.pipeline import Step, build, cut
from sim.reference import InputError
from tests.rtl.bench import simulate


class Counter(wiring.Component):
    """payload + 1 + 1 + ..., one step per stage; `broken` takes a beat whether or not it can move on."""

    def __init__(self, stages: int, broken: bool = False) -> None:
        self.stages, self.broken = stages, broken
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = ["payload", *(f"x{k}" for k in range(self.stages - 1)), "result"]
        steps = [
            Step(new, (old,), 1, lambda m, f, old=old, new=new: {new: (f[old] + 1)[:8]}) for old, new in pairwise(names)
        ]
        inner = stream.Signature(8).create()
        build(m, inner, self.o, steps, self.stages)
        m.d.comb += [inner.payload.eq(self.i.payload), inner.valid.eq(self.i.valid)]
        m.d.comb += self.i.ready.eq(1 if self.broken else inner.ready)
        return m


def test_cuts_make_the_slowest_stage_as_fast_as_any_cuts_can():
    rng = np.random.default_rng(0)
    for _ in range(200):
        levels = rng.integers(1, 40, rng.integers(1, 9)).tolist()
        stages = int(rng.integers(1, len(levels) + 1))
        ranks = cut(levels, stages)
        assert len(ranks) == stages and ranks == sorted(set(ranks)) and ranks[-1] == len(levels) - 1

        def slowest(ends: list[int], levels=levels) -> int:
            edges = [0, *(end + 1 for end in ends)]
            return max(sum(levels[a:b]) for a, b in pairwise(edges))

        every = ([*inner, len(levels) - 1] for inner in combinations(range(len(levels) - 1), stages - 1))
        assert slowest(ranks) == min(map(slowest, every))
    with pytest.raises(InputError, match=r"stages must be in 1\.\.2, not 3"):
        cut([1, 1], 3)


@pytest.mark.parametrize("stages", [1, 2, 5])
def test_random_stalls_lose_duplicate_and_reorder_nothing(stages):
    beats = list(range(200))
    for seed in range(5):
        got, taken, given = simulate(Counter(stages), beats, seed=seed)
        assert got == [(b + stages) & 255 for b in beats]
        assert all(g - t >= stages for t, g in zip(taken, given, strict=True))


def test_a_unit_that_drops_beats_is_seen():
    with pytest.raises(TimeoutError):
        simulate(Counter(2, broken=True), list(range(50)), seed=1)


def test_a_reset_in_mid_stream_empties_the_unit_and_the_next_beats_are_right():
    unit = Counter(3)
    got: list[int] = []

    m = Module()
    m.domains.sync = ClockDomain()
    m.submodules.unit = unit
    reset = Signal()
    m.d.comb += ResetSignal().eq(reset)

    async def drive(ctx):
        ctx.set(unit.i.valid, 1)
        ctx.set(unit.i.payload, 100)
        await ctx.tick().repeat(3)
        assert ctx.get(unit.o.valid) == 1 and ctx.get(unit.i.ready) == 0  # full and stalled
        await ctx.tick().repeat(2)
        assert ctx.get(unit.o.payload) == 103  # stable while it waits
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert ctx.get(unit.o.valid) == 0 and ctx.get(unit.i.ready) == 1
        ctx.set(unit.i.payload, 7)
        ctx.set(unit.o.ready, 1)
        for _ in range(8):
            valid, payload = (await ctx.tick().sample(unit.o.valid, unit.o.payload))[-2:]
            got.extend([payload] if valid else [])
            ctx.set(unit.i.valid, 0)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    simulator.run()
    assert got == [10]


def test_only_what_a_later_step_reads_is_kept_in_registers():
    unit = Counter(2)
    text = verilog.convert(unit, name="unit", emit_src=False, strip_internal_attrs=True)
    registers = set(re.findall(r"^    (\w+) <= ", text, re.M))
    assert registers == {"x0_0", "valid_0", "o__payload", "o__valid"}
