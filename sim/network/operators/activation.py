"""GELU, SiLU, HSWISH and ReLU on signed 8-bit codes: a table's 256 values, gathered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sim.network.operators.arithmetic import code_type
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.observations import SAMPLE_ROWS
from sim.network.operators.recording import Seen, require_fitted, require_same, results
from sim.network.operators.storage import Reader, Writer, label
from sim.network.operators.tables import Gather, lowered, slope_frac_bits
from sim.reference import LoweredTable, PwlTable
from sim.vectors.pwl import pwl_set
from sim.vectors.vector_set import VectorSet

# name in `ga_search.FUNCTIONS` -> the same in floating point
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "hswish": functional.hardswish,
    "relu": functional.relu,
}
EXPONENTS = range(7)
RELU = "relu"


class Activation(Operator):
    """A function of one variable on 8-bit codes, each channel at its own scale exponent s; 8- or 16-bit codes out.

    A few channels of a transformer's feed-forward layer have values ten times those of the others; one scale for all
    would cost the others three bits. There is one table with a lowering for each s in use; hardware that orders the
    channels by s loads each lowering once. ReLU needs no table and takes any grid.
    """

    kind = "activation"

    def __init__(self, name: str, function: str) -> None:
        super().__init__(name)
        self.function = function
        self.functions = () if function == RELU else (function,)
        self.scales: Tensor | None = None  # (C,), the exponent of each channel
        self.tables: dict[int, LoweredTable] = {}  # by exponent

    @property
    def plan_names(self) -> list[str]:
        return [self.name]

    def real(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.function](x)

    def integer(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) if self.function == RELU else self.gather(x)

    # ---- conversion

    def input_bits(self, index: int, site: Site) -> int:
        """8 for a table; the width of the next layer's codes for ReLU."""
        return site.output_bits() if self.function == RELU else 8

    def input_grid(self, index: int, site: Site) -> Grid | None:
        """For a table, the exponent of each channel with the least error; for ReLU the grid that covers its output,
        since negative inputs may saturate.
        """
        if self.function == RELU:
            return site.covering(site.output_bits())
        scales = site.seen.scales(self.name, lambda x: channel_scales(self.function, x))
        return Grid(8, torch.ldexp(torch.ones(len(scales), dtype=torch.float64), -scales))

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Keep rows of the input, for the scales."""
        [x] = arguments
        mask = site.seen.mask
        fits = mask is not None and x.shape[:2] == mask.shape
        site.seen.keep(self.name, x[mask] if fits else x.flatten(0, -2), SAMPLE_ROWS)
        super().watch(site, arguments, results)

    def quantise_at(self, site: Site) -> None:
        if self.function == RELU:
            self.quantise(site.input())
            return
        input, bits, x = site.input(), site.output_bits(), site.seen.sample(self.name)
        table, scales = site.table(self.name, self.function), 1 - torch.frexp(input.scale).exponent
        exponent = output_scale(self.function, x, bits, scales, min(slope_frac_bits(self.function, table), 6))
        self.quantise(input, Grid.power(bits, exponent), table)

    def quantise(self, input: Grid, output: Grid | None = None, table: PwlTable | str | None = None) -> None:
        """The table (or "exact") at the exponents of `input`, whose scales are powers of two, to the grid `output`.

        ReLU has no table, and the grid of its output is that of its input.
        """
        if output is None or table is None:
            assert self.function == RELU
            self.finish((input,), (input,))
            return
        scales = (1 - torch.frexp(input.scale).exponent).long()
        self.scales = scales
        self.tables = {
            s: lowered(self.function, table, s, output.exponent, output.bits) for s in sorted(set(scales.tolist()))
        }
        self._attach(output.bits)
        self.finish((input,), (output,))

    def _attach(self, bits: int) -> None:
        assert self.scales is not None
        exponents = list(self.tables)
        self.gather = Gather(
            [table.output(table.codes()) for table in self.tables.values()],
            code_type(bits),
            torch.tensor([exponents.index(s) for s in self.scales.tolist()]),
        )

    # ---- what is written, reported and recorded

    def to_row(self, writer: Writer) -> dict[str, Any]:
        if self.scales is not None:
            writer.tensor("scales", self.scales)
        for scale, table in self.tables.items():
            writer.table(f"{self.function}.{scale}", table)
        return {"function": self.function}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["function"])
        if row["function"] != RELU:
            output = Grid(row["outputs"][0]["bits"], reader.tensor("outputs.0"))
            operator.scales = reader.tensor("scales")
            operator.tables = {
                s: reader.table(f"{operator.function}.{s}", operator.function, s, output.exponent, output.bits)
                for s in sorted(set(operator.scales.tolist()))
            }
            operator._attach(output.bits)
        return operator

    def formats(self) -> dict[str, Any]:
        if self.scales is None:
            return super().formats()
        found = self.scales.tolist()
        return {
            **super().formats(),
            "scale_exponents": {str(s): found.count(s) for s in self.tables},
            "tables": {self.function: label(next(iter(self.tables.values())))},
        }

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        """A set for each function and width of its outputs, with a load for each exponent of each site."""
        by_function: dict[str, dict[int, list[Any]]] = {}
        for operator in operators:
            if operator.scales is None:
                continue
            codes = np.concatenate([arguments[0].flatten(0, -2).numpy() for arguments, _ in seen[operator.name]])
            given = results(seen[operator.name])
            for scale, table in operator.tables.items():
                require_fitted(operator.name, table)
                chosen = operator.scales.numpy() == scale
                require_same(operator.name, table.output(codes[:, chosen]), given[:, chosen])
                load = table, codes[:, chosen].ravel().astype(np.int64)
                widths = by_function.setdefault(operator.function, {})
                widths.setdefault(table.out_bits, []).append(load)
        where = {**source, "sites": [operator.name for operator in operators]}
        return [
            pwl_set(f"{name}-{function}" if len(widths) == 1 else f"{name}-{function}-{bits}", loads, where)
            for function, widths in by_function.items()
            for bits, loads in widths.items()
        ]


def channel_scales(function: str, x: Tensor) -> Tensor:
    """(C,): for each channel of `x` (samples, C) the exponent with the least squared error of the rounded input."""
    f = FUNCTIONS[function]
    exact = f(x)
    errors = torch.stack(
        [(f(Grid.power(8, s).codes(x).to(x.dtype) * 2.0**-s) - exact).square().mean(0) for s in EXPONENTS]
    )
    return errors.flip(0).argmin(0).neg() + EXPONENTS[-1]  # ties go to the largest exponent


def output_scale(function: str, x: Tensor, bits: int, scales: Tensor, slope_frac_bits: int) -> int:
    """The output's scale exponent: for 8 bits that with the least squared error, for 16 the largest that fits all."""
    finest = slope_frac_bits + int(scales.min())  # a table's output shift must not be negative
    exact = FUNCTIONS[function](x)
    if bits == 16:
        largest = float(exact.abs().max()) * 2
        return next(e for e in range(finest, -16, -1) if largest * 2.0**e < 1 << (bits - 1))

    def error(exponent: int) -> float:
        grid = Grid.power(bits, exponent)
        return float((grid.real(grid.codes(exact)) - exact).square().mean())

    return min(range(min(finest, bits - 1), -1, -1), key=error)
