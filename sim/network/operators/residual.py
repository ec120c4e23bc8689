"""The operators of the 16-bit residual stream: additions of two scales, embeddings and the quantised input."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sim.network.operators import kernels
from sim.network.operators.arithmetic import blockwise, code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.modules import require_type
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS
from sim.reference.residual import STREAM_BITS


class Add(Operator):
    """`sim.reference.residual.add_scaled` of two 16-bit tensors."""

    kind = "add"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.multipliers = (0, 0)
        self.shift = 0

    def real(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def integer(self, a: Tensor, b: Tensor) -> Tensor:
        if kernels.usable(a):
            return kernels.add_scaled(a, b, self.multipliers, self.shift)
        m, n = self.multipliers

        def rows(a: Tensor, b: Tensor) -> Tensor:
            return saturate_(round_half_up_(a.long().mul_(m).add_(b.long(), alpha=n), self.shift), STREAM_BITS)

        return blockwise(rows, code_type(STREAM_BITS), *torch.broadcast_tensors(a, b))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(0), site.input(1), site.covering())

    def quantise(self, a: Grid, b: Grid, output: Grid) -> None:
        """The multipliers of the two scales over the output's, with the shift that gives the larger 16 bits."""
        ratios = torch.stack([a.scale, b.scale]) / output.scale
        exponent = int(torch.frexp(ratios.max()).exponent)
        self.shift = min(max(MULTIPLIER_BITS - exponent, 0), MAX_SHIFT)
        m, n = torch.floor(ratios * 2.0**self.shift + 0.5).long().clamp(max=(1 << MULTIPLIER_BITS) - 1).tolist()
        self.multipliers = (m, n)
        self.finish((a, b), (output,))

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"multipliers": list(self.multipliers), "shift": self.shift}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"])
        first, second = row["multipliers"]
        operator.multipliers, operator.shift = (first, second), row["shift"]
        return operator


class Embedding(Operator):
    """The sum of one row of each table, as 16-bit codes at one scale; the look-up itself is integer.

    `real` and `integer` take the indices of each table. No sum can saturate: the scale covers the sum of the tables'
    largest magnitudes.
    """

    kind = "embedding"

    def __init__(self, name: str, tables: Mapping[str, nn.Embedding], names: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.names = [*tables, *names]
        self.tables = nn.ModuleList(tables.values())

    @property
    def trainable(self) -> bool:
        return len(self.tables) > 0

    def claims(self) -> Mapping[str, nn.Module]:
        for name, table in zip(self.names, self.tables, strict=True):
            require_type(name, table, nn.Embedding)
            if table.max_norm is not None:
                raise InputError(f"{name}: max_norm has no integer operator")
        return dict(zip(self.names, self.tables, strict=True))

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        width = self.tables[0].weight.shape[1] if self.trainable else self.get_buffer("codes0").shape[1]  # pyright: ignore
        return ((*inputs[0], int(width)),)

    def real(self, *indices: Tensor) -> Tensor:
        rows = [functional.embedding(i, table.weight) for i, table in zip(indices, self.tables, strict=True)]  # pyright: ignore
        return torch.stack(torch.broadcast_tensors(*rows)).sum(0)

    def integer(self, *indices: Tensor) -> Tensor:
        total: Tensor | None = None
        for k, i in enumerate(indices):
            rows = functional.embedding(i, getattr(self, f"codes{k}")).int()
            total = rows if total is None else total + rows
        assert total is not None
        return total.to(code_type(STREAM_BITS))

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Record nothing: the scale follows from the tables."""

    def quantise_at(self, site: Site) -> None:
        self.quantise()

    def quantise(self) -> None:
        """16-bit codes of every table at the one scale."""
        weights = [table.weight.detach() for table in self.tables]  # pyright: ignore
        largest = sum(float(weight.abs().max()) for weight in weights)
        grid = Grid(
            STREAM_BITS,
            torch.tensor((largest or 1.0) / ((1 << (STREAM_BITS - 1)) - 1 - len(weights)), dtype=torch.float64),
        )
        if self.outputs and grid.same(self.outputs[0]) and self._is_settled():
            return  # the same codes, as for other settings of the other operators
        self.outputs = (grid,)
        self.recode()
        self.finish((), (grid,))

    def recode(self) -> None:
        for k, table in enumerate(self.tables):
            self.register_buffer(f"codes{k}", self.outputs[0].codes(table.weight), persistent=False)  # pyright: ignore[reportArgumentType]

    def to_row(self, writer: Writer) -> dict[str, Any]:
        for k in range(len(self.names)):
            writer.tensor(str(k), self.get_buffer(f"codes{k}"))
        return {"names": self.names}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], {}, row["names"])
        for k in range(len(operator.names)):
            operator.register_buffer(f"codes{k}", reader.tensor(str(k)), persistent=False)
        return operator


class Input(Operator):
    """The boundary of a network that takes real activations: 16-bit codes of them; the identity in the other modes.

    Integers are taken as codes.
    """

    kind = "input"

    def real(self, x: Tensor) -> Tensor:
        return x

    def integer(self, x: Tensor) -> Tensor:
        return self.outputs[0].codes(x) if x.is_floating_point() else x

    def quantise_at(self, site: Site) -> None:
        self.finish((), (site.covering(),))
