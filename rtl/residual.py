"""The residual addition in gates: `sim.reference.residual`, y = saturate(round_half_up((a m_a + b m_b) * 2**-k))."""

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
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS
from sim.reference.residual import STREAM_BITS, add_scaled

IN_LAYOUT = StructLayout({"a": signed(STREAM_BITS), "b": signed(STREAM_BITS)})  # lowest bit first


@dataclass(frozen=True)
class ResidualConfig(UnitConfig):
    """Codes have 16 bits. `max_shift` is the largest k, 0..47; `stages` the latency in cycles, 1..4.

    A value out of its range raises `InputError` with its name.
    """

    max_shift: int = MAX_SHIFT
    stages: int = 3

    def __post_init__(self) -> None:
        require_range("max_shift", self.max_shift, 0, MAX_SHIFT)
        pipeline.check_stages(self.stages, 4)

    def random_load(self, rng: np.random.Generator) -> dict[str, Any]:
        """Multipliers of any size, with a shift that brings the sums near the codes."""
        a, b = (int(v) for v in rng.integers(1, 1 << MULTIPLIER_BITS, 2) >> rng.integers(0, MULTIPLIER_BITS, 2))
        near = max(a, b).bit_length() + int(rng.integers(-2, 2))
        return {"multiplier_a": a, "multiplier_b": b, "shift": min(max(near, 0), self.max_shift)}

    def random_inputs(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """Every pair of corners, then random codes of every magnitude."""
        return random_codes(rng, count, {"a": STREAM_BITS, "b": STREAM_BITS})

    def expected(self, inputs: dict[str, np.ndarray], load: dict[str, Any]) -> dict[str, np.ndarray]:
        """The codes that the specification gives."""
        multipliers = load["multiplier_a"], load["multiplier_b"]
        return {"payload": add_scaled(inputs["a"], inputs["b"], multipliers, load["shift"])}


class ResidualAdder(wiring.Component):
    """The sum of two codes of two scales as a component, with stall and reset as in `rtl.blocks.pipeline`.

    The latency is `stages` cycles, the throughput one result per cycle.

    Streams: `i` carries (a, b), `o` carries codes y. The inputs `multiplier_a`, `multiplier_b` and `shift` are
    quasi-static: changing them with beats in flight is undefined.
    """

    def __init__(self, config: ResidualConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(IN_LAYOUT)),
                "o": Out(stream.Signature(signed(STREAM_BITS))),
                "multiplier_a": In(unsigned(MULTIPLIER_BITS)),
                "multiplier_b": In(unsigned(MULTIPLIER_BITS)),
                "shift": In(range(config.max_shift + 1)),
            }
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        return {
            "parameters": self.config.to_dict(),
            "latency": self.config.stages,
            "interval": 1,
            "result": "o__payload = saturate(round_half_up((a * multiplier_a + b * multiplier_b) * 2**-shift))",
            "ranges": {"shift": [0, self.config.max_shift]},
            "outside_ranges": "undefined",
            "quasi_static": "multiplier_a, multiplier_b and shift must not change with beats in flight: drain first",
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config

        def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
            beat = View(IN_LAYOUT, f["payload"])
            return {"product_a": beat.a * self.multiplier_a, "product_b": beat.b * self.multiplier_b}

        def add(m: Module, f: Mapping[str, Value]) -> Fields:
            return {"total": f["product_a"].as_signed() + f["product_b"].as_signed()}

        steps = [
            Step("multiply", ("payload",), pipeline.multiplier_levels(STREAM_BITS, MULTIPLIER_BITS), multiply),
            Step("add", ("product_a", "product_b"), pipeline.adder_levels(STREAM_BITS + MULTIPLIER_BITS + 1), add),
            *rounding_steps("total", self.shift, config.max_shift, signed(STREAM_BITS)),
        ]
        pipeline.build(m, self.i, self.o, steps, config.stages, result="code")
        return m
