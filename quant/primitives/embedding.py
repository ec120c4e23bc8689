"""An embedding on the integer weights of the linear layer that it is tied to: the matrix is stored once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from quant.primitives.linear import QuantisedLinear
from quant.primitives.scales import Scale


class TiedEmbedding(nn.Module):
    """Looks up rows of the matrix that a quantised layer's codes stand for.

    The layer is not a submodule: its tensors are in the state of the model once, under the layer's own name.

    Parameters
    ----------
    layer : QuantisedLinear
        The output layer that held the same matrix; its shape is (vocabulary, width).
    dtype : torch.dtype
        Format of the rows.
    padding_idx : int, optional
        As `nn.Embedding` has it; models ask for it.
    """

    def __init__(self, layer: QuantisedLinear, dtype: torch.dtype, padding_idx: int | None = None) -> None:
        super().__init__()
        self._layer = (layer,)  # a tuple hides it from `nn.Module`
        self.dtype, self.padding_idx = dtype, padding_idx
        self.num_embeddings, self.embedding_dim = layer.out_features, layer.in_features

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """The rows take the type that the model is changed to; the codes stay."""
        self.dtype = fn(torch.zeros(1, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    @property
    def layer(self) -> QuantisedLinear:
        """The layer that holds the codes."""
        return self._layer[0]

    @property
    def weight(self) -> Tensor:
        """The whole matrix (vocabulary, width), as the codes have it."""
        return self.layer.weight.dequantise(self.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) integers to (..., width)."""
        whole, rows = self.layer.weight, ids.reshape(-1)
        codes, zero, multiplier, scale, shift = (tensor[rows] for tensor in whole.tensors())
        part = replace(whole, codes=codes, zero_point=zero, group_multiplier=multiplier, scale=Scale(scale, shift))
        return part.dequantise(self.dtype).reshape(*ids.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, tied to {self.layer.name}"
