"""The engine: a memory, the array and the other units around it, and a sequencer that runs instructions one by one.

`sim.reference.engine` defines the instructions and what they do. An instruction is taken when the one before has
written its last word. Readers begin at once: the first word reaches a unit two cycles later.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.layer.config import SOURCES, TABLES, EngineConfig
from rtl.layer.decoder import ColumnMagnitudes, Products, Rotators, both_words
from rtl.layer.elementwise import Adders, Tables
from rtl.layer.memory_access import Reader, Walker
from rtl.layer.results import Results
from rtl.layer.rows import Rows, chosen_bits
from rtl.layer.sums import Sums
from rtl.layer.transposer import Transposer
from rtl.pwl import describe_table
from rtl.rowwise.norm import NormUnit
from rtl.rowwise.softmax import SoftmaxUnit
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS
from sim.reference.engine_cycles import START
from sim.reference.token import IN_BITS

CYCLES = (
    "from an instruction's being taken to the next one's, w words written, if nothing outside stalls: write 1; load "
    f"1 + w; store {START} + w; add, weigh, product and map {START} + w + stages, rotate one more; multiply 1 + wait + "
    "the array's cycles + stages, with a wait of 0 for weights from the stream, 1 from the memory, 1 + lanes "
    f"transposed; softmax, norm and quantise on G groups of rows {START} + units + the unit's cycles for G rows"
)
LAYOUT = (
    "element (m, n) of a tensor of M rows is lane n mod lanes of word base + (n div lanes) * M + m. A walk's addresses "
    "are base + i * stride_0 + j * stride_1 + k * stride_2 modulo the memory, i innermost, i < count_0, j < count_1, "
    "k < count_2"
)
STREAMS = {
    "program": "instructions; a field that an operation does not need is 0, mask is all ones but for map",
    "i": "the words of load, in the order of the walk o",
    "w": "for multiply from the stream: for each output tile, each input tile, `lanes` beats, its last row first",
    "c": "for multiply: for each output tile (bias, m, k) of each column, held until its last token is through",
    "o": "the words of store, in the order of the walk a",
}


HOST = (
    "hold rst at 1 for a clock edge before the first instruction",
    "write the table of softmax, norm or map before the first instruction that needs it: a write for each word of "
    "loads, with the table's number, select, the word's place as address, and its data; tables stay",
    "offer instructions in order; one runs at a time, so that none needs to wait for another's results",
    "offer the words of i, w and c in the order of the instructions that take them, and take those of o",
    "after a reset begin anew with the first instruction and the first words; tables and memory keep their content",
)


class Engine(wiring.Component):
    """The engine as a component.

    `program` takes instructions, `i` the words of "load", `w` and `c` the weights and the constants of linear layers;
    `o` gives the words of "store". `written` shows every write to the memory, for an observer: `lanes` has a bit for
    each element. `busy` is 1 while an instruction runs.
    """

    stall = (
        "An instruction waits for the words that it needs of i, w and c, and for o__ready. While o__valid is 1 and "
        "o__ready is 0, o__payload is stable. A beat of c is taken with the last token of its output tile and must be "
        "offered, unchanged, until then. program__ready is 1 while no instruction runs."
    )
    reset = (
        "rst is synchronous and active high. It ends the instruction that runs and drops what is on its way. Memory "
        "and tables keep their content; a program must then start anew."
    )

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        written = {"enable": Out(1), "address": Out(config.address_bits), "lanes": Out(config.lanes)}
        super().__init__(
            {
                "program": In(stream.Signature(config.instruction)),
                "i": In(stream.Signature(config.word)),
                "w": In(stream.Signature(config.weights)),
                "c": In(stream.Signature(config.channels)),
                "o": Out(stream.Signature(config.word)),
                "written": Out(wiring.Signature({**written, "data": Out(config.word)})),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        given, current = self.program.payload, Signal(config.instruction, reset_less=True)
        start = Signal()
        running = Signal()
        starts = {name: Signal(name=f"start_{name}") for name in config.operations}
        runs = {name: Signal(name=f"is_{name}") for name in config.operations}
        m.d.comb += [self.program.ready.eq(~running), start.eq(self.program.valid & ~running), self.busy.eq(running)]
        for number, name in enumerate(config.operations):
            m.d.comb += [
                starts[name].eq(start & (given.operation == number)),
                runs[name].eq(running & (current.operation == number)),
            ]
        with m.If(start):
            m.d.sync += current.eq(given)

        self._memory(m, given, current, start, starts, running)
        self.columns = ColumnMagnitudes(config) if config.decoder else None
        if self.columns is not None:
            m.submodules.column_magnitudes = self.columns
            m.d.comb += [self.columns.start.eq(start), self.columns.first.eq(current.first)]
        made = {
            "load": self.i,
            "multiply": self._array(m, current, starts, runs),
            "add": self._adders(m, current, runs),
            "map": self._tables(m, current, runs, starts),
            **dict.fromkeys(("softmax", "norm", "quantise"), self._rows(m, current, given, runs, starts)),
        }
        if config.decoder:
            made |= {
                "weigh": made["add"],
                "rotate": self._rotators(m, runs),
                "product": self._products(m, current, runs),
            }
        self._gather(m, current, runs, made)
        return m

    # ---- memory

    def _memory(
        self, m: Module, given: Any, current: Any, start: Signal, starts: Mapping[str, Signal], running: Signal
    ) -> None:
        """The memory with its readers `a` and `b` and its writer, and when an instruction has ended."""
        config = self.config
        m.submodules.memory = memory = Memory(shape=config.word, depth=config.words, init=[])
        both = Cat(starts[name] for name in ("add", "rotate", "product") if name in starts).any()
        reads = {"a": ~starts["load"] & ~starts["write"], "b": both | starts["multiply"] & (given.source != 0)}
        self.readers: dict[str, Reader] = {}
        for name, needed in reads.items():
            port = memory.read_port()
            self.readers[name] = reader = Reader(config)
            m.submodules[f"reader_{name}"] = reader
            m.d.comb += [
                reader.start.eq(start & needed),
                reader.base.eq(given[name].base),
                reader.walk.eq(current[name]),
                port.addr.eq(reader.address),
                port.en.eq(reader.enable),
                reader.data.eq(port.data),
            ]
        m.submodules.writer = writer = Walker(config)
        self.results = stream.Signature(config.word).create(path=("results",))
        write = memory.write_port(granularity=1)
        lanes = Signal(config.lanes)
        m.d.comb += [
            writer.start.eq(start & ~starts["store"] & ~starts["write"]),
            writer.base.eq(given.o.base),
            writer.walk.eq(current.o),
            writer.step.eq(self.results.valid),
            self.results.ready.eq(writer.active),
            lanes.eq(Mux(self.results.valid & writer.active, current.mask, 0)),
            write.addr.eq(writer.address),
            write.data.eq(self.results.payload),
            write.en.eq(lanes),
            self.written.enable.eq(self.results.valid & writer.active),
            self.written.address.eq(writer.address),
            self.written.lanes.eq(lanes),
            self.written.data.eq(self.results.payload),
            running.eq(writer.active | Cat(reader.active for reader in self.readers.values()).any()),
        ]

    def _gather(self, m: Module, current: Any, runs: Mapping[str, Signal], made: Mapping[str, Any]) -> None:
        """The results of the unit that runs to the writer; the words of "store" outside."""
        a = self.readers["a"].words
        m.d.comb += self.o.payload.eq(a.payload)
        with m.If(runs["store"]):
            m.d.comb += [self.o.valid.eq(a.valid), a.ready.eq(self.o.ready)]
        for name, results in made.items():
            with m.If(runs[name]):
                m.d.comb += [
                    self.results.valid.eq(results.valid),
                    self.results.payload.eq(results.payload),
                    results.ready.eq(self.results.ready),
                ]

    # ---- units

    def _array(self, m: Module, current: Any, starts: Mapping[str, Signal], runs: Mapping[str, Signal]) -> Any:
        """The array, its weights, and what follows it; returns the stream of results."""
        config = self.config
        m.submodules.array = array = Sums(config.array)
        m.submodules.transposer = transposer = Transposer(config)
        m.submodules.columns = results = Results(config)
        a, b = (self.readers[name].words for name in ("a", "b"))
        pending = Signal()  # the array has not taken its job yet
        weights = [SOURCES.index(name) for name in ("stream", "memory", "transposed")]
        m.d.comb += [
            array.i.payload.tokens.eq(current.a.count_0),
            array.i.payload.input_tiles.eq(current.a.count_1),
            array.i.payload.output_tiles.eq(current.a.count_2),
            array.i.valid.eq(pending & array.w.valid),
            array.c.valid.eq(1),
            transposer.start.eq(starts["multiply"]),
            transposer.more.eq(self.readers["b"].active),
            transposer.i.payload.eq(b.payload),
            results.narrow.eq(current.narrow),
        ]
        m.d.sync += pending.eq(starts["multiply"] | pending & ~(array.i.valid & array.i.ready))
        narrow = [b.payload[k][:NARROW_BITS] for k in range(config.lanes)]
        with m.If(runs["multiply"]):
            m.d.comb += [
                array.a.valid.eq(a.valid),
                a.ready.eq(array.a.ready),
                *(array.a.payload[k].eq(a.payload[k]) for k in range(config.lanes)),
            ]
            with m.Switch(current.source):
                with m.Case(weights[0]):
                    connect_stream(m, self.w, array.w)
                with m.Case(weights[1]):
                    m.d.comb += [array.w.valid.eq(b.valid), b.ready.eq(array.w.ready), array.w.payload.eq(Cat(narrow))]
                with m.Case(weights[2]):
                    connect_stream(m, transposer.o, array.w)
                    m.d.comb += [transposer.i.valid.eq(b.valid), b.ready.eq(transposer.i.ready)]

        # the token's magnitude, read ahead; the constants stay with their stream until the tile's last token
        self.magnitudes = Memory(shape=IN_BITS, depth=config.max_tokens, init=[])
        m.submodules.magnitudes = self.magnitudes
        read = self.magnitudes.read_port()
        token, following, taken, last = Signal(16), Signal(16), Signal(), Signal()
        m.d.comb += [
            last.eq(token == current.a.count_0 - 1),
            following.eq(Mux(taken, Mux(last, 0, token + 1), token)),
            read.addr.eq(following),
            read.en.eq(1),
            results.i.valid.eq(array.o.valid & self.c.valid),
            taken.eq(results.i.valid & results.i.ready),
            array.o.ready.eq(results.i.ready & self.c.valid),
            self.c.ready.eq(taken & last),
            results.i.payload.sums.eq(array.o.payload),
            results.i.payload.channels.eq(self.c.payload),
            results.i.payload.magnitude.eq(Mux(current.scaled, read.data, 1)),
        ]
        m.d.sync += token.eq(following)
        if self.columns is not None:
            m.d.comb += [array.i.payload.two_pass.eq(current.wide), self.columns.step.eq(taken & last)]
            with m.If(current.columns):
                channels = results.i.payload.channels
                m.d.comb += [channels[k].multiplier.eq(self.columns.word[k]) for k in range(config.lanes)]
        return results.o

    def _adders(self, m: Module, current: Any, runs: Mapping[str, Signal]) -> Any:
        m.submodules.adders = adders = Adders(self.config)
        a, b = (self.readers[name].words for name in ("a", "b"))
        both_words(m, adders, a, b, runs["add"])
        m.d.comb += [
            *(multiplier.eq(current.multiplier_a) for multiplier in adders.multiplier_a),
            adders.multiplier_b.eq(current.multiplier_b),
            adders.shift.eq(current.shift),
            adders.narrow.eq(current.narrow),
        ]
        if self.columns is not None:
            with m.If(runs["weigh"]):
                m.d.comb += [
                    adders.i.valid.eq(a.valid),
                    a.ready.eq(adders.i.ready),
                    adders.multiplier_a.eq(self.columns.word),
                ]
        return adders.o

    def _rotators(self, m: Module, runs: Mapping[str, Signal]) -> Any:
        m.submodules.rotators = rotators = Rotators(self.config)
        both_words(m, rotators, self.readers["a"].words, self.readers["b"].words, runs["rotate"])
        return rotators.o

    def _products(self, m: Module, current: Any, runs: Mapping[str, Signal]) -> Any:
        m.submodules.products = products = Products(self.config)
        both_words(m, products, self.readers["a"].words, self.readers["b"].words, runs["product"])
        m.d.comb += [
            products.multiplier.eq(current.multiplier_a),
            products.shift.eq(current.shift),
            products.narrow.eq(current.narrow),
        ]
        return products.o

    def _tables(self, m: Module, current: Any, runs: Mapping[str, Signal], starts: Mapping[str, Signal]) -> Any:
        m.submodules.tables = tables = Tables(self.config)
        a = self.readers["a"].words
        self._write_table(m, starts, "map", tables.table)
        m.d.comb += [
            tables.i.payload.eq(a.payload),
            tables.narrow.eq(current.narrow),
            tables.intercept_shift.eq(current.intercept_shift),
            tables.output_shift.eq(current.shift),
        ]
        with m.If(runs["map"]):
            m.d.comb += [tables.i.valid.eq(a.valid), a.ready.eq(tables.i.ready)]
        return tables.o

    def _rows(
        self, m: Module, current: Any, given: Any, runs: Mapping[str, Signal], starts: Mapping[str, Signal]
    ) -> Any:
        m.submodules.rows = rows = Rows(self.config)
        a = self.readers["a"].words
        kinds = ("softmax", "norm", "quantise")
        write = self.magnitudes.write_port()
        for name in ("softmax", "norm"):
            self._write_table(m, starts, name, getattr(rows, f"{name}_table"))
        m.d.comb += [
            rows.start.eq(Cat(starts[kind] for kind in kinds).any()),
            rows.first.eq(given.first),
            rows.group.eq(current.a.count_0),
            rows.length.eq(current.length),
            rows.valid.eq(current.valid),
            rows.chosen.eq(Cat(chosen_bits(current.operation))),
            rows.i.payload.eq(a.payload),
            rows.norm_epsilon.eq(current.epsilon),
            rows.norm_shift.eq(current.shift),
            write.addr.eq(rows.magnitude.row),
            write.data.eq(rows.magnitude.value),
            write.en.eq(rows.magnitude.enable & runs["quantise"]),
        ]
        if self.columns is not None:
            kept = self.columns.write
            m.d.comb += [
                rows.causal.eq(current.causal),
                kept.row.eq(rows.magnitude.row),
                kept.value.eq(rows.magnitude.value),
                kept.enable.eq(rows.magnitude.enable & runs["quantise"] & current.columns),
                write.en.eq(rows.magnitude.enable & runs["quantise"] & ~current.columns),
            ]
        for name in self.config.softmax_unit.exp.shift_ports:
            field = {"intercept_shift": current.intercept_shift, "output_shift": current.shift}[name]
            m.d.comb += getattr(rows, f"softmax_exp_{name}").eq(field)
        with m.If(Cat(runs[kind] for kind in kinds).any()):
            m.d.comb += [rows.i.valid.eq(a.valid), a.ready.eq(rows.i.ready)]
        return rows.o

    def _write_table(self, m: Module, starts: Mapping[str, Signal], name: str, port: Any) -> None:
        given = self.program.payload
        m.d.comb += [
            port.en.eq(starts["write"] & (given.table == TABLES.index(name))),
            port.select.eq(given["select"]),
            port.address.eq(given.address),
            port.data.eq(given.data),
        ]

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        config = self.config
        wide = {"words": config.column_words, "bits": IN_BITS * config.lanes, "reads": 1, "writes": 1}
        return {
            "parameters": {
                name: getattr(config, name)
                for name in ("lanes", "words", "row_units", "max_tokens", "max_inputs", "entries", "stages", "decoder")
            },
            "latency": START,
            "cycles": CYCLES,
            "operations": {name: number for number, name in enumerate(config.operations)},
            "tables": {name: number for number, name in enumerate(TABLES)},
            "loads": {name: unit["table"]["load_order"] for name, unit in self._loaded.items()},
            "host": list(HOST),
            "sources": {name: number for number, name in enumerate(SOURCES)},
            "streams": STREAMS,
            "layout": LAYOUT,
            "memories": [
                {"name": "memory", "words": config.words, "bits": config.word.size, "reads": 2, "writes": 1},
                {"name": "magnitudes", "words": config.max_tokens, "bits": IN_BITS, "reads": 1, "writes": 1},
                *([{**wide, "name": "column_magnitudes"}] if config.decoder else []),
            ],
            "word": f"{config.lanes} elements of {ELEMENT_BITS} bits, lane 0 lowest",
        }

    @property
    def _loaded(self) -> dict[str, dict[str, Any]]:
        """The descriptions of what "write" can write to."""
        config = self.config
        rows = SoftmaxUnit(config.softmax_unit).describe(), NormUnit(config.norm_unit).describe()
        return dict(zip(TABLES, (*rows, describe_table(config.map_unit)), strict=True))


def connect_stream(m: Module, source: Any, sink: Any) -> None:
    """Connect two streams within a condition."""
    m.d.comb += [sink.valid.eq(source.valid), sink.payload.eq(source.payload), source.ready.eq(sink.ready)]
