"""The mean over positions, in integers."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from quant.primitives.scales import Scale
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.kernels import Requantiser
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError
from sim.reference.residual import STREAM_BITS


class Mean(Operator):
    """The mean of 16-bit codes (B, T, C) over their T = `count` positions: (B, C), one requantisation of the sum."""

    kind = "mean"
    multiplier: Tensor
    shift: Tensor

    def __init__(self, name: str, count: int) -> None:
        super().__init__(name)
        self.count = count

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        batch, _, *channels = inputs[0]
        return ((batch, *channels),)

    def real(self, x: Tensor) -> Tensor:
        return x.mean(1)

    def integer(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.count:
            raise InputError(f"{self.name}: must have {self.count} positions, not {x.shape[1]}")

        return Requantiser(self.multiplier, self.shift, STREAM_BITS)(x.long().sum(1))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(), site.covering())

    def quantise(self, input: Grid, output: Grid) -> None:
        """The multiplier from a sum of `count` codes to the scale of the output."""
        self._requantise_by(Scale.nearest(input.scale / self.count / output.scale, f"{self.name}: mean"))
        self.finish((input,), (output,))

    def _requantise_by(self, ratio: Scale) -> None:
        self.register_buffer("multiplier", torch.as_tensor(ratio.multiplier), persistent=False)
        self.register_buffer("shift", torch.as_tensor(ratio.shift), persistent=False)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        writer.tensor("multiplier", self.multiplier)
        writer.tensor("shift", self.shift)
        return {"count": self.count}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["count"])
        operator._requantise_by(Scale(reader.tensor("multiplier"), reader.tensor("shift")))
        return operator
