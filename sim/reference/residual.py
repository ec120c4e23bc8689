"""The residual addition: two codes at two scales, added to a code at a third scale with one rounding."""

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range, exact_array, round_half_up, saturate
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS

STREAM_BITS = 16  # the residual stream is signed


def add_scaled(a: np.ndarray, b: np.ndarray, multipliers: tuple[int, int], shift: int) -> np.ndarray:
    """saturate16(round_half_up((a * m_a + b * m_b) * 2**-shift)).

    Parameters
    ----------
    a, b : ndarray
        Signed 16-bit codes of one shape.
    multipliers : tuple of int
        (m_a, m_b), unsigned 16 bits.
    shift : int
        0..47. The sum has 33 bits, with half a unit of the result at most 49.

    Raises
    ------
    InputError
        A multiplier, the shift or a code is outside its range.
    """
    for multiplier in multipliers:
        require_range("multiplier", multiplier, 0, (1 << MULTIPLIER_BITS) - 1)
    require_range("shift", shift, 0, MAX_SHIFT)
    for name, values in (("a", a), ("b", b)):
        low, high = code_range(STREAM_BITS, True)
        if values.dtype.kind not in "iu":
            raise InputError(f"{name} must be integers, not {values.dtype}")
        if values.size and not (low <= values.min() and values.max() <= high):
            raise InputError(f"{name} must be in {low}..{high}, not {values.min()}..{values.max()}")
    total = exact_array(a, MAX_SHIFT + 2) * multipliers[0] + exact_array(b, MAX_SHIFT + 2) * multipliers[1]
    return saturate(round_half_up(total, shift), STREAM_BITS, True)
