"""GELU, SiLU, HSWISH and ReLU on signed 8-bit codes: a table's 256 values, gathered."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sim.network.operator import Grid, Operator
from sim.network.tables import Gather, lowered
from sim.reference import LoweredTable, PwlTable

# name in the catalogue of functions -> the same in floating point
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "hswish": functional.hardswish,
    "relu": functional.relu,
}


class Activation(Operator):
    """A function of one variable; codes at 2**-s to codes at 2**-output_scale. ReLU needs no table and any grid."""

    kind = "activation"

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self.function = function
        self.table: LoweredTable | None = None

    def real(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.function](x)

    def integer(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) if self.function == "relu" else self.gather(x)

    def quantise(self, input: Grid, scale: int, output_scale: int, table: PwlTable | str) -> None:
        """The table (or "exact") at both scales; for ReLU they mean nothing and the grid is the input's."""
        self.inputs, self.outputs = (input,), (input,)
        if self.function != "relu":
            self.table = lowered(self.function, table, scale, output_scale)
            self.outputs = (Grid.power(self.table.out_bits, output_scale),)
            self.attach()

    def attach(self) -> None:
        """Make the tensor of the table."""
        if self.table is not None:
            self.gather = Gather(self.table.output(self.table.codes()))


def best_scales(function: str, x: Tensor, scales: range = range(7), outputs: range = range(8)) -> tuple[int, int]:
    """(s, output scale) with the least squared error of the correctly rounded function on the values `x`."""
    f, x = FUNCTIONS[function], x.double()
    exact = f(x)

    def error(pair: tuple[int, int]) -> float:
        y = f(Grid.power(8, pair[0]).codes(x).double() * 2.0 ** -pair[0])
        grid = Grid.power(8, pair[1])
        return float((grid.codes(y).double() * grid.scale - exact).square().mean())

    return min(((s, o) for s in scales for o in outputs if o <= 6 + s), key=error)


def best_exp_scale(distances: Tensor) -> int:
    """The scale exponent of the scores with the least squared error of exp on the `distances`, all <= 0."""
    x = distances.double()
    exact = torch.exp(x)
    return min(
        range(7),
        key=lambda s: float((torch.exp(Grid.power(8, s).codes(x).double() * 2.0**-s) - exact).square().mean()),
    )
