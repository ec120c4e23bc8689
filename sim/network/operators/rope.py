"""Rotary position embedding in integers: `sim.reference.rope` on tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from rtl.rope import RopeConfig
from sim.network.operators import kernels
from sim.network.operators.arithmetic import code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Shape, Site, Step
from sim.network.operators.recording import Seen, require_same
from sim.network.operators.storage import Reader, Writer
from sim.reference.residual import STREAM_BITS
from sim.reference.rope import FRAC_BITS, rotation_table
from sim.reference.rope import Rope as RopeSpecification
from sim.vectors.random_unit import unit_set
from sim.vectors.vector_set import VectorSet


class Angles(Step):
    """Cosines and sines of positions (B, T): two int16 tensors (B, T, d/2) in units of 2**-14, from stored tables."""

    kind = "angles"
    cosines: Tensor
    sines: Tensor

    def __init__(self, name: str, cosines: Tensor, sines: Tensor) -> None:
        super().__init__(name)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    @classmethod
    def of(cls, name: str, frequencies: Tensor, positions: int, gain: float) -> Self:
        """The tables of the first `positions` positions, for radians per position (d/2,)."""
        tables = rotation_table(frequencies.double().numpy(), positions, gain)
        return cls(name, *(torch.from_numpy(table.astype(np.int16)) for table in tables))

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*inputs[0], self.cosines.shape[1]),) * 2

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.cosines[positions], self.sines[positions]

    def to_row(self, writer: Writer) -> dict[str, Any]:
        writer.tensor("cosines", self.cosines)
        writer.tensor("sines", self.sines)
        return {}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], reader.tensor("cosines"), reader.tensor("sines"))


class Rope(Operator):
    """The rotation of every head of 16-bit codes (B, T, H * d) by `Angles`; the output has the input's scale.

    In floating point it takes the same rounded cosines and sines. `source` is the model's module that computes angles.
    """

    kind = "rope"

    def __init__(self, name: str, heads: int, source: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__(name)
        self.heads = heads
        self._source = dict(source or {})  # in a dictionary, so that its buffers stay the model's

    def claims(self) -> Mapping[str, nn.Module]:
        return self._source

    def real(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        return self._turned(x, cosines.to(x.dtype) * 2.0**-FRAC_BITS, sines.to(x.dtype) * 2.0**-FRAC_BITS)

    def integer(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        if kernels.usable(x):
            return kernels.turn(x, cosines, sines, self.heads, FRAC_BITS)
        turned = round_half_up_(self._turned(x.int(), cosines.int(), sines.int()), FRAC_BITS)
        return saturate_(turned, STREAM_BITS).to(code_type(STREAM_BITS))

    def _turned(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        a, b = x.unflatten(-1, (self.heads, -1)).chunk(2, -1)
        cosines, sines = cosines[..., None, :], sines[..., None, :]  # the same for every head
        return torch.cat([a * cosines - b * sines, b * cosines + a * sines], -1).flatten(-2)

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Nothing: the reader chooses the scale."""

    def input_grid(self, index: int, site: Site) -> Grid | None:
        return site.output()

    def quantise_at(self, site: Site) -> None:
        self.finish((site.input(),), (site.input(),))

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"heads": self.heads}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["heads"])

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        """The pairs of all sites with their angles."""
        specification = RopeSpecification()
        parts = []
        for operator in operators:
            for (x, cosines, sines), result in seen[operator.name]:
                a, b = _pairs(x, operator.heads)
                angles = [t.numpy().astype(np.int64)[..., None, :] for t in (cosines, sines)]
                turned = specification.rotate(np.concatenate([a, b], -1), *angles)
                require_same(operator.name, turned, np.concatenate(_pairs(result, operator.heads), -1))
                parts.append([np.broadcast_to(t, a.shape).ravel() for t in (a, b, *angles)])
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        inputs: dict[str, np.ndarray] = dict(zip(("a", "b", "cosine", "sine"), columns, strict=True))
        where = {**source, "sites": [operator.name for operator in operators]}
        return [unit_set(f"{name}-rope", "rope", RopeConfig(), [({"shift": FRAC_BITS}, inputs)], where)]


def _pairs(x: Tensor, heads: int) -> list[np.ndarray]:
    """The two halves of every head, (B, T, H, d/2) each, int64."""
    return np.split(x.unflatten(-1, (heads, -1)).numpy().astype(np.int64), 2, -1)
