"""How the engine's units meet its memory: walks of addresses, and a stream of the words along a walk."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.layer.config import EngineConfig


class Walker(wiring.Component):
    """The addresses of a walk. `start` puts it at `base`; from the next cycle on `walk` has the counts and strides.

    `step` goes on to the next address; `active` is 1 until the last one is passed.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "base": In(config.address_bits),
                "walk": In(config.walk),
                "step": In(1),
                "address": Out(config.address_bits),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        walk = self.walk
        # where the present round of each level began; the innermost level's address is the output
        begun = [self.address, *(Signal.like(self.address, name=f"begun_{level}") for level in (1, 2))]
        left = [Signal.like(walk[f"count_{level}"], name=f"done_{level}") for level in range(3)]
        last = [left[level] == walk[f"count_{level}"] - 1 for level in range(3)]
        with m.If(self.start):
            m.d.sync += [self.active.eq(1), *(b.eq(self.base) for b in begun), *(n.eq(0) for n in left)]
        with m.Elif(self.step & self.active):
            with m.If(~last[0]):
                m.d.sync += [left[0].eq(left[0] + 1), begun[0].eq(begun[0] + walk.stride_0)]
            with m.Elif(~last[1]):
                following = (begun[1] + walk.stride_1)[: len(self.address)]
                m.d.sync += [left[0].eq(0), left[1].eq(left[1] + 1), *(b.eq(following) for b in begun[:2])]
            with m.Else():
                following = (begun[2] + walk.stride_2)[: len(self.address)]
                m.d.sync += [left[0].eq(0), left[1].eq(0), left[2].eq(left[2] + 1), *(b.eq(following) for b in begun)]
                m.d.sync += self.active.eq(~last[2])
        return m


class Reader(wiring.Component):
    """The words along a walk, as a stream: one per cycle, the first two cycles after `start`.

    `enable`, `address` and `data` are the read port of a memory whose data comes a cycle later and stays until the next
    read. `active` is 1 until the last word is taken.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "base": In(config.address_bits),
                "walk": In(config.walk),
                "enable": Out(1),
                "address": Out(config.address_bits),
                "data": In(config.word),
                "words": Out(stream.Signature(config.word)),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walker = walker = Walker(self.config)
        go = Signal()
        m.d.comb += [
            walker.start.eq(self.start),
            walker.base.eq(self.base),
            walker.walk.eq(self.walk),
            walker.step.eq(go),
            go.eq(~self.words.valid | self.words.ready),
            self.enable.eq(go & walker.active),
            self.address.eq(walker.address),
            self.words.payload.eq(self.data),
            self.active.eq(walker.active | self.words.valid),
        ]
        valid = Signal()
        m.d.comb += self.words.valid.eq(valid)
        m.d.sync += valid.eq(Mux(go, walker.active, valid))
        return m
