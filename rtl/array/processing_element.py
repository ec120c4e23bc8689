"""The processing element: one multiplier, one adder, and two weights, the current one and the next one.

The activation moves right and the partial sum moves down, each through a register. The next weight is shifted down
through the `next` registers of its column while the current one is in use. `swap` moves right one cycle ahead of the
first activation that needs the next weight, and makes it the current one.
"""

from typing import Any, NamedTuple

from amaranth.hdl import Elaboratable, EnableInserter, Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.array.config import ArrayConfig


class Wires(NamedTuple):
    """Signals between processing elements: `activation`, `shift`, `swap` to the right; `weight`, `total` downwards."""

    activation: Value
    shift: Value
    swap: Value
    weight: Value
    total: Value


def element(m: Module, into: Wires, weight_shape: Shape, sum_shape: Shape, place: str = "") -> Wires:
    """Add one processing element to `m` and return its outputs, all registers; `place` is a suffix of signal names."""

    def register(name: str, shape: Shape) -> Signal:
        return Signal(shape, name=f"{name}{place}", reset_less=True)

    following, weight = register("next", weight_shape), register("weight", weight_shape)
    activation = register("activation", into.activation.shape())
    shift, swap = register("shift", Shape(1)), register("swap", Shape(1))
    total = register("sum", sum_shape)
    with m.If(into.shift):
        m.d.sync += following.eq(into.weight)
    with m.If(into.swap):
        m.d.sync += weight.eq(following)
    m.d.sync += [
        activation.eq(into.activation),
        shift.eq(into.shift),
        swap.eq(into.swap),
        total.eq(into.total + weight * into.activation),
    ]
    return Wires(activation, shift, swap, following, total)


class Element(wiring.Component):
    """The processing element of an array's last row, whose adder is the widest, as a component.

    Ports: `activation`, `shift`, `swap`, `weight`, `sum`, each with `_in` and `_out`, and `enable`; nothing moves while
    that is 0. The sum's register has the width of `ArrayConfig.sum_shape(rows)`. No register has a reset.
    """

    stall = "enable: nothing moves in a cycle in which it is 0."
    reset = "None: rst does nothing."

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        shapes = {
            "activation": config.operand_shape,
            "shift": Shape(1),
            "swap": Shape(1),
            "weight": config.weight_shape,
            "sum": config.sum_shape(config.rows),
        }
        ports = {f"{name}_in": In(shape) for name, shape in shapes.items()}
        ports |= {f"{name}_out": Out(shape) for name, shape in shapes.items()}
        super().__init__({"enable": In(1), **ports})

    def describe(self) -> dict[str, Any]:
        """What a user must know beside the ports."""
        names = ("rows", "weight_bits", "weight_signed", "activation_bits", "two_pass")
        return {"parameters": {name: getattr(self.config, name) for name in names}, "latency": 1, "interval": 1}

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        into = Wires(self.activation_in, self.shift_in, self.swap_in, self.weight_in, self.sum_in)
        outputs = (self.activation_out, self.shift_out, self.swap_out, self.weight_out, self.sum_out)
        made = element(m, into, self.config.weight_shape, self.config.sum_shape(self.config.rows))
        m.d.comb += [port.eq(value) for port, value in zip(outputs, made, strict=True)]
        return EnableInserter(self.enable)(m)
