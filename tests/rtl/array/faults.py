"""Faults of the array that more than one test plants."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from rtl.array.columns import Columns


def dropped_carry(
    self: Columns, m: Module, sums: list[Value], activations: Value, joined: Value
) -> tuple[list[Signal], Signal]:
    """`Columns._join` without the carry out of bit 7: 16 * high + low as an adder that is cut there gives it."""

    def join(value: Any, shape: Any, name: str) -> Signal:
        high = Signal.like(value, name=f"high_{name}", reset_less=True)
        both = Signal(shape, name=f"joined_{name}", reset_less=True)
        shifted = high << self.config.pass_bits
        lower, upper = (shifted[:8] + value[:8])[:8], (shifted >> 8) + (value >> 8)
        m.d.sync += [high.eq(value), both.eq(Mux(joined, Cat(lower, upper), value))]
        return both

    column, activation = self.config.joined_shapes
    lanes = [join(value, column, f"sum_{c}") for c, value in enumerate(sums)]
    return lanes, join(activations, activation, "activation_sum")
