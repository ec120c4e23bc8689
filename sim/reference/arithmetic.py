"""Integer arithmetic of the hardware: round half up, then saturate. Nothing wraps around."""

import numpy as np

INT64_SAFE_BITS = 62  # above this the reference computes in Python integers (object arrays)


def code_range(bits: int, signed: bool) -> tuple[int, int]:
    """Smallest and largest code of a `bits`-wide two's complement (or unsigned) integer."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def holding(low: int, high: int) -> tuple[int, bool]:
    """(bits, signed) of the narrowest integer that holds `low` and `high`."""
    if low < 0:
        return max((~low).bit_length(), high.bit_length()) + 1, True
    return high.bit_length(), False


def exact_array(values: object, bits: int) -> np.ndarray:
    """`values` as int64 if `bits` fit with room to spare, else as an object array of Python integers."""
    array = np.asarray(values)
    if bits <= INT64_SAFE_BITS:
        return array.astype(np.int64)
    return np.array([int(v) for v in array.ravel()], dtype=object).reshape(array.shape)


def round_half_up(values: np.ndarray, shift: int) -> np.ndarray:
    """`floor(values / 2**shift + 1/2)`: add half, arithmetic shift right. `shift` must be >= 0."""
    if shift == 0:
        return values
    if shift >= INT64_SAFE_BITS:
        values = values.astype(object)
    return (values + (1 << (shift - 1))) >> shift


def saturate(values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Clamp to the code range of `bits` and return int64 codes."""
    low, high = code_range(bits, signed)
    return np.clip(values, low, high).astype(np.int64)
