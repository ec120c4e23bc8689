"""Floating-point multiply-accumulate, for a processing element of a systolic array: addend + a * b."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.multiplication import Product, carry_save, product_name
from rtl.blocks.pipeline import Step
from rtl.floating.adder import adder_steps
from rtl.floating.multiplier import multiplier_steps
from rtl.floating.operators import operands
from sim.reference.floating import FP32, FloatFormat, require_exact_product


@dataclass(frozen=True)
class MacConfig:
    """The formats and latency of a multiply-accumulate unit.

    Parameters
    ----------
    number : FloatFormat
        The format of a and b.
    accumulator : FloatFormat or None
        The format of addend and result: that of `number` (product and sum are each rounded), or one that holds every
        product exactly, as FP32 does for FP16.
    stages : int
        The latency in cycles.

    Raises
    ------
    InputError
        If the accumulator is neither, or there are more stages than steps.
    """

    number: FloatFormat = FP32
    accumulator: FloatFormat | None = None
    stages: int = 4

    def __post_init__(self) -> None:
        require_exact_product(self.number, self.sum)
        pipeline.check_stages(self.stages, 10 if self.sum == self.number else 9)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "MacConfig":
        """The configuration from `to_dict`'s object; nothing of a `load` is wired in."""
        formats = {key: content[key] and FloatFormat(**content[key]) for key in ("number", "accumulator")}
        return cls(**{**content, **formats})

    @property
    def sum(self) -> FloatFormat:
        """The format of addend and result."""
        return self.accumulator or self.number

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, a in the low bits."""
        operand = unsigned(self.number.bits)
        return StructLayout({"a": operand, "b": operand, "addend": unsigned(self.sum.bits)})

    @property
    def out_bits(self) -> int:
        """Width of the output's payload."""
        return self.sum.bits


class Mac(wiring.Component):
    """The unit as a component; stall and reset are as in `rtl.blocks.pipeline`. Latency `stages`, one result per cycle.

    Streams: `i` carries (a, b, addend), `o` addend + a * b, all as patterns. `product` is as for `rtl.pwl.Pwl`.
    """

    def __init__(self, config: MacConfig, product: Product = carry_save) -> None:
        self.product = product
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.in_layout)),
                "o": Out(stream.Signature(unsigned(config.out_bits))),
            }
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        parameters = self.config.to_dict() | {"accumulator": asdict(self.config.sum)}
        return {
            "parameters": parameters,
            "product": product_name(self.product),
            "latency": self.config.stages,
            "interval": 1,
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline.build(m, self.i, self.o, _steps(self.config, self.product), self.config.stages)
        return m


def _steps(config: MacConfig, rows: Product) -> list[Step]:
    product = multiplier_steps(config.number, config.sum, "a", "b", "product", rows)
    then = adder_steps(config.sum, "addend", "product", "result")
    return [operands(config.in_layout, product[0]), *product[1:], *then]
