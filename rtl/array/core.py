"""The grid: R x C elements, the skew at their edges, and the column that sums the activations.

Vectors go in and come out whole. Row r gets its activation r cycles late and column c its weight c cycles late, so
that the sums meet them on their way; at the bottom column c is delayed by C-1-c, and what leaves is again one vector.
A vector that enters in cycle n has its sums at the outputs in cycle n + R + C - 1.

The activations' sum, needed once for the zero points of all columns, goes down beside the last column, whose
activations it adds without a weight.
"""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from rtl.array.config import ArrayConfig
from rtl.array.processing_element import Wires, element


class Grid(wiring.Component):
    """The grid as a component; all of it moves in every cycle (its owner enables it), and none of it has a reset.

    `operands` R activations; `weights` C weights of one row; `shift` R bits, the rows whose next weights shift down;
    `swap` puts the next weights in use for the operands of the following cycle on. `sums` C column sums;
    `activation_sum`, where weights have zero points, the sum of the operands.

    A row's weights arrive last row first, in R beats; in beat k the rows up to k shift, so that a row which is still
    waiting for its swap, a cycle per row behind, is not disturbed. Loading may therefore begin in the cycle of `swap`.
    """

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config
        ports = {
            "operands": In(ArrayLayout(config.operand_shape, config.rows)),
            "weights": In(ArrayLayout(config.weight_shape, config.columns)),
            "shift": In(config.rows),
            "swap": In(1),
            "sums": Out(ArrayLayout(config.sum_shape(config.rows), config.columns)),
        }
        if not config.weight_signed:
            ports["activation_sum"] = Out(config.activation_sum_shape(config.rows))
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        down = [delayed(m, self.weights[c], c, f"weight_in_{c}") for c in range(config.columns)]
        totals: list[Value] = [Value.cast(0)] * config.columns
        summed: Value = Value.cast(0)
        swap: Value = self.swap
        for r in range(config.rows):
            right = (delayed(m, self.operands[r], r, f"operand_{r}"), self.shift[r], swap)
            for c in range(config.columns):
                if c == config.columns - 1 and not config.weight_signed:
                    below = Signal(config.activation_sum_shape(r + 1), name=f"activation_sum_{r}", reset_less=True)
                    m.d.sync += below.eq(summed + right[0])
                    summed = below
                into = Wires(*right, down[c], totals[c])
                out = element(m, into, config.weight_shape, config.sum_shape(r + 1), f"_{r}_{c}")
                right, down[c], totals[c] = out[:3], out.weight, out.total
            swap = delayed(m, swap, 1, f"swap_{r}")
        for c, total in enumerate(totals):
            m.d.comb += self.sums[c].eq(delayed(m, total, config.columns - 1 - c, f"sum_out_{c}"))
        if not config.weight_signed:
            m.d.comb += self.activation_sum.eq(summed)
        return m


def delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    """`value` that many cycles late, in registers without a reset."""
    for k in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{k}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value
