"""The Hadamard transform of a linear layer's inputs: `sim.reference.hadamard` on codes, 16 bits out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from quant.primitives.hadamard import butterflies, rotate
from rtl.hadamard import HadamardConfig
from sim.network.operators.arithmetic import blockwise, code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.recording import Seen, require_same, results
from sim.network.operators.storage import Reader, Writer
from sim.reference.hadamard import Hadamard as HadamardSpecification
from sim.reference.residual import STREAM_BITS
from sim.vectors.random_unit import unit_set
from sim.vectors.vector_set import VectorSet


class Hadamard(Operator):
    """H x / sqrt(block) in blocks of the last axis. In integers the sums are exact, and 1/sqrt(block) is a part of the
    output's scale; the shift is the smallest with which the output covers what calibration saw.
    """

    kind = "hadamard"

    def __init__(self, name: str, block: int) -> None:
        super().__init__(name)
        self.block = block
        self.specification: HadamardSpecification | None = None

    def real(self, x: Tensor) -> Tensor:
        return rotate(x, self.block)

    def integer(self, x: Tensor) -> Tensor:
        spec = self.specification
        assert spec is not None

        def rows(x: Tensor) -> Tensor:
            return saturate_(round_half_up_(butterflies(x.int(), spec.block), spec.shift), spec.out_bits)

        return blockwise(rows, code_type(spec.out_bits), x)

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(), site.covering())

    def quantise(self, input: Grid, wanted: Grid) -> None:
        """From the grid of the input to the finest 16-bit grid that a shift gives and that covers `wanted`."""
        unit = input.scale / math.sqrt(self.block)  # of an exact sum
        stages = self.block.bit_length() - 1
        shift = min(max(math.ceil(math.log2(float(wanted.scale / unit))), 0), stages)
        self.specification = HadamardSpecification(self.block, shift, input.bits)
        self.finish((input,), (Grid(STREAM_BITS, unit * 2.0**shift),))

    def to_row(self, writer: Writer) -> dict[str, Any]:
        spec = self.specification
        assert spec is not None
        return {"block": spec.block, "shift": spec.shift}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["block"])
        operator.specification = HadamardSpecification(row["block"], row["shift"], row["inputs"][0]["bits"])
        return operator

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        """A set for each combination of block and width, with a load for each site."""
        given: dict[tuple[int, int], list[Any]] = {}
        for operator in operators:
            spec = operator.specification
            codes = [x.flatten(0, -2).numpy() for (x, *_), _ in seen[operator.name]]
            x = np.concatenate(codes).astype(np.int64)
            require_same(operator.name, spec.transform(x), results(seen[operator.name]))
            last = np.zeros_like(x)
            last[:, -1] = 1
            load = {"shift": spec.shift}
            given.setdefault((spec.block, spec.in_bits), []).append((load, {"x": x.ravel(), "last": last.ravel()}))
        where = {**source, "sites": [operator.name for operator in operators]}
        return [
            unit_set("-".join([name, "hadamard", *map(str, shape)]), "hadamard", HadamardConfig(*shape), loads, where)
            for shape, loads in given.items()
        ]


class Rotated(nn.Module):
    """A layer whose inputs are rotated: `weight` (out, in) of the layer with the rotation folded in, and its `bias`.

    The parameters are those of the layer, so that training reaches them.
    """

    def __init__(self, layer: nn.Linear, block: int) -> None:
        super().__init__()
        self.layer, self.block = layer, block

    @property
    def weight(self) -> Tensor:
        """The matrix (out, in)."""
        return rotate(self.layer.weight, self.block)

    @property
    def bias(self) -> Tensor | None:
        """The bias of each output, None if there is none."""
        return self.layer.bias
