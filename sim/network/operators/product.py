"""The element-wise product of two tensors: `sim.reference.product` on 16-bit codes, for gated feed-forward networks."""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from quant.primitives.scales import Scale
from sim.network.operators.arithmetic import blockwise, code_type, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.storage import Reader, Writer
from sim.reference.product import Product as ProductSpecification


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
