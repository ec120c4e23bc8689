"""One processing element between streams: a unit of its own, whose netlist is checked and measured as the others' are.

`rtl.array.processing_element` is inside as it is; or, for comparison, its floating-point counterpart: the same
registers around `rtl.floating.mac`, whose adder's latency a systolic array hides by skewing its rows further.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Shape, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.array.config import ArrayConfig
from rtl.array.processing_element import Element
from rtl.floating.mac import Mac, MacConfig


@dataclass(frozen=True)
class ElementConfig:
    """An element of integers, the one in row `rows` - 1 of an array, or, where `mac` is given, of floating point."""

    rows: int = 16
    weight_bits: int = 8
    activation_bits: int = 8
    mac: MacConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON object; an element of integers has no `mac`."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], load: Mapping[str, Any] | None = None) -> "ElementConfig":
        """The configuration from `to_dict`'s object; nothing of a `load` is wired in."""
        mac = content.get("mac")
        return cls(**{**content, "mac": None if mac is None else MacConfig.from_dict(mac)})

    @property
    def integer(self) -> ArrayConfig:
        """The array that an integer element belongs to; raises `InputError` where there is none."""
        return ArrayConfig(rows=self.rows, weight_bits=self.weight_bits, activation_bits=self.activation_bits)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of what enters: activation, weight and sum."""
        if self.mac is None:
            array = self.integer
            wide = array.sum_shape(self.rows)
            return {"activation": array.operand_shape, "weight": array.weight_shape, "sum": wide}
        operand = unsigned(self.mac.number.bits)
        return {"activation": operand, "weight": operand, "sum": unsigned(self.mac.sum.bits)}

    @property
    def in_layout(self) -> StructLayout:
        """The input payload, activation in the low bits; `shift` and `swap` move the weights as in the array."""
        return StructLayout({**self.shapes, "shift": unsigned(1), "swap": unsigned(1)})

    @property
    def stages(self) -> int:
        """The latency of the sum."""
        return 1 if self.mac is None else self.mac.stages


class ElementStream(wiring.Component):
    """The element as a component; latency `stages` cycles, one beat per cycle.

    Streams: `i` carries (activation, weight, sum, shift, swap), `o` the sum. A beat's `shift` takes its weight as the
    next one, its `swap` puts the next one in use from the following beat on. Weights have no reset.
    """

    def __init__(self, config: ElementConfig) -> None:
        self.config = config
        super().__init__(
            {"i": In(stream.Signature(config.in_layout)), "o": Out(stream.Signature(config.shapes["sum"]))}
        )

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        return {"parameters": asdict(self.config), "latency": self.config.stages, "interval": 1}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat = self.i.payload
        shift, swap = beat.shift & self.i.valid, beat.swap & self.i.valid
        if self.config.mac is None:
            m.submodules.element = element = Element(self.config.integer)
            valid = Signal()
            with m.If(element.enable):
                m.d.sync += valid.eq(self.i.valid)
            m.d.comb += [
                element.enable.eq(self.o.ready | ~valid),
                self.i.ready.eq(element.enable),
                Cat(element.shift_in, element.swap_in).eq(Cat(shift, swap)),
                self.o.valid.eq(valid),
                self.o.payload.eq(element.sum_out),
                *(getattr(element, f"{name}_in").eq(beat[name]) for name in ("activation", "weight", "sum")),
            ]
            passing = [getattr(element, f"{name}_out") for name in ("activation", "shift", "swap", "weight")]
        else:
            passing = self._floating(m, self.config.mac, shift, swap)
        kept = Signal(sum(len(value) for value in passing), name="passing", attrs={"keep": 1})
        m.d.comb += kept.eq(Cat(*passing))  # what goes on to the neighbours is part of the element
        return m

    def _floating(self, m: Module, config: MacConfig, shift: Any, swap: Any) -> list[Any]:
        beat = self.i.payload
        m.submodules.mac = mac = Mac(config)
        following, weight, activation = (
            Signal(config.number.bits, name=name, reset_less=True) for name in ("next", "weight", "activation")
        )
        passed = Signal(2, name="shift_swap", reset_less=True)
        with m.If(mac.i.ready):
            m.d.sync += [activation.eq(beat.activation), passed.eq(Cat(shift, swap))]
            with m.If(shift):
                m.d.sync += following.eq(beat.weight)
            with m.If(swap):
                m.d.sync += weight.eq(following)
        m.d.comb += [
            mac.i.payload.a.eq(weight),
            mac.i.payload.b.eq(beat.activation),
            mac.i.payload.addend.eq(beat.sum),
            mac.i.valid.eq(self.i.valid),
            self.i.ready.eq(mac.i.ready),
            mac.o.ready.eq(self.o.ready),
            self.o.valid.eq(mac.o.valid),
            self.o.payload.eq(mac.o.payload),
        ]
        return [activation, passed, following]
