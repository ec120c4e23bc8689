"""A tensor in equal parts along its channels: queries, keys and values of one linear layer."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.storage import Reader, Writer


class Split(Operator):
    """`count` equal parts of the last axis, each at the scales that its reader wants from the layer before."""

    kind = "split"

    def __init__(self, name: str, count: int) -> None:
        super().__init__(name)
        self.count = count

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        *rows, channels = inputs[0]
        return ((*rows, int(channels) // self.count),) * self.count

    def real(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(self.count, -1)

    def integer(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.chunk(self.count, -1)

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        site.seen.note_width((site.key, "part"), results[0].shape[-1])
        super().watch(site, arguments, results)

    def input_bits(self, index: int, site: Site) -> int:
        return max(site.output_bits(k) for k in range(self.count))

    def input_grid(self, index: int, site: Site) -> Grid | None:
        """The grids of all parts, side by side."""
        width = site.seen.width((site.key, "part"))
        scales = [site.output(k).scale.expand(width) for k in range(self.count)]
        return Grid(self.input_bits(index, site), torch.cat(scales))

    def quantise_at(self, site: Site) -> None:
        input = site.input()
        self.finish((input,), [Grid(input.bits, scale) for scale in input.scale.chunk(self.count)])

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"count": self.count}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["count"])
