"""The Hadamard transform in gates: `sim.reference.hadamard`, a word in and a word out in every cycle.

There is a stage for each distance d = n/2, n/4, ... 1. It keeps the first d words of 2d; each of the next d words gives
its sum with the word that is d before it, and leaves the difference in that word's place. The d differences follow,
while the next words come in. A stage is one adder, one subtractor and a memory of d words, n - 1 words in all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, EnableInserter, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.rounding import rounding_steps
from rtl.unit_config import UnitConfig
from sim.reference.arithmetic import code_range
from sim.reference.hadamard import Hadamard

SMALL = 8  # up to so many words are a queue in flip-flops, more are a memory to be built as RAM


@dataclass(frozen=True)
class HadamardConfig(UnitConfig):
    """Blocks of `block` signed codes, a power of two in 2..4096, of `in_bits` to codes of `out_bits`, 4..16 each.

    `stages` is the depth of the rounding behind the butterflies, 1..2. A value out of its range raises `InputError`
    with its name.
    """

    block: int = 128
    in_bits: int = 16
    out_bits: int = 16
    stages: int = 1

    def __post_init__(self) -> None:
        Hadamard(self.block, 0, self.in_bits, self.out_bits)  # checks the fields
        pipeline.check_stages(self.stages, 2)

    @property
    def distances(self) -> list[int]:
        """Of the stages, in order."""
        return [self.block >> k + 1 for k in range(self.max_shift)]

    @property
    def latency(self) -> int:
        """Cycles from a code to the result in its place."""
        return self.block - 1 + self.max_shift + self.stages

    @property
    def max_shift(self) -> int:
        """The largest shift, log2 of the block."""
        return self.block.bit_length() - 1

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first."""
        return StructLayout({"x": signed(self.in_bits), "last": unsigned(1)})

    @property
    def out_layout(self) -> StructLayout:
        """The output payload, lowest bit first: with 16 bits that of the token quantiser's input."""
        return StructLayout({"x": signed(self.out_bits), "last": unsigned(1)})

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """Any shift."""
        return {"shift": int(rng.integers(0, self.max_shift, endpoint=True))}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """About `count` codes in rows of one to four blocks: of corners, of an outlier, and of every magnitude."""
        blocks = -(-count // self.block)
        low, high = code_range(self.in_bits, True)
        x = rng.integers(low, high, (blocks, self.block), endpoint=True) >> rng.integers(0, self.in_bits, (blocks, 1))
        kind = rng.integers(0, 6, blocks)[:, None]
        x = np.where(kind == 0, rng.choice([low, high], x.shape), x)
        x = np.where(kind == 1, np.where(np.arange(self.block) == rng.integers(self.block), low, 0), x)
        x[:2] = np.array([[low], [high]])[: len(x)]
        last = np.zeros(x.shape, dtype=np.int64)
        ends = rng.random(blocks) < 0.5
        ends[3::4] = ends[-1] = True
        last[:, -1] = ends
        return {"x": x.ravel().astype(np.int64), "last": last.ravel()}

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The codes that the specification gives."""
        reference = Hadamard(self.block, load["shift"], self.in_bits, self.out_bits)
        return {"x": reference.transform(inputs["x"]), "last": inputs["last"]}


class HadamardUnit(wiring.Component):
    """The Hadamard transform of blocks of codes as a component.

    `i` and `o` carry (x, last); `last` is 1 at the end of a row, which is the end of a block, and comes out with the
    block's last result. The input `shift` is quasi-static: changing it with beats in flight is undefined.

    The latency is block - 1 + log2(block) + `stages` cycles, the throughput one code per cycle.
    """

    stall = (
        "All registers of the unit move together, in a cycle where o__valid is 0 or o__ready is 1; otherwise none "
        "moves. i__ready is 1 in a cycle that moves; it depends on o__ready within the cycle. While o__valid is 1 and "
        "o__ready is 0, o__payload is stable. A block's results need no beat after its last."
    )
    reset = (
        "rst is synchronous and active high. It empties the unit: blocks inside, whole or in part, and any beat "
        "offered while it is high are dropped, o__valid is 0 from the next cycle on, and the next code taken begins a "
        "block. Data registers and memories keep their content."
    )

    def __init__(self, config: HadamardConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.in_layout)),
                "o": Out(stream.Signature(config.out_layout)),
                "shift": In(range(config.max_shift + 1)),
            }
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config = self.config
        rings = [(k, distance) for k, distance in enumerate(config.distances) if distance > SMALL]
        return {
            "parameters": config.to_dict(),
            "latency": config.latency,
            "interval": 1,
            "result": f"o__payload.x = saturate(round_half_up(h * 2**-shift)), h the sums of a block of {config.block} "
            "codes with the signs of the Sylvester matrix's rows, in its order",
            "streams": {
                "i": f"a code; last, 1 to end a row, at the end of a block of {config.block}, else undefined",
                "o": "a result for each code, in order, and last as it came in",
            },
            "ranges": {"shift": [0, config.max_shift]},
            "outside_ranges": "undefined",
            "quasi_static": "shift must not change with beats in flight: drain first",
            "memories": [
                {"name": f"stage_{k}.ring", "words": distance, "bits": config.in_bits + k + 1} for k, distance in rings
            ],
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        move = Signal()
        valid, last, word = self.i.valid & self.i.ready, self.i.payload.last, self.i.payload.x
        for k, distance in enumerate(config.distances):
            stage = Butterflies(distance, config.in_bits + k)
            m.submodules[f"stage_{k}"] = EnableInserter(move)(stage)
            m.d.comb += [stage.valid.eq(valid), stage.last.eq(last), stage.word.eq(word)]
            valid, last, word = stage.out_valid, stage.out_last, stage.result
        steps = rounding_steps("total", self.shift, config.max_shift, signed(config.out_bits))
        fields = {"total": word, "last": last}
        valid, fields = pipeline.staged(m, valid, fields, steps, config.stages, ("code", "last"), move)
        m.d.comb += [
            move.eq(self.o.ready | ~valid),
            self.i.ready.eq(move),
            self.o.valid.eq(valid),
            Value.cast(self.o.payload).eq(Cat(fields["code"], fields["last"])),
        ]
        return m


class Butterflies(wiring.Component):
    """The sums and differences of words of `bits` that are `distance` apart, a power of two; every register moves in
    every cycle.

    `valid`, `last` and `word` come in, `out_valid`, `out_last` and `result` go out: for each 2 * `distance` words, as
    many sums, each a cycle after its second word, and the differences in the cycles that follow.
    """

    def __init__(self, distance: int, bits: int) -> None:
        self.distance, self.bits = distance, bits
        super().__init__(
            {
                "valid": In(1),
                "last": In(1),
                "word": In(signed(bits)),
                "out_valid": Out(1),
                "out_last": Out(1),
                "result": Out(signed(bits + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = signed(self.bits + 1)
        taken = Signal(range(2 * self.distance))  # words of this group
        left = Signal(range(self.distance + 1))  # differences that are still to leave
        ends = Signal(reset_less=True)  # whether they end a row
        adds, leaves, kept = Signal(), Signal(), Signal(shape)
        m.d.comb += [adds.eq(self.valid & taken[-1]), leaves.eq(left.any())]
        self._keep(m, taken, adds | leaves, kept)
        with m.If(self.valid):
            m.d.sync += taken.eq(taken + 1)
        with m.If(self.valid & taken.all()):
            m.d.sync += [left.eq(self.distance), ends.eq(self.last)]
        with m.Elif(leaves):
            m.d.sync += left.eq(left - 1)
        total, result = Signal(shape), Signal(shape, reset_less=True)
        out_valid, out_last = Signal(), Signal(reset_less=True)
        m.d.comb += [total.eq(kept + self.word), self.result.eq(result)]
        m.d.comb += [self.out_valid.eq(out_valid), self.out_last.eq(out_last)]
        m.d.sync += [
            out_valid.eq(adds | leaves),
            out_last.eq(leaves & ends & (left == 1)),
            result.eq(Mux(leaves, kept, total)),
        ]
        return m

    def _keep(self, m: Module, taken: Signal, steps: Value, kept: Signal) -> None:
        """Drive `kept` with the word or difference whose turn it is; `steps` is 1 in a cycle that uses it.

        A word comes in at the earliest in the cycle in which the difference in its place leaves.
        """
        data = Signal.like(kept, name="data")
        m.d.comb += data.eq(Mux(taken[-1], kept - self.word, self.word))
        if self.distance == 1:
            only = Signal.like(kept, name="only", reset_less=True)
            m.d.comb += kept.eq(only)
            with m.If(self.valid):
                m.d.sync += only.eq(data)
            return
        memory = Memory(shape=kept.shape(), depth=self.distance, init=[])
        m.submodules["ring" if self.distance > SMALL else "queue"] = memory
        write, read = memory.write_port(), memory.read_port()
        place, ahead = Signal(range(self.distance)), Signal(range(self.distance))
        m.d.comb += [
            write.addr.eq(taken[:-1]), write.data.eq(data), write.en.eq(self.valid),
            ahead.eq(place + steps), read.addr.eq(ahead), read.en.eq(self.valid | steps), kept.eq(read.data),
        ]  # fmt: skip
        m.d.sync += place.eq(ahead)
