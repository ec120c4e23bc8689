"""Convolutions of codes: the patches that a matrix product takes, and the depthwise convolution.

Images are (B, H, W, C), channels last. The code of zero is 0, and the border is filled with it.
"""

from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range
from sim.reference.requant import requantise

WEIGHT_BITS = 24  # of its weights: a code less its zero point, times the multiplier of a group


@dataclass(frozen=True)
class Window:
    """A square window of `kernel` x `kernel` pixels, each `stride` pixels further, on an image with a border of
    `padding` pixels. Raises InputError if a number is out of range."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        require_range("kernel", self.kernel, 1, 64)
        require_range("stride", self.stride, 1, 64)
        require_range("padding", self.padding, 0, self.kernel - 1)

    def count(self, size: int) -> int:
        """How many windows lie along a side of `size` pixels. Raises InputError if there is not one."""
        found = (size + 2 * self.padding - self.kernel) // self.stride + 1
        if found < 1:
            raise InputError(f"an image's side must have at least {self.kernel - 2 * self.padding} pixels, not {size}")
        return found

    def patches(self, codes: np.ndarray) -> np.ndarray:
        """The patches (B, H', W', kernel * kernel * C) of an image; a patch goes row by row, channels last.

        A convolution is the matrix product of the patches with its weights in the same order.
        """
        batch, height, width, channels = codes.shape
        rows, columns, k, p = self.count(height), self.count(width), self.kernel, self.padding
        padded = np.pad(codes, ((0, 0), (p, p), (p, p), (0, 0)))
        result = np.empty((batch, rows, columns, k, k, channels), dtype=codes.dtype)
        for i in range(rows):
            for j in range(columns):
                top, left = i * self.stride, j * self.stride
                result[:, i, j] = padded[:, top : top + k, left : left + k]
        return result.reshape(batch, rows, columns, k * k * channels)


@dataclass(frozen=True, eq=False)
class DepthwiseConvolution:
    """y = saturate(round((bias + sum over the window of w * a) * m * 2**-k)) of each channel by itself.

    Parameters
    ----------
    weights : ndarray
        (kernel * kernel, C), integers of up to 24 bits, a window's pixels row by row.
    bias : ndarray
        (C,), in units of the accumulator.
    multiplier, shift : ndarray
        (C,), m unsigned 16 bits and k 0..47.
    window : Window
        The pixels that an output sees.
    in_bits, out_bits : int
        Width of the signed input and output codes.
    """

    weights: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    window: Window
    in_bits: int = 8
    out_bits: int = 8

    def __post_init__(self) -> None:
        low, high = code_range(WEIGHT_BITS, True)
        if self.weights.shape[0] != self.window.kernel**2:
            raise InputError(f"weights must have {self.window.kernel**2} rows, not {self.weights.shape[0]}")
        if not (low <= self.weights.min() and self.weights.max() <= high):
            raise InputError(f"weights must be in {low}..{high}")

    @property
    def bound(self) -> tuple[int, int]:
        """The proved smallest and largest accumulator over all input codes."""
        low, high = code_range(self.in_bits, True)
        wide = self.weights.astype(np.int64)
        positive, negative = wide.clip(min=0).sum(0), wide.clip(max=0).sum(0)
        bias = self.bias.astype(np.int64)
        lows, highs = positive * low + negative * high + bias, positive * high + negative * low + bias
        return int(lows.min()), int(highs.max())

    def output(self, codes: np.ndarray) -> np.ndarray:
        """Codes (B, H, W, C) to codes (B, H', W', C). Raises InputError if a value is no code."""
        low, high = code_range(self.in_bits, True)
        if codes.size and not (low <= codes.min() and codes.max() <= high):
            raise InputError(f"codes must be in {low}..{high}, not {codes.min()}..{codes.max()}")
        patches = self.window.patches(codes.astype(np.int64))
        wide = patches.reshape(*patches.shape[:3], -1, codes.shape[-1])
        total = (wide * self.weights).sum(-2) + self.bias
        return requantise(total, self.multiplier, self.shift, out_bits=self.out_bits)
