"""A bias of attention scores by the distance between query and key: MPNet's, and T5's before it (arXiv 1910.10683)."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sim.network.operators.arithmetic import code_type, saturate_
from sim.network.operators.attention import SCORE_BITS
from sim.network.operators.base import Grid, Operator, Site
from sim.network.operators.modules import require_type
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError


class PositionBias(Operator):
    """Scores (B, H, T, T) plus a code for each head and distance, saturated; the scale is that of the scores.

    `bucket` gives the row of the embedding (buckets, H) for a tensor of distances key - query. It runs once, on the
    distances of `length` tokens; the integer network looks a distance up.
    """

    kind = "position-bias"
    codes: Tensor

    def __init__(
        self, name: str, length: int, table: nn.Embedding | None = None,
        bucket: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self.length, self.table = length, table
        if bucket is not None:
            self.register_buffer("buckets", bucket(torch.arange(1 - length, length)), persistent=False)

    @property
    def trainable(self) -> bool:
        return self.table is not None

    def claims(self) -> Mapping[str, nn.Module]:
        assert self.table is not None
        require_type(self.name, self.table, nn.Embedding)
        return {self.name: self.table}

    def _biases(self) -> Tensor:
        """(H, 2 * length - 1), real."""
        assert self.table is not None
        return functional.embedding(self.get_buffer("buckets"), self.table.weight).t()

    def _distances(self, scores: Tensor) -> Tensor:
        """(T, T): where the distance of each pair is in the table."""
        queries, keys = scores.shape[-2:]
        if max(queries, keys) > self.length:
            raise InputError(f"{self.name}: there must be at most {self.length} tokens, not {max(queries, keys)}")
        places = [torch.arange(count, device=scores.device) for count in (queries, keys)]
        return places[1][None] - places[0][:, None] + self.length - 1

    def real(self, scores: Tensor) -> Tensor:
        return scores + self._biases()[:, self._distances(scores)]

    def integer(self, scores: Tensor) -> Tensor:
        total = scores.int().add_(self.codes[:, self._distances(scores)])
        return saturate_(total, SCORE_BITS).to(code_type(SCORE_BITS))

    def input_grid(self, index: int, site: Site) -> Grid | None:
        """The grid that softmax wants."""
        return site.output()

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Nothing: softmax chooses the scale."""

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input())

    def quantise(self, grid: Grid) -> None:
        """The codes of the biases at the scale of the scores."""
        self.outputs = (grid,)
        self.recode()
        self.finish((grid,), (grid,))

    def recode(self) -> None:
        self.register_buffer("codes", self.outputs[0].codes(self._biases()).int(), persistent=False)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        writer.tensor("codes", self.codes)
        return {"length": self.length}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["length"])
        operator.register_buffer("codes", reader.tensor("codes"), persistent=False)
        return operator
