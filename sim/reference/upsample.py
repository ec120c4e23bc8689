"""Bilinear interpolation of codes (B, H, W, C), in integers: `interpolate(..., align_corners=False)` of PyTorch."""

import numpy as np

from sim.common.errors import require_range
from sim.reference.arithmetic import round_half_up

WEIGHT_BITS = 8  # fraction bits of a weight along one side; exact for factors of 1, 2, 4, ... 128
MAX_SIDE = 1 << 15


def taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `target` pixels along a side, its two neighbours among `source` pixels, and the second one's weight.

    The weight is in units of 2**-8, rounded half up. Pixel i lies at (i + 1/2) * source / target - 1/2, not below 0.
    Raises InputError if a size is out of range.
    """
    require_range("source", source, 1, MAX_SIDE)
    require_range("target", target, 1, MAX_SIDE)
    # the place in units of 1 / (2 * target)
    place = np.maximum((2 * np.arange(target, dtype=np.int64) + 1) * source - target, 0)
    first, rest = place // (2 * target), place % (2 * target)
    weight = ((rest << (WEIGHT_BITS + 1)) + 2 * target) // (4 * target)
    return first, np.minimum(first + 1, source - 1), weight


def upsample(codes: np.ndarray, height: int, width: int) -> np.ndarray:
    """round_half_up of the four neighbours' weighted sum, once, at 2**-16: (B, H, W, C) to (B, height, width, C)."""
    top, bottom, down = taps(codes.shape[1], height)
    left, right, across = taps(codes.shape[2], width)
    one = 1 << WEIGHT_BITS
    wide = codes.astype(np.int64)
    rows = wide[:, top] * (one - down)[:, None, None] + wide[:, bottom] * down[:, None, None]
    total = rows[:, :, left] * (one - across)[:, None] + rows[:, :, right] * across[:, None]
    return round_half_up(total, 2 * WEIGHT_BITS)
