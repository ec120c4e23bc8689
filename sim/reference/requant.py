"""The requantiser: from an exact accumulator to a code, y = saturate(round(A * m * 2**-k) + z)."""

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range, exact_array, round_half_up, saturate

MULTIPLIER_BITS = 16
MAX_SHIFT = 47


def requantise(
    values: np.ndarray,
    multiplier: np.ndarray | int,
    shift: np.ndarray | int,
    zero_point: int = 0,
    out_bits: int = 8,
    out_signed: bool = True,
) -> np.ndarray:
    """Requantise accumulators: scale, round half up once, add the zero point, saturate.

    Parameters
    ----------
    values : ndarray
        A, integers of any size.
    multiplier, shift : ndarray or int
        m, unsigned 16 bits, and k, 0..47; they broadcast with `values`.
    zero_point : int
        z, added after rounding.
    out_bits, out_signed : int, bool
        The output code.

    Raises
    ------
    InputError
        A multiplier, a shift or the zero point is outside its range, or the values are not integers.
    """
    _require_integers("values", np.asarray(values))
    _require_all("multiplier", multiplier, 0, (1 << MULTIPLIER_BITS) - 1)
    _require_all("shift", shift, 0, MAX_SHIFT)
    require_range("zero_point", zero_point, *code_range(out_bits, out_signed))
    values, multiplier, shift = np.broadcast_arrays(np.asarray(values), np.asarray(multiplier), np.asarray(shift))
    if not values.size:
        return np.zeros(values.shape, dtype=np.int64)
    largest = max(abs(int(values.min())), abs(int(values.max())))
    bits = max(largest.bit_length() + MULTIPLIER_BITS, MAX_SHIFT) + 2  # the product or half a unit, their sum, the sign
    product = exact_array(values, bits) * exact_array(multiplier, bits)
    result = np.empty_like(product)
    for k in np.unique(shift):
        chosen = shift == k
        result[chosen] = round_half_up(product[chosen], int(k))
    return saturate(result + zero_point, out_bits, out_signed)


def _require_all(name: str, values: np.ndarray | int, low: int, high: int) -> None:
    array = np.asarray(values)
    _require_integers(name, array)
    for value in (array.min(), array.max()) if array.size else ():
        require_range(name, int(value), low, high)


def _require_integers(name: str, array: np.ndarray) -> None:
    integers = array.dtype.kind in "iu" or (
        array.dtype.kind == "O" and all(isinstance(value, int | np.integer) for value in array.flat)
    )
    if not integers:
        raise InputError(f"{name} must be integers, not {array.dtype}")
