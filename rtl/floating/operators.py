"""Comparator, multiplier and adder as components, so that each can be checked and priced by itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amaranth.hdl import Module, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.multiplication import Product, carry_save, product_name
from rtl.blocks.pipeline import Fields, Step
from rtl.floating.adder import adder_steps
from rtl.floating.multiplier import multiplier_steps
from rtl.floating.parts import ordered
from sim.reference import InputError
from sim.reference.floating import FP32, FloatFormat

OPERATIONS = ("compare", "multiply", "add")
STEPS = {"compare": 2, "multiply": 4, "add": 6}


@dataclass(frozen=True)
class OperatorConfig:
    """One operation on two numbers of a format.

    Parameters
    ----------
    operation : str
        "compare" gives a >= b, one bit; "multiply" and "add" give a number.
    number : FloatFormat
        The format.
    stages : int
        The latency in cycles.

    Raises
    ------
    InputError
        If the operation is unknown, or there are more stages than steps.
    """

    operation: str
    number: FloatFormat = FP32
    stages: int = 1

    def __post_init__(self) -> None:
        if self.operation not in OPERATIONS:
            raise InputError(f"operation must be one of {', '.join(OPERATIONS)}, not {self.operation!r}")
        pipeline.check_stages(self.stages, STEPS[self.operation])

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "OperatorConfig":
        """The configuration from `to_dict`'s object; nothing of a `load` is wired in."""
        return cls(**{**content, "number": FloatFormat(**content["number"])})

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, a in the low bits."""
        return StructLayout({"a": unsigned(self.number.bits), "b": unsigned(self.number.bits)})

    @property
    def out_bits(self) -> int:
        return 1 if self.operation == "compare" else self.number.bits


class Operator(wiring.Component):
    """The operation as a component; stall and reset are as in `rtl.blocks.pipeline`.

    Latency `stages`, one result per cycle.

    Streams: `i` carries pairs of patterns (a, b), `o` a pattern, or for "compare" one bit. `product` is as for
    `rtl.pwl.Pwl`; only "multiply" has one.
    """

    def __init__(self, config: OperatorConfig, product: Product = carry_save) -> None:
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
        multiplies = self.config.operation == "multiply"
        return {
            "parameters": self.config.to_dict(),
            **({"product": product_name(self.product)} if multiplies else {}),
            "latency": self.config.stages,
            "interval": 1,
        }

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pipeline.build(m, self.i, self.o, _steps(self.config, self.product), self.config.stages)
        return m


def _steps(config: OperatorConfig, product: Product) -> list[Step]:
    number = config.number
    if config.operation == "multiply":
        steps = multiplier_steps(number, number, "a", "b", "result", product)
    elif config.operation == "add":
        steps = adder_steps(number, "a", "b", "result")
    else:
        steps = _comparator_steps(number)
    return [operands(config.in_layout, steps[0]), *steps[1:]]


def operands(layout: StructLayout, first: Step) -> Step:
    """The step `first`, reading the fields of `layout` from the payload."""

    def logic(m: Module, f: Mapping[str, Value]) -> Fields:
        beat = View(layout, f["payload"])
        taken = {name: getattr(beat, name) for name, _ in layout}
        made = first.logic(m, {name: taken[name] for name in first.reads})
        return {name: value for name, value in taken.items() if name not in first.reads} | made

    return Step(first.name, ("payload",), first.levels, logic)


def _comparator_steps(number: FloatFormat) -> list[Step]:
    """Map each operand to its place in the order, then compare integers. A NaN as b, lowest of all, is masked."""

    def order(m: Module, f: Mapping[str, Value]) -> Fields:
        a, b = ordered(number, f["a"]), ordered(number, f["b"])
        return {"key_a": a, "key_b": b}

    def compare(m: Module, f: Mapping[str, Value]) -> Fields:
        b = f["key_b"]
        nan = b[-1] & ~b[:-1].any()
        return {"result": (f["key_a"] >= b) & ~nan}

    return [
        Step("order", ("a", "b"), 6, order),
        Step("compare", ("key_a", "key_b"), pipeline.compare_levels(number.bits), compare),
    ]
