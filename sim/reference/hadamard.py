"""The Hadamard transform of blocks of codes: exact sums and differences, then one rounding.

A block of n = 2**k words goes through k stages. The stage of distance d takes every pair of words that are d apart,
(a, b), to (a + b, a - b); the distances are n/2, n/4, ... 1, and each stage needs one bit more. The result is H x in
the natural order, H the Sylvester matrix of entries 1 and -1, for which H H = n. Then

    y = saturate(round_half_up(H x * 2**-shift))

An outlier of a block is spread over its n results, so that few bits hold them all. Weights that were multiplied by H
before they were quantised give the same products (QuaRot, Ashkboos et al. 2024); 1/sqrt(n) is a part of the scales.
"""

from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range, round_half_up, saturate
from sim.reference.residual import STREAM_BITS

MAX_BLOCK = 4096


def block_size(width: int, block: int | None = None) -> int:
    """The block for rows of `width` codes: the one given, or the largest power of two that divides the width.

    Raises `InputError` if the block is not a power of two in 2..4096 that divides the width, or there is none.
    """
    if block is None:
        block = min(width & -width, MAX_BLOCK)
        if block < 2:
            raise InputError(f"a Hadamard transform needs an even number of inputs, not {width}")
        return block
    require_block(block)
    if width % block:
        raise InputError(f"a block of {block} must divide the {width} inputs")
    return block


def require_block(block: int) -> None:
    """Raise `InputError` unless `block` is a power of two in 2..4096."""
    require_range("block", block, 2, MAX_BLOCK)
    if block & (block - 1):
        raise InputError(f"block must be a power of two, not {block}")


def butterflies(x: np.ndarray, block: int) -> np.ndarray:
    """H x of each block of the last axis, exact, int64; `block` must divide the axis."""
    parts = np.asarray(x).astype(np.int64).reshape(-1, block)
    distance = block // 2
    while distance:
        a, b = np.moveaxis(parts.reshape(-1, block // (2 * distance), 2, distance), 2, 0)
        parts = np.stack([a + b, a - b], 2).reshape(-1, block)
        distance //= 2
    return parts.reshape(np.shape(x))


@dataclass(frozen=True)
class Hadamard:
    """The transform of signed codes in blocks: saturate(round_half_up(H x * 2**-shift)).

    Parameters
    ----------
    block : int
        Words of a block, a power of two in 2..4096.
    shift : int
        0..log2(block). With the largest nothing saturates if the widths are equal.
    in_bits, out_bits : int
        Widths of the signed input and output codes, 4..16.

    Raises
    ------
    InputError
        A field is outside its range.
    """

    block: int
    shift: int
    in_bits: int = STREAM_BITS
    out_bits: int = STREAM_BITS

    def __post_init__(self) -> None:
        require_block(self.block)
        require_range("shift", self.shift, 0, self.stages)
        require_range("in_bits", self.in_bits, 4, STREAM_BITS)
        require_range("out_bits", self.out_bits, 4, STREAM_BITS)

    @property
    def stages(self) -> int:
        """log2 of the block."""
        return self.block.bit_length() - 1

    @property
    def widths(self) -> dict[str, tuple[int, bool]]:
        """(bits, signed) of each intermediate: each stage's result, and the last one plus half a unit of the output."""
        found = {"input": (self.in_bits, True)}
        found |= {f"stage.{k}": (self.in_bits + k, True) for k in range(1, self.stages + 1)}
        found["rounded"] = (self.in_bits + self.stages + 1, True)
        return found | {"output": (self.out_bits, True)}

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Codes of the shape of `x`, int64, in blocks of its last axis.

        Raises `InputError` if `x` are not integers of their width, or the block does not divide their last axis.
        """
        x = np.asarray(x)
        low, high = code_range(self.in_bits, True)
        if x.dtype.kind not in "iu":
            raise InputError(f"codes must be integers, not {x.dtype}")
        if x.size and not (low <= x.min() and x.max() <= high):
            raise InputError(f"codes must be in {low}..{high}, not {x.min()}..{x.max()}")
        if x.ndim < 1:
            raise InputError("codes must have an axis of blocks")
        block_size(x.shape[-1], self.block)
        return saturate(round_half_up(butterflies(x, self.block), self.shift), self.out_bits, True)
