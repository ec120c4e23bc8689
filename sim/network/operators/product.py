"""The element-wise product of two tensors: `sim.reference.product` on 16-bit codes, for gated feed-forward networks."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from quant.primitives.scales import Scale
from rtl.product import ProductConfig
from sim.network.operators import kernels
from sim.network.operators.arithmetic import blockwise, code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.recording import Seen, require_same, results
from sim.network.operators.storage import Reader, Writer
from sim.reference.product import Product as ProductSpecification
from sim.vectors.random_unit import unit_set
from sim.vectors.vector_set import VectorSet


class Product(Operator):
    """a * b, of one shape, requantised once."""

    kind = "product"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.specification: ProductSpecification | None = None

    def real(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def integer(self, a: Tensor, b: Tensor) -> Tensor:
        spec = self.specification
        assert spec is not None
        multiplier, shift, bits = spec.multiplier, spec.shift, spec.out_bits
        if kernels.usable(a):
            return kernels.multiply(a, b, multiplier, shift, bits)

        def rows(a: Tensor, b: Tensor) -> Tensor:
            return saturate_(round_half_up_(a.long().mul_(b).mul_(multiplier), shift), bits)

        return blockwise(rows, code_type(bits), a, b)

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(0), site.input(1), site.output())

    def quantise(self, a: Grid, b: Grid, output: Grid) -> None:
        """From the grids of the factors, one scale each, to the output's."""
        ratio = Scale.nearest(a.scale * b.scale / output.scale, f"{self.name}: product")
        self.specification = ProductSpecification(int(ratio.multiplier), int(ratio.shift), a.bits, b.bits, output.bits)
        self.finish((a, b), (output,))

    def to_row(self, writer: Writer) -> dict[str, Any]:
        spec = self.specification
        assert spec is not None
        return {"multiplier": spec.multiplier, "shift": spec.shift}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"])
        a, b = (port["bits"] for port in row["inputs"])
        operator.specification = ProductSpecification(row["multiplier"], row["shift"], a, b, row["outputs"][0]["bits"])
        return operator

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        """A set for each combination of widths, with a load for each site."""
        given: dict[tuple[int, int, int], list[Any]] = {}
        for operator in operators:
            spec = operator.specification
            factors = [np.concatenate([a[k].numpy().ravel() for a, _ in seen[operator.name]]) for k in (0, 1)]
            a, b = (part.astype(np.int64) for part in factors)
            require_same(operator.name, spec.compute(a, b), results(seen[operator.name]).ravel())
            load = {"multiplier": spec.multiplier, "shift": spec.shift}
            given.setdefault((spec.a_bits, spec.b_bits, spec.out_bits), []).append((load, {"a": a, "b": b}))
        where = {**source, "sites": [operator.name for operator in operators]}
        return [
            unit_set("-".join([name, "product", *map(str, widths)]), "product", ProductConfig(*widths), loads, where)
            for widths, loads in given.items()
        ]
