"""The specification's integer arithmetic on tensors: no floating point anywhere."""

from collections.abc import Callable

import torch
from torch import Tensor

from sim.reference.arithmetic import code_range


def code_type(bits: int) -> torch.dtype:
    """The smallest signed type that holds signed codes of `bits`."""
    return torch.int8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32


def round_half_up(values: Tensor, shift: Tensor | int) -> Tensor:
    """floor(values / 2**shift + 1/2) for shifts >= 0, in the type of `values`."""
    if isinstance(shift, int):
        return values if shift == 0 else (values + (1 << (shift - 1))) >> shift
    return (values + half(shift)) >> shift


def half(shift: Tensor) -> Tensor:
    """Half of 2**shift, 0 where the shift is 0."""
    return torch.ones_like(shift) << shift >> 1


def saturate(values: Tensor, bits: int) -> Tensor:
    """Clamp to signed codes of `bits`, in their smallest type."""
    low, high = code_range(bits, True)
    return values.clamp(low, high).to(code_type(bits))


def requantise(values: Tensor, multiplier: Tensor, shift: Tensor, rounding: Tensor, out_bits: int) -> Tensor:
    """`sim.reference.requant.requantise` for signed codes without a zero point: int32 or int64 `values`, broadcast.

    `rounding` is `half(shift)`, made once. The caller has proved that values * multiplier fits 62 bits. The work goes
    in blocks that stay in the cache, four times as fast as whole tensors of 64-bit products.
    """
    return blockwise(lambda part: saturate((part.long() * multiplier + rounding) >> shift, out_bits), values)


BLOCK = 1 << 16  # values


def blockwise(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function` of the same block of rows of each tensor, put together; it must treat each row by itself.

    A row is a tensor's last axis; the tensors agree in all axes before it.
    """
    first = tensors[0]
    if first.is_cuda or first.numel() <= 2 * BLOCK or first.ndim < 2:
        return function(*tensors)
    rows = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
    step = max(1, BLOCK // rows[0].shape[1])
    result: Tensor | None = None
    for start in range(0, rows[0].shape[0], step):
        part = function(*(tensor[start : start + step] for tensor in rows))
        if result is None:
            result = part.new_empty((rows[0].shape[0], *part.shape[1:]))
        result[start : start + step] = part
    assert result is not None
    return result.reshape(*first.shape[:-1], *result.shape[1:])
