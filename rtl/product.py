"""The element-wise product in gates: `sim.reference.product`, y = saturate(round_half_up(a * b * m * 2**-k))."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Module, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.operands import random_codes
from rtl.blocks.pipeline import Fields, Step
from rtl.blocks.rounding import rounding_steps
from rtl.unit_config import UnitConfig
from sim.common.errors import require_range
from sim.reference.product import Product
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS


@dataclass(frozen=True)
class ProductConfig(UnitConfig):
    """Widths in bits of the signed codes a, b and y, 4..16 each.

    `max_shift` is the largest k, 0..47; `stages` the latency in cycles, 1..4. A value out of its range raises
    `InputError` with its name.
    """

    a_bits: int = 16
    b_bits: int = 16
    out_bits: int = 16
    max_shift: int = MAX_SHIFT
    stages: int = 3

    def __post_init__(self) -> None:
        Product(0, 0, self.a_bits, self.b_bits, self.out_bits)  # checks the widths
        require_range("max_shift", self.max_shift, 0, MAX_SHIFT)
        pipeline.check_stages(self.stages, 4)

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first."""
        return StructLayout({"a": signed(self.a_bits), "b": signed(self.b_bits)})

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """A multiplier of any size, with a shift that brings the products near the codes."""
        multiplier = int(rng.integers(1, 1 << MULTIPLIER_BITS)) >> int(rng.integers(MULTIPLIER_BITS))
        near = self.a_bits + self.b_bits + multiplier.bit_length() - self.out_bits + int(rng.integers(-4, 1))
        return {"multiplier": multiplier, "shift": min(max(near, 0), self.max_shift)}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Every pair of corners, then random codes of every magnitude."""
        return random_codes(rng, count, {"a": self.a_bits, "b": self.b_bits})

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The codes that the specification gives."""
        reference = Product(load["multiplier"], load["shift"], self.a_bits, self.b_bits, self.out_bits)
        return {"payload": reference.compute(inputs["a"], inputs["b"])}


class ProductUnit(wiring.Component):
    """The product of two codes, requantised, as a component, with stall and reset as in `rtl.blocks.pipeline`.

    The latency is `stages` cycles, the throughput one result per cycle.

    Streams: `i` carries (a, b), `o` carries codes y. The inputs `multiplier` and `shift` are quasi-static: changing
    them with beats in flight is undefined.
    """

    def __init__(self, config: ProductConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.in_layout)),
                "o": Out(stream.Signature(signed(config.out_bits))),
                "multiplier": In(unsigned(MULTIPLIER_BITS)),
                "shift": In(range(config.max_shift + 1)),
            }
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        return {
            "parameters": self.config.to_dict(),
            "latency": self.config.stages,
            "interval": 1,
            "result": "o__payload = saturate(round_half_up(a * b * multiplier * 2**-shift))",
            "ranges": {"shift": [0, self.config.max_shift]},
            "outside_ranges": "undefined",
            "quasi_static": "multiplier and shift must not change with beats in flight: drain first",
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
            beat = View(config.in_layout, f["payload"])
            return {"product": beat.a * beat.b}

        def weigh(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"weighted": f["product"].as_signed() * self.multiplier}

        both = config.a_bits + config.b_bits
        steps = [
            Step("multiply", ("payload",), pipeline.multiplier_levels(config.a_bits, config.b_bits), multiply),
            Step("weigh", ("product",), pipeline.multiplier_levels(both, MULTIPLIER_BITS), weigh),
            *rounding_steps("weighted", self.shift, config.max_shift, signed(config.out_bits)),
        ]
        pipeline.build(m, self.i, self.o, steps, config.stages, result="code")
        return m
