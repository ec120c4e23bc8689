"""Steps at the boundary of a network: positions, missing inputs, masks and the order of axes."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from sim.network.operators.base import Shape, Step
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError


class Positions(Step):
    """Position indices (B, T) or (1, T) for tokens (B, T, ...), unless given: 0, 1, ... up to `length` of them.

    With `padding`, RoBERTa's: they start behind that index and do not count padding.
    Raises InputError if there are more than `length` tokens.
    """

    kind = "positions"

    def __init__(self, name: str, length: int, padding: int | None = None) -> None:
        super().__init__(name)
        self.length, self.padding = length, padding

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (inputs[0][:2],)

    def forward(self, ids: Tensor, given: Tensor | None = None) -> Tensor:
        if given is not None:
            return given
        if ids.shape[1] > self.length:
            raise InputError(f"input_ids must have at most {self.length} tokens, not {ids.shape[1]}")
        if self.padding is None:
            return torch.arange(ids.shape[1], device=ids.device)[None]
        counts = (ids != self.padding).long()
        return counts.cumsum(1) * counts + self.padding

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"length": self.length, "padding": self.padding}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["length"], row["padding"])


class Zeros(Step):
    """Zeros like the first argument, unless the second one is given: the token types of BERT."""

    kind = "zeros"

    def forward(self, like: Tensor, given: Tensor | None) -> Tensor:
        return torch.zeros_like(like) if given is None else given


class KeyMask(Step):
    """A mask (B, T) or (B, T, T), not zero for keys that count, as booleans for scores (B, H, T, T), or None."""

    kind = "key-mask"

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((inputs[0][0], 1, 1, inputs[0][1]),)

    def forward(self, mask: Tensor | None) -> Tensor | None:
        if mask is None or bool((mask != 0).all()):
            return None
        valid = mask != 0
        return valid[:, None, None, :] if valid.ndim == 2 else valid[:, None]


class TorchMask(Step):
    """PyTorch's two masks as one for the scores: keys (B, T) and pairs of positions (T, T), both true if masked."""

    kind = "torch-mask"

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((inputs[0][0], 1, inputs[0][1], inputs[0][1]),)

    def forward(self, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        for name, given in (("src_key_padding_mask", padding), ("mask", mask)):
            if given is not None and given.dtype != torch.bool:
                raise InputError(f"{name} must be booleans, not {given.dtype}")
        valid = None if padding is None else ~padding[:, None, None, :]
        if mask is not None:
            if mask.ndim != 2:
                raise InputError(f"mask must be (T, T), not {list(mask.shape)}")
            allowed = ~mask[None, None]
            valid = allowed if valid is None else valid & allowed
        return valid


class Transpose(Step):
    """The first two axes change places: batches that come second."""

    kind = "transpose"

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        first, second, *others = inputs[0]
        return ((second, first, *others),)

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


class Patches(Step):
    """Images (B, H, W) as patches of `size` x `size` pixels, (B, T, size * size), row by row."""

    kind = "patches"

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name)
        self.size = size

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        batch, height, width = inputs[0]
        return ((batch, int(height) // self.size * (int(width) // self.size), self.size**2),)

    def forward(self, images: Tensor) -> Tensor:
        size = self.size
        cut = images.unflatten(1, (-1, size)).unflatten(3, (-1, size))  # (B, rows, size, columns, size)
        return cut.transpose(2, 3).flatten(3).flatten(1, 2)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"size": self.size}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["size"])
