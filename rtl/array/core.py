"""The grid: R x C processing elements, the skew at the edges, and the column that sums the activations.

Vectors enter and leave whole. Row r gets its activation r cycles late and column c its weight c cycles late, so that
partial sums meet the right operands; at the bottom, column c is delayed by C-1-c, so that all sums leave together. A
vector that enters in cycle n has its sums at the outputs in cycle n + R + C - 1.

The sum of the activations, which the zero points of all columns share, runs down beside the last column and adds that
column's activations without a weight.
"""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from rtl.array.config import ArrayConfig
from rtl.array.processing_element import Wires, element


class Grid(wiring.Component):
    """The grid as a component. Every register moves in every cycle (the parent enables it); none has a reset.

    Inputs: `operands`, R activations; `weights`, C weights of one row; `shift`, R bits, the rows whose next weights
    shift down; `swap`, which puts the next weights in use from the following cycle's operands on. Outputs: `sums`, C
    column sums; `activation_sum`, the sum of the operands, if weights have zero points.

    Weights arrive in R beats, last row first. In beat k only rows up to k shift, so that rows which still wait for
    their swap, one cycle later per row, are not disturbed. Loading may therefore begin in the cycle of `swap`.
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
    """`value`, delayed by `cycles` in registers without a reset."""
    for k in range(cycles):
        register = Signal(value.shape(), name=f"{name}_{k}", reset_less=True)
        m.d.sync += register.eq(value)
        value = register
    return value
