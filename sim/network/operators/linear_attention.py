"""Attention that is linear in the tokens: `sim.reference.linear_attention` on tensors."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from quant.primitives.scales import Scale
from sim.network.operators.arithmetic import blockwise, code_type, half, requantise_, round_half_up_, saturate_
from sim.network.operators.attention import HeadProduct, split_heads
from sim.network.operators.base import Grid, Shape, Site
from sim.network.operators.exact_gemm import batched
from sim.network.operators.storage import Reader, Writer, label
from sim.network.operators.tables import TensorNormaliser, normaliser
from sim.reference import InputError, PwlTable
from sim.reference import linear_attention as reference

SMALLEST = 1e-15  # of the model's divisor; in integers a divisor of 0 has a dividend of 0


class LinearAttention(HeadProduct):
    """relu(q) (relu(k)^T v) / (relu(q) sum relu(k)) of each head, (B, T, C) from three of them."""

    kind = "linear-attention"
    functions = ("div",)
    per_head = (0, 1, 2)

    def __init__(self, name: str, heads: int, tokens: int) -> None:
        super().__init__(name, heads)
        self.tokens = tokens
        self.div: TensorNormaliser | None = None

    @property
    def plan_names(self) -> list[str]:
        return [self.name]

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (inputs[0],)

    def real(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in (q.relu(), k.relu(), v))
        attended, total = q @ (k.transpose(-1, -2) @ v), q @ k.sum(-2)[..., None]
        return (attended / (total + SMALLEST)).transpose(1, 2).flatten(2)

    def integer(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if k.shape[1] > self.tokens:
            raise InputError(f"{self.name}: there must be 1..{self.tokens} tokens, not {k.shape[1]}")
        q, k, v = (split_heads(part, self.heads) for part in (q.clamp(min=0), k.clamp(min=0), v))
        sums = batched(k.transpose(-1, -2), torch.cat([v, torch.ones_like(v[..., :1])], -1))  # (B, H, D, D + 1)
        products = _wide_product(q, sums)
        mean = self._mean(products[..., :-1], products[..., -1:]).transpose(1, 2).flatten(2)
        bits, rounding = self.outputs[0].bits, half(self.shift)

        def rows(mean: Tensor) -> Tensor:
            return requantise_(mean.long(), self.multiplier, self.shift, rounding, bits)

        return blockwise(rows, code_type(bits), mean)

    def _mean(self, dividend: Tensor, divisor: Tensor) -> Tensor:
        """The quotient, int16."""
        assert self.div is not None
        acc, exponent = self.div.evaluate(divisor)
        right = self.right_shift - exponent
        total = dividend * (acc << (-right).clamp(min=0))
        return saturate_(round_half_up_(total, right.clamp(min=0)), reference.MEAN_BITS).to(torch.int16)

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Ranges of queries and keys behind their ReLU: what is below 0 may saturate."""
        q, k, v = arguments
        site.seen.note_width((site.key, "head"), q.shape[-1] // self.heads)
        super().watch(site, (q.relu(), k.relu(), v), results)

    def quantise_at(self, site: Site) -> None:
        inputs = [site.input(k) for k in range(3)]
        width = site.seen.width((site.key, "head"))
        self.quantise(inputs, site.output(), site.table(self.name, "div"), width)

    def quantise(self, inputs: list[Grid], output: Grid, div: PwlTable | str, width: int) -> None:
        """The table (or "exact") of div for heads of `width` channels; only the values' scale counts for the output."""
        unit = inputs[2].scale * 2.0**-reference.MEAN_FRAC_BITS
        self._requantise_by(Scale.nearest(unit / output.scale, f"{self.name}: mean of the values"))
        spec = normaliser("div", div, reference.divisor_bits_for(self.tokens, width), 0)
        self.div = TensorNormaliser(spec)
        for specification in self.specifications(output.bits):  # which checks the widths
            self.right_shift = specification.right_shift
        self.finish(inputs, (output,))

    def specifications(self, out_bits: int) -> list[reference.LinearAttention]:
        """One for each head."""
        assert self.div is not None
        step = len(self.multiplier) // self.heads
        numbers = zip(self.multiplier[::step].tolist(), self.shift[::step].tolist(), strict=True)
        return [reference.LinearAttention(self.div.specification, m, k, self.tokens, out_bits) for m, k in numbers]

    def to_row(self, writer: Writer) -> dict[str, Any]:
        assert self.div is not None
        numbers = writer.normaliser("div", self.div.specification)
        return {**super().to_row(writer), "tokens": self.tokens, "normaliser": numbers}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["heads"], row["tokens"])
        operator._requantise_by(Scale(reader.tensor("multiplier"), reader.tensor("shift")))
        operator.div = TensorNormaliser(reader.normaliser("div", row["name"], row["normaliser"]))
        operator.right_shift = operator.specifications(row["outputs"][0]["bits"])[0].right_shift
        return operator

    def formats(self) -> dict[str, Any]:
        assert self.div is not None
        return {**super().formats(), "tables": {"div": label(self.div.specification.lowered)}}


def _wide_product(codes: Tensor, sums: Tensor) -> Tensor:
    """int8 (..., M, K) times int32 (..., K, N), exact, int64: a product for each byte of the sums."""
    total = torch.zeros((*codes.shape[:-1], sums.shape[-1]), dtype=torch.int64, device=codes.device)
    rest = sums.long()
    for shift in (0, 8, 16, 24):
        low = ((rest + 128) & 255) - 128  # signed, so that the rest is a multiple of 256
        rest = (rest - low) >> 8
        total += batched(codes, low.to(torch.int8)).long() << shift
    return total
