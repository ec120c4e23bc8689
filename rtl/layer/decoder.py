"""What an engine for causal language models has besides: rotations, products of elements, magnitudes of columns."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.blocks.arithmetic import saturate
from rtl.layer.config import COUNT_BITS, EngineConfig
from rtl.product import ProductConfig, ProductUnit
from rtl.rope import RopeConfig, RopeUnit
from sim.reference.engine import NARROW_BITS
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS
from sim.reference.rope import FRAC_BITS
from sim.reference.token import IN_BITS


class Rotators(wiring.Component):
    """A rotation in each lane. `i` carries two words, `o` a word.

    Beats of `i` come in pairs: the words of both halves, then those of cosines and sines. So do those of `o`: the first
    half's result, then the second's.
    """

    stages = RopeConfig.stages

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.layout = StructLayout({"a": config.word, "b": config.word})
        super().__init__({"i": In(stream.Signature(self.layout)), "o": Out(stream.Signature(config.word))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        halves = Signal(self.layout, reset_less=True)
        angles, second = Signal(), Signal()  # what comes next, and what goes out next
        later = Signal(self.config.word, reset_less=True)  # the second half's result
        taken = self.i.valid & self.i.ready
        with m.If(taken):
            m.d.sync += angles.eq(~angles)
        with m.If(taken & ~angles):
            m.d.sync += halves.eq(self.i.payload)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += second.eq(~second)
        for k in range(self.config.lanes):
            m.submodules[f"lane_{k}"] = lane = RopeUnit(RopeConfig())
            m.d.comb += [
                lane.i.payload.a.eq(halves.a[k]),
                lane.i.payload.b.eq(halves.b[k]),
                lane.i.payload.cosine.eq(self.i.payload.a[k]),
                lane.i.payload.sine.eq(self.i.payload.b[k]),
                lane.i.valid.eq(self.i.valid & angles),
                lane.o.ready.eq(self.o.ready & ~second),
                lane.shift.eq(FRAC_BITS),
                self.o.payload[k].eq(Mux(second, later[k], lane.o.payload.a)),
            ]
            with m.If(~second):
                m.d.sync += later[k].eq(lane.o.payload.b)
            if not k:  # all lanes move together
                m.d.comb += [self.i.ready.eq(~angles | lane.i.ready), self.o.valid.eq(second | lane.o.valid)]
        return m


class Products(wiring.Component):
    """A product in each lane. `i` carries two words, `o` a word; the other inputs are quasi-static."""

    stages = ProductConfig.stages

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(StructLayout({"a": config.word, "b": config.word}))),
                "o": Out(stream.Signature(config.word)),
                "multiplier": In(MULTIPLIER_BITS),
                "shift": In(range(MAX_SHIFT + 1)),
                "narrow": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for k in range(self.config.lanes):
            m.submodules[f"lane_{k}"] = lane = ProductUnit(ProductConfig())
            code = lane.o.payload
            m.d.comb += [
                lane.i.payload.a.eq(self.i.payload.a[k]),
                lane.i.payload.b.eq(self.i.payload.b[k]),
                lane.i.valid.eq(self.i.valid),
                lane.o.ready.eq(self.o.ready),
                lane.multiplier.eq(self.multiplier),
                lane.shift.eq(self.shift),
                self.o.payload[k].eq(Mux(self.narrow, saturate(code, signed(NARROW_BITS)), code)),
            ]
            if not k:  # all lanes move together
                m.d.comb += [self.i.ready.eq(lane.i.ready), self.o.valid.eq(lane.o.valid)]
        return m


class ColumnMagnitudes(wiring.Component):
    """The magnitudes of keys and values, which are columns of scores: `word` has those of a tile.

    `write` keeps the one of a column. `start` goes to the tile that begins with the column `first`, quasi-static from
    the next cycle on, and `step` to the next tile. `word` follows two cycles after `start`, one after `step`.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        write = {"enable": Out(1), "row": Out(COUNT_BITS), "value": Out(IN_BITS)}
        super().__init__(
            {
                "write": In(wiring.Signature(write)),
                "start": In(1),
                "step": In(1),
                "first": In(COUNT_BITS),
                "word": Out(ArrayLayout(unsigned(IN_BITS), config.lanes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, lane_bits = self.config, (self.config.lanes - 1).bit_length()
        m.submodules.memory = memory = Memory(shape=self.word.shape(), depth=config.column_words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=1)
        tile, following = Signal(COUNT_BITS), Signal(COUNT_BITS)
        m.d.comb += [
            following.eq(tile + self.step),
            read.addr.eq((self.first >> lane_bits) + following),
            read.en.eq(1),
            self.word.eq(read.data),
            write.addr.eq(self.write.row >> lane_bits),
            write.data.eq(Cat([self.write.value] * config.lanes)),
            write.en.eq(Mux(self.write.enable, C(1, config.lanes) << self.write.row[:lane_bits], 0)),
        ]
        m.d.sync += tile.eq(Mux(self.start, 0, following))
        return m


def both_words(m: Module, unit: Any, a: Any, b: Any, runs: Signal) -> None:
    """Feed a unit of two words from two streams while its instruction runs."""
    m.d.comb += [unit.i.payload.a.eq(a.payload), unit.i.payload.b.eq(b.payload)]
    with m.If(runs):
        both = a.valid & b.valid
        m.d.comb += [
            unit.i.valid.eq(both),
            a.ready.eq(both & unit.i.ready),
            b.ready.eq(both & unit.i.ready),
        ]
