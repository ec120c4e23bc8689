"""The Hadamard transform in floating point: of a layer's inputs, and of its weights, so that the products stay."""

import torch
from torch import Tensor

from quant.plan import Settings
from sim.reference.hadamard import block_size


def butterflies(x: Tensor, block: int) -> Tensor:
    """H x of each block of the last axis, in the type of `x`: `sim.reference.hadamard.butterflies` on integers."""
    parts = x.reshape(-1, block)
    distance = block // 2
    while distance:
        a, b = parts.reshape(-1, block // (2 * distance), 2, distance).unbind(2)
        parts = torch.stack((a + b, a - b), 2).reshape(-1, block)
        distance //= 2
    return parts.reshape(x.shape)


def rotate(x: Tensor, block: int | None) -> Tensor:
    """The last axis times the orthogonal matrix H / sqrt(block) in blocks; it is its own inverse. None: as it is.

    The sums are in float64, and rounded once to the type of `x`. A layer on rotated inputs with rotated weights (out,
    in) gives what it gave before.
    """
    return x if block is None else (butterflies(x.double(), block) / block**0.5).to(x.dtype)


def block_of(settings: Settings, width: int) -> int | None:
    """The block in which a layer's `width` inputs are transformed, None if they are not.

    Raises `InputError` if the block does not divide them.
    """
    if settings.hadamard is False:
        return None
    return block_size(width, None if settings.hadamard is True else settings.hadamard)
