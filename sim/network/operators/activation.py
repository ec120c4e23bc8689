"""GELU, SiLU, HSWISH and ReLU on signed 8-bit codes: a table's 256 values, gathered."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sim.network.operators.arithmetic import code_type
from sim.network.operators.base import Grid, Operator
from sim.network.operators.tables import Gather, lowered
from sim.reference import LoweredTable, PwlTable

# name in the catalogue of functions -> the same in floating point
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "hswish": functional.hardswish,
    "relu": functional.relu,
}
EXPONENTS = range(7)


class Activation(Operator):
    """A function of one variable on 8-bit codes, each channel at its own scale exponent s; 8- or 16-bit codes out.

    A few channels of a transformer's feed-forward layer carry values ten times the others'; with one scale for all,
    they cost the rest three bits. The table is one; each s in use is one lowering of it, and hardware that orders the
    channels by s loads each once. ReLU needs no table and takes any grid.
    """

    kind = "activation"

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self.function = function
        self.scales: Tensor | None = None  # (C,), the exponent of each channel
        self.tables: dict[int, LoweredTable] = {}  # by exponent

    def real(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.function](x)

    def integer(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) if self.function == "relu" else self.gather(x)

    def quantise(self, input: Grid, scales: Tensor, output_scale: int, out_bits: int, table: PwlTable | str) -> None:
        """The table (or "exact") at each channel's exponent; for ReLU they mean nothing and the grid is the input's."""
        self.inputs, self.outputs = (input,), (input,)
        if self.function != "relu":
            self.scales = scales
            self.tables = {
                s: lowered(self.function, table, s, output_scale, out_bits) for s in sorted(set(scales.tolist()))
            }
            self.outputs = (Grid.power(out_bits, output_scale),)
            self.attach()

    def attach(self) -> None:
        """Make the tensor of the tables."""
        assert self.scales is not None
        exponents = list(self.tables)
        self.gather = Gather(
            [table.output(table.codes()) for table in self.tables.values()],
            code_type(self.outputs[0].bits),
            torch.tensor([exponents.index(s) for s in self.scales.tolist()]),
        )


def channel_scales(function: str, x: Tensor) -> Tensor:
    """(C,): for each channel of `x` (samples, C) the exponent with the least squared error of the rounded input."""
    f = FUNCTIONS[function]
    exact = f(x)
    errors = torch.stack(
        [(f(Grid.power(8, s).codes(x).to(x.dtype) * 2.0**-s) - exact).square().mean(0) for s in EXPONENTS]
    )
    return errors.flip(0).argmin(0).neg() + EXPONENTS[-1]  # of equals the finest


def output_scale(function: str, x: Tensor, bits: int, scales: Tensor, slope_frac_bits: int) -> int:
    """The exponent of the output: at 8 bits the one with the least squared error, at 16 the finest that fits all."""
    finest = slope_frac_bits + int(scales.min())  # a table's output shift must not be negative
    exact = FUNCTIONS[function](x)
    if bits == 16:
        largest = float(exact.abs().max()) * 2
        return next(e for e in range(finest, -16, -1) if largest * 2.0**e < 1 << (bits - 1))

    def error(exponent: int) -> float:
        grid = Grid.power(bits, exponent)
        return float((grid.real(grid.codes(exact)) - exact).square().mean())

    return min(range(min(finest, bits - 1), -1, -1), key=error)


def best_exp_scale(distances: Tensor) -> int:
    """The scale exponent of the scores with the least squared error of exp on the `distances`, all <= 0."""
    exact = torch.exp(distances)
    return min(
        EXPONENTS,
        key=lambda s: float((torch.exp(Grid.power(8, s).codes(distances) * 2.0**-s) - exact).square().mean()),
    )
