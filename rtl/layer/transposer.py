"""A square of registers that turns a tile's words by a quarter: words come in as columns, and go out as rows.

Every other tile moves through the square in the other direction, so that the next tile comes in while one goes out, one
word per cycle. The array wants a tile's last row first.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from rtl.layer.config import EngineConfig
from sim.reference.engine import NARROW_BITS


class Transposer(wiring.Component):
    """The transposer: `i` takes words, `lanes` of them for each tile, `o` gives as many beats of weights.

    `start` empties it. `more` is 1 while words of the job are still to come; after them the last tile goes out alone.
    The first beat is there `lanes` cycles after the first word.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "more": In(1),
                "i": In(stream.Signature(config.word)),
                "o": Out(stream.Signature(config.weights)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self.config.lanes
        square = [Signal(ArrayLayout(NARROW_BITS, lanes), name=f"row_{i}", reset_less=True) for i in range(lanes)]
        sideways = Signal()  # words come in by the first column and leave by the last one; else by rows
        full = Signal()
        moved = Signal(range(lanes))
        into = [self.i.payload[k][:NARROW_BITS] for k in range(lanes)]
        move = Signal()
        m.d.comb += [
            self.o.valid.eq(full & (self.i.valid | ~self.more)),
            move.eq(Mux(full, self.o.valid & self.o.ready, self.i.valid)),
            self.i.ready.eq(move),
            *(
                self.o.payload[k].eq(Mux(sideways, square[lanes - 1 - k][lanes - 1], square[lanes - 1][lanes - 1 - k]))
                for k in range(lanes)
            ),
        ]
        with m.If(move):
            m.d.sync += moved.eq(Mux(moved == lanes - 1, 0, moved + 1))
            with m.If(~sideways):
                m.d.sync += square[0].eq(Cat(into))
                m.d.sync += [square[i].eq(square[i - 1]) for i in range(1, lanes)]
            with m.Else():
                m.d.sync += [
                    square[i].eq(Cat(into[i], square[i].as_value()[: NARROW_BITS * (lanes - 1)])) for i in range(lanes)
                ]
            with m.If(moved == lanes - 1):
                m.d.sync += [full.eq(self.i.valid), sideways.eq(~sideways)]
        with m.If(self.start):
            m.d.sync += [full.eq(0), moved.eq(0), sideways.eq(0)]
        return m
