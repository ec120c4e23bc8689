"""The element-wise product of two tensors of codes, with one rounding: y = saturate(round_half_up(a * b * m * 2**-k)).

A gated feed-forward network (SwiGLU) multiplies its activated gate by its other half; attention multiplies each
probability by the scale of the value that it weights.
"""

from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS, requantise


@dataclass(frozen=True)
class Product:
    """The product of signed codes of `a_bits` and `b_bits`, requantised to signed codes of `out_bits`.

    Parameters
    ----------
    multiplier, shift : int
        m, unsigned 16 bits, and k, 0..47: one unit of a times one unit of b is m * 2**-k units of the output.
    a_bits, b_bits, out_bits : int
        Widths, 4..16.

    Raises
    ------
    InputError
        A field is outside its range.
    """

    multiplier: int
    shift: int
    a_bits: int = 16
    b_bits: int = 16
    out_bits: int = 16

    def __post_init__(self) -> None:
        require_range("multiplier", self.multiplier, 0, (1 << MULTIPLIER_BITS) - 1)
        require_range("shift", self.shift, 0, MAX_SHIFT)
        for name in ("a_bits", "b_bits", "out_bits"):
            require_range(name, getattr(self, name), 4, 16)

    @property
    def widths(self) -> dict[str, tuple[int, bool]]:
        """(bits, signed) of each intermediate: a * b, that times m, and that plus half a unit of the output."""
        product = self.a_bits + self.b_bits
        scaled = product + MULTIPLIER_BITS
        return {
            "a": (self.a_bits, True),
            "b": (self.b_bits, True),
            "product": (product, True),
            "scaled": (scaled, True),
            "scaled.rounded": (max(scaled, self.shift + 1) + 1, True),
            "output": (self.out_bits, True),
        }

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Codes, int64, of the shape to which `a` and `b` broadcast.

        Raises `InputError` if they are not integers of their widths.
        """
        a, b = np.asarray(a), np.asarray(b)
        for name, values, bits in (("a", a, self.a_bits), ("b", b, self.b_bits)):
            low, high = code_range(bits, True)
            if values.dtype.kind not in "iu":
                raise InputError(f"{name} must be integers, not {values.dtype}")
            if values.size and not (low <= values.min() and values.max() <= high):
                raise InputError(f"{name} must be in {low}..{high}, not {values.min()}..{values.max()}")
        return requantise(a.astype(np.int64) * b.astype(np.int64), self.multiplier, self.shift, out_bits=self.out_bits)
