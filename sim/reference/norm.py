"""LayerNorm and RMSNorm over a row of integers: two exact sums, one reciprocal square root, one gain per channel.

LayerNorm of N codes x needs no division by N and no difference of rounded numbers:

    (x_i - mean) / sqrt(variance + eps) = (N x_i - S) / sqrt(N Q - S**2 + N**2 eps),   S = sum x,  Q = sum x**2

RMSNorm is the same with S = 0. There are two passes over the row, which hardware keeps in a memory of one row:

1. S and Q; then, once for the row: spread = N Q - S**2 + epsilon, (acc, exponent) = 1 / sqrt(spread) by the normaliser
2. centred = N x - S;  normal = saturate16(round(centred * acc * 2**(exponent + ...)));  output =
   saturate(round_half_up(normal * gain_i + bias_i, shift))

N Q - S**2 equals the sum of (N x - S)**2 over N, exactly, in one pass and in fewer bits. All constants are integers: N,
epsilon, the table, a gain and a bias per channel, one shift. A constant row gives the bias.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range, round_half_up, saturate
from sim.reference.normaliser import Normaliser

MAX_LENGTH = 1 << 13
NORMAL_BITS = 16
GAIN_BITS = 16
BIAS_BITS = 32
MAX_SHIFT = 31


class NormTrace(NamedTuple):
    """Every intermediate of a batch of rows, int64: `centred`, `normal` and `output` (..., N), the others (..., 1)."""

    sum: np.ndarray
    squares: np.ndarray
    spread: np.ndarray
    acc: np.ndarray
    exponent: np.ndarray
    centred: np.ndarray
    normal: np.ndarray
    output: np.ndarray


@dataclass(frozen=True)
class Norm:
    """LayerNorm, or RMSNorm without `centring`, of rows of exactly N signed codes.

    Parameters
    ----------
    gain : tuple of int
        N signed 16-bit integers.
    bias : tuple of int
        N signed 32-bit integers, in units of normal * gain.
    shift : int
        One output code is 2**shift units of normal * gain.
    epsilon : int
        N**2 times the real epsilon over the square of the input's scale, at least 1.
    rsqrt : Normaliser
        Of unsigned inputs of `spread_bits` without fraction bits (`spread_bits_for` gives the width).
    centring : bool
        True for LayerNorm.
    in_bits, out_bits : int
        Widths of the signed input and output codes.

    Raises
    ------
    InputError
        A field is outside its range or does not fit the others.
    """

    gain: tuple[int, ...]
    bias: tuple[int, ...]
    shift: int
    epsilon: int
    rsqrt: Normaliser
    centring: bool = True
    in_bits: int = 16
    out_bits: int = 16

    def __post_init__(self) -> None:
        require_range("gain's length", self.length, 2, MAX_LENGTH)
        require_range("in_bits", self.in_bits, 4, 16)
        require_range("out_bits", self.out_bits, 4, 16)
        require_range("shift", self.shift, 0, MAX_SHIFT)
        require_range("epsilon", self.epsilon, 1, 1 << 48)
        if len(self.bias) != self.length:
            raise InputError(f"bias must have {self.length} integers, not {len(self.bias)}")
        for name, bits in (("gain", GAIN_BITS), ("bias", BIAS_BITS)):
            for value in (min(getattr(self, name)), max(getattr(self, name))):
                require_range(name, value, *code_range(bits, True))
        if self.rsqrt.table.function != "rsqrt":
            raise InputError(f"rsqrt must be a normaliser of rsqrt, not of {self.rsqrt.table.function!r}")
        if self.rsqrt.input_signed or self.rsqrt.input_bits != self.spread_bits or self.rsqrt.input_frac_bits:
            raise InputError(
                f"rsqrt must take unsigned integers of {self.spread_bits} bits, not "
                f"{'' if self.rsqrt.input_signed else 'un'}signed ones of {self.rsqrt.input_bits} bits "
                f"with {self.rsqrt.input_frac_bits} fraction bits"
            )
        bits = self.widths["product.shifted"][0]
        if bits > INT64_SAFE_BITS:
            raise InputError(
                f"gain's length and rsqrt's table need a product of {bits} bits, more than the 62 there are"
            )

    @property
    def length(self) -> int:
        """N."""
        return len(self.gain)

    @property
    def normal_frac_bits(self) -> int:
        """Fraction bits of `normal`: the most with which |normal| <= sqrt(N) fits 16 bits."""
        return normal_frac_bits_for(self.length)

    @property
    def spread_bits(self) -> int:
        """The width of the spread."""
        return spread_bits_for(self.length, self.epsilon, self.in_bits)

    @property
    def right_shift(self) -> int:
        """The right shift of centred * acc, before the normaliser's exponent is subtracted; may be negative."""
        return self.rsqrt.table.slope_frac_bits + self.rsqrt.scale - self.normal_frac_bits

    @property
    def widths(self) -> dict[str, tuple[int, bool]]:
        """(bits, signed) of each intermediate; no row exceeds them.

        `product` is centred * acc; `product.shifted` is that after the largest left shift, or with half a unit of the
        result added. `scaled` is normal * gain + bias; `scaled.rounded` is that plus half a unit of the output.
        """
        n, largest = self.length, 1 << (self.in_bits - 1)
        # |N x - S| <= (N - 1)(2 largest - 1); without centring N largest
        centred = (max((n - 1) * (2 * largest - 1), n * largest)).bit_length() + 1
        product = centred + self.rsqrt.lowered.acc_bits - 1
        longest = self.right_shift + (self.spread_bits + 1) // 2 + 2
        scaled = max(NORMAL_BITS + GAIN_BITS - 1, BIAS_BITS) + 1
        return {
            "input": (self.in_bits, True),
            "sum": ((n * largest).bit_length() + 1, True),
            "squares": ((n * largest**2).bit_length(), False),
            "spread": (self.spread_bits, False),
            "acc": (self.rsqrt.lowered.acc_bits, True),
            "centred": (centred, True),
            "product": (product, True),
            "product.shifted": (max(product + max(-self.right_shift, 0), longest) + 1, True),
            "normal": (NORMAL_BITS, True),
            "scaled": (scaled, True),
            "scaled.rounded": (max(scaled, self.shift) + 1, True),
            "output": (self.out_bits, True),
        }

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Signed `out_bits` codes as int64, shape of `x`: (..., N)."""
        return self.trace(x).output

    def trace(self, x: np.ndarray) -> NormTrace:
        """`compute`, with every intermediate.

        Raises
        ------
        InputError
            The codes are not integers of `in_bits`, or rows have another length.
        """
        x = np.asarray(x)
        low, high = code_range(self.in_bits, True)
        if x.dtype.kind not in "iu":
            raise InputError(f"codes must be integers, not {x.dtype}")
        if x.shape[-1:] != (self.length,):
            raise InputError(f"a row must have {self.length} codes, not {list(x.shape[-1:])}")
        if x.size and not (low <= x.min() and x.max() <= high):
            raise InputError(f"codes must be in {low}..{high}, not {x.min()}..{x.max()}")
        x = x.astype(np.int64)
        n = self.length
        total = x.sum(-1, keepdims=True) if self.centring else np.zeros((*x.shape[:-1], 1), np.int64)
        squares = (x * x).sum(-1, keepdims=True)
        spread = n * squares - total * total + self.epsilon
        acc, exponent = self.rsqrt.evaluate(spread)
        centred = n * x - total
        right = self.right_shift - exponent
        product = (centred * acc) << np.maximum(-right, 0)
        half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0)
        normal = saturate((product + half) >> np.maximum(right, 0), NORMAL_BITS, True)
        scaled = normal * np.array(self.gain, np.int64) + np.array(self.bias, np.int64)
        output = saturate(round_half_up(scaled, self.shift), self.out_bits, True)
        return NormTrace(total, squares, spread, acc, exponent, centred, normal, output)


def spread_bits_for(length: int, epsilon: int, in_bits: int = 16) -> int:
    """The unsigned width that holds N Q - S**2 + epsilon for every row: N Q <= N**2 * 4**(in_bits - 1)."""
    return ((length << (in_bits - 1)) ** 2 + epsilon).bit_length()


def normal_frac_bits_for(length: int) -> int:
    """Fraction bits of `normal` for rows of `length`."""
    return NORMAL_BITS - 1 - math.ceil((length - 1).bit_length() / 2)
