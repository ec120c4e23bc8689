"""The requantiser in gates: `sim.reference.requant`, y = saturate(round(A * m * 2**-k) + z)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Shape, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.arithmetic import saturate, shift_right
from rtl.blocks.pipeline import Fields, Step
from rtl.unit_config import UnitConfig
from sim.common.errors import require_range
from sim.reference.code_format import WIDTH_RANGE
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS


@dataclass(frozen=True)
class RequantConfig(UnitConfig):
    """Widths in bits: the accumulator A (signed, 4..64), the multiplier m (unsigned, 1..16) and the code y (4..32).

    `max_shift` is the largest k, 0..47; `stages` the latency in cycles, 1..4. A value out of its range raises
    `InputError` with its name.
    """

    in_bits: int = 32
    multiplier_bits: int = MULTIPLIER_BITS
    max_shift: int = MAX_SHIFT
    out_bits: int = 8
    out_signed: bool = True
    stages: int = 3

    def __post_init__(self) -> None:
        require_range("in_bits", self.in_bits, 4, 64)
        require_range("multiplier_bits", self.multiplier_bits, 1, MULTIPLIER_BITS)
        require_range("max_shift", self.max_shift, 0, MAX_SHIFT)
        require_range("out_bits", self.out_bits, *WIDTH_RANGE)
        pipeline.check_stages(self.stages, 4)

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, lowest bit first: m and k belong to the channel, so they travel with its accumulator."""
        return StructLayout(
            {
                "value": signed(self.in_bits),
                "multiplier": unsigned(self.multiplier_bits),
                "shift": Shape.cast(range(self.max_shift + 1)),
            }
        )

    @property
    def out_shape(self) -> Shape:
        """The shape of y and of the zero point."""
        return Shape(self.out_bits, self.out_signed)


class Requantiser(wiring.Component):
    """The requantiser as a component, with stall and reset as in `rtl.blocks.pipeline`.

    The latency is `stages` cycles, the throughput one result per cycle.

    Streams: `i` carries (value, multiplier, shift), `o` carries codes y. The input `zero_point` is one code for the
    whole tensor and quasi-static: changing it with beats in flight is undefined.
    """

    def __init__(self, config: RequantConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.in_layout)),
                "o": Out(stream.Signature(config.out_shape)),
                "zero_point": In(config.out_shape),
            }
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        return {
            "parameters": self.config.to_dict(),
            "latency": self.config.stages,
            "interval": 1,
            "result": "o__payload = saturate(round_half_up(value * multiplier * 2**-shift) + zero_point)",
            "ranges": {"i__payload.shift": [0, self.config.max_shift]},
            "outside_ranges": "undefined",
            "quasi_static": "zero_point must not change with beats in flight: drain first",
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline.build(
            m, self.i, self.o, requant_steps(self.config, self.zero_point), self.config.stages, result="code"
        )
        return m


def requant_steps(config: RequantConfig, zero_point: Value, result: str = "code") -> list[Step]:
    """The steps from the field `payload`, a beat of `config.in_layout`, to the field `result`."""
    near = signed(config.out_bits + 2)  # clamped to this, a value keeps its code whatever the zero point

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        beat = View(config.in_layout, f["payload"])
        return {"product": beat.value * beat.multiplier, "shift": beat.shift}

    def scale(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"scaled": shift_right(f["product"], f["shift"])}

    def offset(m: Module, f: Mapping[str, Value]) -> Fields:
        return {"moved": saturate(f["scaled"][1:].as_signed(), near) + zero_point + f["scaled"][0]}

    def limit(m: Module, f: Mapping[str, Value]) -> Fields:
        return {result: saturate(f["moved"], config.out_shape)}

    product = pipeline.multiplier_levels(config.in_bits, config.multiplier_bits)
    return [
        Step("multiply", ("payload",), product, multiply),
        Step("scale", ("product", "shift"), pipeline.shift_levels(config.max_shift + 1), scale),
        Step("offset", ("scaled",), pipeline.adder_levels(config.out_bits + 2) + 4, offset),
        Step("limit", ("moved",), 2, limit),
    ]
