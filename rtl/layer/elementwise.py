"""Units that take a word at a time: the residual adder and the table, one in each lane."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.data import ArrayLayout, StructLayout, View
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline, storage
from rtl.blocks.arithmetic import saturate
from rtl.blocks.pipeline import Fields, Step
from rtl.layer.config import EngineConfig
from rtl.pwl import build_table, pwl_steps
from rtl.residual import ResidualAdder, ResidualConfig
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS


class Adders(wiring.Component):
    """A residual adder in each lane. `i` carries two words, `o` a word; the other inputs are quasi-static.

    Each lane has a multiplier of `a` of its own.
    """

    stages = ResidualConfig.stages

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(StructLayout({"a": config.word, "b": config.word}))),
                "o": Out(stream.Signature(config.word)),
                "multiplier_a": In(ArrayLayout(MULTIPLIER_BITS, config.lanes)),
                "multiplier_b": In(MULTIPLIER_BITS),
                "shift": In(range(MAX_SHIFT + 1)),
                "narrow": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for k in range(self.config.lanes):
            m.submodules[f"lane_{k}"] = lane = ResidualAdder(ResidualConfig())
            code = lane.o.payload
            m.d.comb += [
                lane.i.payload.a.eq(self.i.payload.a[k]),
                lane.i.payload.b.eq(self.i.payload.b[k]),
                lane.i.valid.eq(self.i.valid),
                lane.o.ready.eq(self.o.ready),
                lane.multiplier_a.eq(self.multiplier_a[k]),
                lane.multiplier_b.eq(self.multiplier_b),
                lane.shift.eq(self.shift),
                self.o.payload[k].eq(Mux(self.narrow, saturate(code, signed(NARROW_BITS)), code)),
            ]
            if not k:  # all lanes move together
                m.d.comb += [self.i.ready.eq(lane.i.ready), self.o.valid.eq(lane.o.valid)]
        return m


class Tables(wiring.Component):
    """One stored table, evaluated in each lane on the low 8 bits of the words of `i`; `o` carries words.

    `table` is its write port; the shifts and `narrow`, which saturates results to 8 bits, are quasi-static.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        unit = config.map_unit
        super().__init__(
            {
                "i": In(stream.Signature(config.word)),
                "o": Out(stream.Signature(config.word)),
                "table": In(storage.port(unit.entries, unit.data_bits)),
                "narrow": In(1),
                **{name: In(range(unit.largest(name) + 1)) for name in unit.shift_ports},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, unit = self.config, self.config.map_unit
        table = build_table(m, unit, self.table, "")
        shifts = Signal.like(self.intercept_shift), Signal.like(self.output_shift)
        m.d.comb += [shifts[0].eq(self.intercept_shift), shifts[1].eq(self.output_shift)]

        def split(m: Module, f: Mapping[str, Value]) -> Fields:
            word: Any = View(config.word, f["payload"])
            return {f"payload_{k}": word[k][:NARROW_BITS].as_signed() for k in range(config.lanes)}

        def limit(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"result": Mux(self.narrow, saturate(f["code"], signed(NARROW_BITS)), f["code"])}

        def gather(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"word": Cat(f[f"result_{k}"][:ELEMENT_BITS] for k in range(config.lanes))}

        steps = [*pwl_steps(unit, table, shifts), Step("narrow", ("code",), 3, limit)]
        results = tuple(f"result_{k}" for k in range(config.lanes))
        all_lanes = [
            Step("split", ("payload",), 0, split),
            *pipeline.lanes(steps, config.lanes),
            Step("gather", results, 0, gather),
        ]
        pipeline.build(m, self.i, self.o, all_lanes, unit.stages, result="word")
        return m
