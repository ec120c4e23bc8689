"""Operands from memories: a counter for each stream walks through its image in the order in which the array takes it.

`rtl.array.operands` defines the layout of the images. The memories are outside; each is read through a port

    enable, address   in a cycle in which enable is 1 the word at address is read
    data              is that word from the next cycle on, until the next read

A job gives the address at which each of its images begins. Its first words must be read first, so a job takes one cycle
more than with streams. Queued jobs are fetched ahead and take no extra cycle.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, connect, flipped

from rtl.array.config import ArrayConfig
from rtl.array.gemm import Gemm, present
from rtl.array.tiles import Tile, walk

FETCH_CYCLES = 1  # of a job that was not queued behind another
LAYOUT = {
    "w": "T_n * T_k * R words of C weights: (n * T_k + k) * R + j holds row R-1-j of input tile k of output tile n",
    "a": "T_k * M words of R activations: k * M + m holds the inputs of tile k of token m",
    "g": "T_n * G words of C (m_g, z_g): n * G + group",
    "c": "T_n words of C (bias, m_c, k_c): n",
    "read": "enable and address in a cycle give data in the next one, until the next read",
}


def job_layout(config: ArrayConfig) -> StructLayout:
    """A job of the array (`ArrayConfig.job_layout`), followed by the addresses of its images."""
    bases = {f"{name}_base": unsigned(config.address_bits) for name in config.operand_layouts}
    return StructLayout({name: field.shape for name, field in config.job_layout} | bases)


def read_port(config: ArrayConfig, operand: str) -> wiring.Signature:
    """The read port of an operand's memory, as its reader sees it."""
    data = In(config.operand_layouts[operand])
    return wiring.Signature({"enable": Out(1), "address": Out(config.address_bits), "data": data})


class Waiting(wiring.Component):
    """A queue of jobs from `i` to several `takers`, which take them at different times.

    The fetchers of weights and activations run ahead of the array. Those of constants run behind it, because their
    words are needed only after a vector has passed the grid. A job is passed on within the cycle if the queue is empty.
    The queue holds the jobs that can begin while a vector is in the grid, and the one that is fetched ahead.
    """

    def __init__(self, config: ArrayConfig, takers: Iterable[str]) -> None:
        shortest = config.schedule.interval(1, 1, 1)
        self.depth = config.accumulate_latency // shortest + 1
        self.takers = tuple(takers)
        jobs = stream.Signature(job_layout(config))
        super().__init__({"i": In(jobs)} | {name: Out(jobs) for name in self.takers})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taken = Signal()
        # the newest first
        kept = [Signal.like(self.i.payload, name=f"job_{k}", reset_less=True) for k in range(self.depth)]
        with m.If(taken):
            m.d.sync += [older.eq(newer) for newer, older in pairwise([self.i.payload, *kept])]
        full = []
        for name in self.takers:
            jobs = getattr(self, name)
            waiting = Signal(range(self.depth + 1), name=f"waiting_{name}")
            full.append(waiting == self.depth)
            m.d.comb += [
                jobs.valid.eq(taken | (waiting != 0)),
                jobs.payload.eq(Array([self.i.payload, *kept])[waiting]),
            ]
            m.d.sync += waiting.eq(waiting + taken - (jobs.valid & jobs.ready))
        m.d.comb += [self.i.ready.eq(~Cat(full).any()), taken.eq(self.i.valid & self.i.ready)]
        return m


class Fetcher(wiring.Component):
    """One stream's words: `jobs` in, reads on `memory`, beats on `beats`. `operand` is one of "w", "a", "g", "c".

    It steps through output tiles, blocks, input tiles and, for "w" and "a", the words of a tile, one beat per cycle. A
    step of "g" or "c" without a word takes a cycle, but the array's tile takes at least as long.
    """

    def __init__(self, config: ArrayConfig, operand: str) -> None:
        self.config = config
        self.operand = operand
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(config))),
                "memory": Out(read_port(config, operand)),
                "beats": Out(stream.Signature(config.operand_layouts[operand])),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        job = Signal(job_layout(config), reset_less=True)
        busy, valid, go, last_word = Signal(), Signal(), Signal(), Signal()
        word = Signal(range(max(config.rows, config.depth)))  # within the tile
        tile = walk(m, config, job, ~busy, self.jobs.payload, go & last_word)
        always = C(1)
        words, reads = {
            "w": (C(config.rows), always),
            "a": (tile.size, always),
            "g": (C(1), tile.begins_group),
            "c": (C(1), tile.first),
        }[self.operand]
        m.d.comb += [
            last_word.eq(word == words - 1),
            go.eq(~valid | self.beats.ready),
            self.jobs.ready.eq(~busy),
            self.memory.enable.eq(busy & go & reads),
            self.beats.valid.eq(valid),
            self.beats.payload.eq(self.memory.data),
        ]
        with m.If(go):
            m.d.sync += [valid.eq(busy & reads), word.eq(Mux(last_word, 0, word + 1))]
        with m.If(~busy):
            m.d.sync += [busy.eq(self.jobs.valid), job.eq(self.jobs.payload), word.eq(0)]
        with m.Elif(go & last_word & tile.last_of_job):
            m.d.sync += busy.eq(0)
        self._address(m, job, tile, ~busy, go, last_word, reads)
        return m

    def _address(self, m: Module, job: Any, tile: Tile, idle: Value, go: Value, last_word: Value, reads: Value) -> None:
        """Step the address. Activations: the block's words of each input tile in turn, the same for every output tile.
        Other images: in order, the words of an output tile again for each block.
        """
        base = f"{self.operand}_base"
        address = Signal.like(self.memory.address)
        begin = Signal.like(address)  # of the block, and for activations of the tile in it
        block = Signal.like(address)
        m.d.comb += self.memory.address.eq(address)
        end_of_block = last_word & tile.last
        following = (address + reads)[: len(address)]
        with m.If(idle):
            m.d.sync += [counter.eq(self.jobs.payload[base]) for counter in (address, begin, block)]
        with m.Elif(go):
            m.d.sync += address.eq(following)
            if self.operand == "a":
                next_tile = (begin + job.tokens)[: len(address)]
                next_block = Mux(tile.final_block, job[base], block + self.config.depth)[: len(address)]
                with m.If(end_of_block):
                    m.d.sync += [address.eq(next_block), begin.eq(next_block), block.eq(next_block)]
                with m.Elif(last_word):
                    m.d.sync += [address.eq(next_tile), begin.eq(next_tile)]
            else:
                with m.If(end_of_block & tile.final_block):
                    m.d.sync += begin.eq(following)
                with m.Elif(end_of_block):
                    m.d.sync += address.eq(begin)


class MemoryGemm(wiring.Component):
    """`rtl.array.gemm.Gemm` with a fetcher for each operand: `w`, `a`, `g` and `c` are read ports of memories.

    `i` takes a job with the addresses of its images (`job_layout`), and takes some ahead of the array. Only `o` can
    stall it. A first job takes `FETCH_CYCLES` more than `Schedule.cycles`; the interval between queued jobs is
    `Schedule.interval`. A job's images must not change until its last result.
    """

    stall = (
        "The unit waits while o__valid is 1 and o__ready is 0; o__payload is then stable. i__ready depends on no input "
        "within the cycle: it is 1 while there is room for a job to wait."
    )
    reset = Gemm.reset

    def __init__(self, config: ArrayConfig, latch_cell: str = "latch") -> None:
        self.config = config
        self.gemm = Gemm(config, latch_cell)
        members = dict(self.gemm.signature.members) | {"i": In(stream.Signature(job_layout(config)))}
        members |= {name: Out(read_port(config, name)) for name in config.operand_layouts}
        super().__init__(members)

    @property
    def verilog(self) -> str:
        """The text of the modules that the emitted Verilog needs beside the unit's own."""
        return self.gemm.verilog

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        description = self.gemm.describe()
        description["cycles"] = f"{FETCH_CYCLES} + {description['cycles']}"
        streams = description.pop("streams")
        return description | {
            "streams": {"i": f"{streams['i']}; the address of each image's word 0", "o": streams["o"]},
            "memories": present(self.config, LAYOUT),
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.gemm = gemm = self.gemm
        m.submodules.waiting = waiting = Waiting(self.config, ("array", *self.config.operand_layouts))
        connect(m, flipped(self.i), waiting.i)
        m.d.comb += [
            gemm.i.valid.eq(waiting.array.valid),
            gemm.i.payload.eq(waiting.array.payload.as_value()[: self.config.job_layout.size]),
            waiting.array.ready.eq(gemm.i.ready),
        ]
        for name in self.config.operand_layouts:
            fetcher = Fetcher(self.config, name)
            m.submodules[f"fetch_{name}"] = fetcher
            connect(m, getattr(waiting, name), fetcher.jobs)
            connect(m, fetcher.beats, getattr(gemm, name))
            connect(m, fetcher.memory, flipped(getattr(self, name)))
        for name, member in self.signature.members.items():
            if name in ("i", *self.config.operand_layouts):
                continue
            if member.is_signature:
                connect(m, flipped(getattr(self, name)), getattr(gemm, name))
            else:
                m.d.comb += getattr(gemm, name).eq(getattr(self, name))
        return m
