"""A truth table in gates: one case over the code and the scale, for a function that will not change.

It is the smallest unit of a fixed function of 8-bit codes, exact where the table is; nothing in it can be loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.pipeline import Fields, Step
from sim.reference.arithmetic import code_range
from sim.reference.truth_table import TruthTable

IDENTITY = TruthTable("identity", (0,), 0, (tuple(range(-128, 128)),))


@dataclass(frozen=True)
class TruthTableConfig:
    """The table and the latency in cycles, which is 1. Raises `InputError` if `stages` is another."""

    table: TruthTable = IDENTITY
    stages: int = 1

    def __post_init__(self) -> None:
        pipeline.check_stages(self.stages, 1)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {"table": self.table.to_dict(), "stages": self.stages}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "TruthTableConfig":
        """The configuration from `to_dict`'s object."""
        return cls(TruthTable.from_dict(content["table"]), content["stages"])

    @property
    def in_shape(self) -> Shape:
        """The shape of an input code."""
        return Shape(self.table.in_bits, self.table.in_signed)

    @property
    def out_shape(self) -> Shape:
        """The shape of an output code."""
        return Shape(self.table.out_bits, self.table.out_signed)

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """One of the scales, by its place; nothing if there is only one."""
        rows = len(self.table.scales)
        return {"scale": int(rng.integers(0, rows))} if rows > 1 else {}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Every code, in random order, whatever the `count`."""
        low, high = code_range(self.table.in_bits, self.table.in_signed)
        return {"payload": rng.permutation(np.arange(low, high + 1))}

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The table's codes."""
        return {"payload": self.table.output(inputs["payload"], load.get("scale", 0))}


class TruthTableUnit(wiring.Component):
    """A truth table as a component, with stall and reset as in `rtl.blocks.pipeline`.

    Streams: `i` carries input codes, `o` output codes. The latency is 1 cycle, the throughput one result per cycle.
    With several scales the input `scale` says which, by its place in the table, and is quasi-static.
    """

    def __init__(self, config: TruthTableConfig) -> None:
        self.config = config
        ports: dict[str, Any] = {
            "i": In(stream.Signature(config.in_shape)),
            "o": Out(stream.Signature(config.out_shape)),
        }
        if len(config.table.scales) > 1:
            ports["scale"] = In(range(len(config.table.scales)))
        super().__init__(ports)

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        rows = len(self.config.table.scales)
        return {
            "parameters": self.config.to_dict(),
            "ranges": {"scale": [0, rows - 1]} if rows > 1 else {},
            "outside_ranges": "undefined",
            "latency": self.config.stages,
            "interval": 1,
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        table = self.config.table
        several = len(table.scales) > 1
        low = code_range(table.in_bits, table.in_signed)[0]
        mask = (1 << table.in_bits) - 1

        def look_up(m: Module, f: Mapping[str, Value]) -> Fields:
            code = Signal(self.config.out_shape)
            with m.Switch(Cat(f["payload"], self.scale) if several else Cat(f["payload"])):
                for row, codes in enumerate(table.codes):
                    for k, value in enumerate(codes):
                        with m.Case(row << table.in_bits | (k + low) & mask):
                            m.d.comb += code.eq(Const(value, self.config.out_shape))
            return {"code": code}

        steps = [Step("look up", ("payload",), 2 * table.in_bits, look_up)]
        pipeline.build(m, self.i, self.o, steps, self.config.stages, result="code")
        return m
