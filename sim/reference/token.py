"""Per-token quantisation of activations: an integer scale for each row, and the linear layer that takes it.

magnitude = max(|x|), at least 1          the row's scale: the code `top` represents it
ratio     = (top * 2**24 + magnitude // 2) // magnitude,   top = 2**(bits-1)-1
a_i       = round_half_up(x_i * ratio, 24)

The linear layer's accumulator times the row's magnitude is exact in units that all rows share. Bias and requantisation
are therefore those of any other layer:

A = bias + magnitude * sum over g of m_g * psum_g,   y = saturate(round_half_up(A * m_c * 2**-k_c))
"""

from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range, round_half_up, saturate
from sim.reference.gemm import GroupedLinear, signed_bits
from sim.reference.requant import MULTIPLIER_BITS, requantise

RATIO_BITS = 24  # fraction bits; x * ratio is at most top * 2**24, since |x| <= magnitude
IN_BITS = 16


def quantise_tokens(x: np.ndarray, bits: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Quantise each row to its own scale.

    Codes lie in -top..top, magnitudes in 1..2**15; the widest intermediate, x * ratio plus half a unit, has
    `bits` + 25 bits. Raises `InputError` if the values are not signed 16-bit integers.
    """
    require_range("bits", bits, 2, 16)
    x = np.asarray(x)
    low, high = code_range(IN_BITS, True)
    if x.dtype.kind not in "iu":
        raise InputError(f"x must be integers, not {x.dtype}")
    if x.size and not (low <= x.min() and x.max() <= high):
        raise InputError(f"x must be in {low}..{high}, not {x.min()}..{x.max()}")
    x = x.astype(np.int64)
    top = code_range(bits, True)[1]
    magnitude = np.maximum(np.abs(x).max(-1, keepdims=True), 1)
    ratio = ((top << RATIO_BITS) + magnitude // 2) // magnitude
    return saturate(round_half_up(x * ratio, RATIO_BITS), bits, True), magnitude


@dataclass(frozen=True)
class TokenLinear:
    """A linear layer whose rows have a magnitude: `linear`, without a bias of its own, then the `bias` (N,).

    Raises `InputError` if `linear` has a bias, or A times the multiplier could need more than 62 bits.
    """

    linear: GroupedLinear
    bias: np.ndarray

    def __post_init__(self) -> None:
        if self.linear.bias.any():
            raise InputError("linear's own bias must be zeros; a token's bias is added after its magnitude")
        if self.bias.dtype.kind not in "iu" or self.bias.shape != (self.linear.outputs,):
            raise InputError(f"bias must be {self.linear.outputs} integers")
        bits = signed_bits(self.bound) + MULTIPLIER_BITS
        if bits > INT64_SAFE_BITS:
            raise InputError(f"A * m_c must fit {INT64_SAFE_BITS} bits, but can need {bits}")

    @property
    def bound(self) -> tuple[int, int]:
        """The smallest and the largest A for any activations and magnitudes."""
        low, high = (end << (IN_BITS - 1) for end in self.linear.bound)
        return low + min(int(self.bias.min()), 0), high + max(int(self.bias.max()), 0)

    def output(self, activations: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        """The codes y (M, N), int64, for activations (M, K) and magnitudes (M, 1)."""
        total = self.linear.accumulate(activations) * magnitudes + self.bias
        layer = self.linear
        return requantise(
            total, layer.multiplier, layer.shift, layer.zero_point, layer.out_bits, layer.out_signed
        )  # fmt: skip
