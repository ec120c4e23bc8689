"""Codes of 1..16 bits as a stream of bits: the least significant bit first, each row from a byte of its own.

Code i of a row fills the bits i*b to i*b+b-1; bit n is bit n % 8 of byte n // 8. Signed codes are two's complement.
In little-endian 32-bit words this is also GPTQ's order.
"""

import numpy as np
import torch
from torch import Tensor

from sim.reference import InputError
from sim.reference.arithmetic import code_range

CHUNK = 1 << 22  # codes unpacked to single bits at a time, which bounds the memory


def row_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int, signed: bool) -> Tensor:
    """Integer codes (rows, n) as uint8 (rows, ceil(n * bits / 8)), on the CPU.

    Raises `InputError` for a code that does not fit.
    """
    low, high = code_range(bits, signed)
    array = codes.detach().cpu().numpy().astype(np.int64)
    if array.size and not (low <= array.min() and array.max() <= high):
        raise InputError(f"codes must be in {low}..{high}, not {array.min()}..{array.max()}")
    packed = np.empty((array.shape[0], row_bytes(array.shape[1], bits)), dtype=np.uint8)
    rows = max(1, CHUNK // max(1, array.shape[1]))
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        single = (part[..., None] >> np.arange(bits)) & 1
        flat = single.astype(np.uint8).reshape(len(part), -1)
        packed[first : first + rows] = np.packbits(flat, axis=1, bitorder="little")
    return torch.from_numpy(packed)


def unpack(packed: Tensor, count: int, bits: int, signed: bool) -> Tensor:
    """The codes (rows, count) of `pack`: int8 where they fit, else uint8 or int32."""
    array = packed.detach().cpu().numpy()
    codes = np.empty((array.shape[0], count), dtype=np.int32)
    rows = max(1, CHUNK // max(1, count))
    weights = (1 << np.arange(bits)).astype(np.int32)
    if signed:
        weights[-1] = -weights[-1]
    for first in range(0, len(array), rows):
        part = array[first : first + rows]
        single = np.unpackbits(part, axis=1, count=count * bits, bitorder="little").reshape(len(part), count, bits)
        codes[first : first + rows] = single.astype(np.int32) @ weights
    kind = torch.int32 if bits > 8 else torch.int8 if signed else torch.uint8
    return torch.from_numpy(codes).to(kind)
