"""Attention with a ReLU kernel, linear in the tokens: relu(q) (relu(k)^T v) / (relu(q) sum relu(k)), in integers.

Both products are exact. The quotient is a mean of the values with weights that are not negative, so it fits the values'
codes and needs one division, through the normaliser of 1/x. Source: EfficientViT (arXiv 2205.14756).
"""

from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range, round_half_up, saturate
from sim.reference.normaliser import Normaliser
from sim.reference.requant import requantise

CODE_BITS = 8  # of queries, keys and values
MEAN_FRAC_BITS = 8  # the mean of the values has their codes and so many bits more
MEAN_BITS = CODE_BITS + MEAN_FRAC_BITS
MAX_HEAD_WIDTH = 1 << 8
MAX_TOKENS = 1 << 16


def divisor_bits_for(tokens: int, width: int) -> int:
    """Bits of relu(q) sum relu(k) for so many tokens and channels of a head."""
    require_range("tokens", tokens, 1, MAX_TOKENS)
    require_range("width", width, 1, MAX_HEAD_WIDTH)
    return (127 * 127 * tokens * width).bit_length()


@dataclass(frozen=True, eq=False)
class LinearAttention:
    """y = saturate(round(mean * m * 2**-k)) of one head.

    Parameters
    ----------
    div : Normaliser
        1/x of the divisor, which is an unsigned integer.
    multiplier, shift : int
        m, unsigned 16 bits, and k, 0..47, from the mean to the output code.
    tokens : int
        The most tokens.
    out_bits : int
        Width of the signed output codes.
    """

    div: Normaliser
    multiplier: int
    shift: int
    tokens: int
    out_bits: int = 16

    def __post_init__(self) -> None:
        if self.div.input_signed or self.div.input_frac_bits:
            raise InputError("div must take unsigned integers")
        # the dividend is at most 128 times the divisor
        bits = self.div.input_bits + CODE_BITS + self.div.lowered.acc_bits
        if bits > INT64_SAFE_BITS:
            raise InputError(f"the dividend times the reciprocal must fit {INT64_SAFE_BITS} bits, but needs {bits}")

    @property
    def right_shift(self) -> int:
        """The shift of the dividend times the reciprocal where the normaliser's exponent is 0."""
        return self.div.table.slope_frac_bits + self.div.scale - MEAN_FRAC_BITS

    def mean(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The quotient (..., T, D) in 16 bits, 8 of them behind the values' code, for codes (..., T, D) each.

        Raises InputError if there are too many tokens or a value is no code.
        """
        if not 1 <= k.shape[-2] <= self.tokens:
            raise InputError(f"there must be 1..{self.tokens} tokens, not {k.shape[-2]}")
        for name, codes in (("q", q), ("k", k), ("v", v)):
            low, high = code_range(CODE_BITS, True)
            if codes.size and not (low <= codes.min() and codes.max() <= high):
                raise InputError(f"{name} must be in {low}..{high}, not {codes.min()}..{codes.max()}")
        q, k, v = q.astype(np.int64).clip(min=0), k.astype(np.int64).clip(min=0), v.astype(np.int64)
        dividend = q @ (k.swapaxes(-1, -2) @ v)
        divisor = q @ k.sum(-2)[..., None]
        acc, exponent = self.div.evaluate(divisor)
        right = self.right_shift - exponent
        total = dividend * (acc << np.maximum(-right, 0))
        result = np.empty_like(total)
        right = np.broadcast_to(np.maximum(right, 0), total.shape)
        for shift in np.unique(right):
            result[right == shift] = round_half_up(total[right == shift], int(shift))
        return saturate(result, MEAN_BITS, True)

    def output(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The output codes (..., T, D)."""
        return requantise(self.mean(q, k, v), self.multiplier, self.shift, out_bits=self.out_bits)
