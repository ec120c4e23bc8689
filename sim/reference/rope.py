"""Rotary position embedding on integers: pairs of channels, rotated by angles that grow with the position.

Channel i of a head of width d is paired with channel i + d/2, as in Llama (Su et al. 2021, with the halves apart):

    y_i         = round_half_up(x_i * cos - x_(i+d/2) * sin)
    y_(i+d/2)   = round_half_up(x_(i+d/2) * cos + x_i * sin),   cos and sin of position * frequency_i

Cosines and sines are integers of 2**-14, rounded half up once, when the table is made; the hardware stores them and
never computes an angle. Each result is one exact sum of two products, one rounding and one saturation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range, round_half_up, saturate

TABLE_BITS = 16  # signed; with 14 fraction bits it holds magnitudes below 2
TABLE_TOP = (1 << (TABLE_BITS - 1)) - 1  # of the magnitudes: a sum of two products needs one bit more than a product
FRAC_BITS = 14
MAX_POSITIONS = 1 << 20


def rotation_table(
    frequencies: Sequence[float] | np.ndarray, positions: int, gain: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, int64 (positions, d/2) each, in units of 2**-14: round_half_up(gain * cos(p * f) * 2**14).

    Parameters
    ----------
    frequencies : sequence of float
        Radians per position of each pair; Llama's are base**(-2i/d).
    positions : int
        The positions 0 .. positions - 1.
    gain : float
        Factor of both, below 2; some scaled variants of RoPE have one (YaRN).

    Raises
    ------
    InputError
        The frequencies are not finite numbers, or positions or gain are outside their range.
    """
    require_range("positions", positions, 1, MAX_POSITIONS)
    frequencies = np.asarray(frequencies, dtype=np.float64)
    if frequencies.ndim != 1 or not frequencies.size or not np.isfinite(frequencies).all():
        raise InputError("frequencies must be a list of finite numbers")
    if not 0 < gain < 2:
        raise InputError(f"gain must be above 0 and below 2, not {gain}")
    angles = np.arange(positions, dtype=np.float64)[:, None] * frequencies
    units = gain * 2.0**FRAC_BITS
    cosines, sines = (np.floor(f(angles) * units + 0.5).astype(np.int64) for f in (np.cos, np.sin))
    return cosines.clip(-TABLE_TOP, TABLE_TOP), sines.clip(-TABLE_TOP, TABLE_TOP)


@dataclass(frozen=True)
class Rope:
    """The rotation of signed codes: saturate(round_half_up(sum * 2**-shift)) of each pair's two sums.

    Parameters
    ----------
    in_bits, out_bits : int
        Widths of the signed input and output codes, 4..16.
    shift : int
        0..30. With 14, the table's fraction bits, the output has the input's scale.

    Raises
    ------
    InputError
        A field is outside its range.
    """

    in_bits: int = 16
    out_bits: int = 16
    shift: int = FRAC_BITS

    def __post_init__(self) -> None:
        require_range("in_bits", self.in_bits, 4, 16)
        require_range("out_bits", self.out_bits, 4, 16)
        require_range("shift", self.shift, 0, 30)

    @property
    def widths(self) -> dict[str, tuple[int, bool]]:
        """(bits, signed) of each intermediate: the products, their sum, and that plus half a unit of the output."""
        product = self.in_bits + TABLE_BITS - 1
        total = product + 1
        return {
            "input": (self.in_bits, True),
            "table": (TABLE_BITS, True),
            "product": (product, True),
            "sum": (total, True),
            "sum.rounded": (max(total, self.shift + 1) + 1, True),
            "output": (self.out_bits, True),
        }

    def rotate(self, x: np.ndarray, cosines: np.ndarray, sines: np.ndarray) -> np.ndarray:
        """Codes (..., d), int64, rotated by the integers `cosines` and `sines`, which broadcast to (..., d/2).

        Raises
        ------
        InputError
            Codes or table are not integers of their widths, or d is not even.
        """
        x, cosines, sines = np.asarray(x), np.asarray(cosines), np.asarray(sines)
        for name, values, (low, high) in (
            ("codes", x, code_range(self.in_bits, True)),
            ("cosines", cosines, (-TABLE_TOP, TABLE_TOP)),
            ("sines", sines, (-TABLE_TOP, TABLE_TOP)),
        ):
            if values.dtype.kind not in "iu":
                raise InputError(f"{name} must be integers, not {values.dtype}")
            if values.size and not (low <= values.min() and values.max() <= high):
                raise InputError(f"{name} must be in {low}..{high}, not {values.min()}..{values.max()}")
        if x.ndim < 1 or not x.shape[-1] or x.shape[-1] % 2:
            raise InputError(f"a head must have an even number of channels, not {list(x.shape[-1:])}")
        a, b = np.split(x.astype(np.int64), 2, -1)
        cosines, sines = cosines.astype(np.int64), sines.astype(np.int64)
        turned = np.concatenate([a * cosines - b * sines, b * cosines + a * sines], -1)
        return saturate(round_half_up(turned, self.shift), self.out_bits, True)
