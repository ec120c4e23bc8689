"""Codes of the stream at the scales of one of their readers, where another reader takes them as they are."""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from quant.primitives.scales import Scale
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.kernels import Requantiser
from sim.network.operators.storage import Reader, Writer


class Requantise(Operator):
    """`sim.reference.requant.requantise` of each channel (the last axis) by itself."""

    kind = "requantise"
    multiplier: Tensor
    shift: Tensor

    def real(self, x: Tensor) -> Tensor:
        return x

    def integer(self, x: Tensor) -> Tensor:
        return Requantiser(self.multiplier, self.shift, self.outputs[0].bits)(x)

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(), site.output())

    def quantise(self, input: Grid, output: Grid) -> None:
        """The multipliers from the input's scales to the output's."""
        self._requantise_by(Scale.nearest(input.scale / output.scale, f"{self.name}: input over output scale"))
        self.finish((input,), (output,))

    def _requantise_by(self, ratio: Scale) -> None:
        self.register_buffer("multiplier", ratio.multiplier, persistent=False)
        self.register_buffer("shift", ratio.shift, persistent=False)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        writer.tensor("multiplier", self.multiplier)
        writer.tensor("shift", self.shift)
        return {}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"])
        operator._requantise_by(Scale(reader.tensor("multiplier"), reader.tensor("shift")))
        return operator
