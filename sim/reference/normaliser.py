"""The normaliser: 1/x and 1/sqrt(x) of any positive fixed-point number through one table on [lo, lo * 2**g)."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range, exact_array, saturate
from sim.reference.lowered_table import LoweredTable
from sim.reference.pwl import PwlTable

# f(x * 2**k) = f(x) * 2**(power * k), as (numerator, denominator)
POWERS = {"div": (-1, 1), "rsqrt": (-1, 2)}


@dataclass(frozen=True)
class Normaliser:
    """A table of 1/x or 1/sqrt(x), evaluated on integers v that stand for x = v * 2**-input_frac_bits.

    With g the table's `normaliser_step`, k is the one multiple of g for which x * 2**-k lies in [lo, lo * 2**g), the
    table's domain. Bits below the code are rounded half up and saturate at the domain's top code.

    Parameters
    ----------
    table : PwlTable
        Its domain spans g octaves from a power of two.
    scale : int
        The scale exponent of the code.
    input_bits, input_frac_bits, input_signed : int, int, bool
        The format of v.

    Raises
    ------
    InputError
        The table has no normaliser step, its domain is another one, or its top code does not fit.
    """

    table: PwlTable
    scale: int
    input_bits: int
    input_frac_bits: int
    input_signed: bool = True

    def __post_init__(self) -> None:
        table, step = self.table, self.table.normaliser_step
        if table.function not in POWERS:
            raise InputError(f"function must be one of {', '.join(POWERS)} for a normaliser, not {table.function!r}")
        table.code_format.require_unfolded("a normaliser")
        if step is None:
            raise InputError("normaliser_step must be an integer for a normaliser, not null")
        if step % POWERS[table.function][1]:
            raise InputError(f"normaliser_step must be even for {table.function}, not {step}")
        low, high = table.domain
        if low <= 0 or math.frexp(low)[0] != 0.5 or high != low * 2**step:
            raise InputError(f"domain must be [2^e, 2^(e+{step})) for normaliser_step {step}, not {list(table.domain)}")
        require_range("input_bits", self.input_bits, 2, INT64_SAFE_BITS)
        if not 0 < high * 2**self.scale - 1 <= table.code_format.in_range[1]:
            raise InputError(f"scale {self.scale} puts the domain's top {high:g} outside the {table.in_bits}-bit codes")
        if low * 2**self.scale < 1:
            raise InputError(f"scale {self.scale} has no code for the domain's bottom {low:g}")

    @property
    def top_code(self) -> int:
        """The largest code inside the half-open domain."""
        return int(self.table.domain[1] * 2**self.scale) - 1

    @cached_property
    def lowered(self) -> LoweredTable:
        """The table at `scale`, accumulator output."""
        return self.table.lower(self.scale)

    def normalise(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(code, k) for each v > 0, int64, same shape; v <= 0 gives the top code and the k of v = 1."""
        v = np.asarray(v, dtype=np.int64)
        low, high = code_range(self.input_bits, self.input_signed)
        if v.size and not (low <= v.min() and v.max() <= high):
            raise InputError(f"inputs must be in {low}..{high}, not {v.min()}..{v.max()}")
        step = self.table.normaliser_step or 1
        positive = np.maximum(v, 1)
        msb = np.frexp(positive.astype(np.float64))[1].astype(np.int64) - 1
        msb -= positive >> msb == 0  # above 53 bits the conversion may have rounded up to the next power of two
        bottom = math.frexp(self.table.domain[0])[1] - 1
        k = (msb - self.input_frac_bits - bottom) // step * step
        left = self.scale - self.input_frac_bits - k  # code = v * 2**left
        right = np.maximum(-left, 0)
        half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0)
        code = np.where(left >= 0, positive << np.maximum(left, 0), (positive + half) >> right)
        code = np.minimum(code, self.top_code)
        return np.where(v > 0, code, self.top_code), k

    def evaluate(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(acc, exponent), int64: f(x) is acc * 2**(exponent - slope_frac_bits - scale).

        v <= 0 gives the largest value of both.
        """
        v = np.asarray(v, dtype=np.int64)
        code, k = self.normalise(v)
        numerator, denominator = POWERS[self.table.function]
        acc = self.lowered.accumulate(code)
        largest = (1 << (self.lowered.acc_bits - 1)) - 1
        return np.where(v > 0, acc, largest), k * numerator // denominator

    def output(self, v: np.ndarray, output_scale: int, out_bits: int, out_signed: bool = True) -> np.ndarray:
        """saturate(round_half_up(f(x) * 2**output_scale)), rounded once; v <= 0 saturates."""
        v = np.asarray(v, dtype=np.int64)
        acc, exponent = self.evaluate(v)
        left = np.asarray(exponent + output_scale - self.table.slope_frac_bits - self.scale).astype(object)
        acc = exact_array(acc, 64)  # shifts have no bound here, so Python integers
        shifted = np.where(left >= 0, acc << np.maximum(left, 0), (acc + _half(left)) >> np.maximum(-left, 0))
        return np.where(v > 0, saturate(shifted, out_bits, out_signed), code_range(out_bits, out_signed)[1])


def _half(left: np.ndarray) -> np.ndarray:
    """Half a unit of the result for each right shift by -left; 0 for a left shift."""
    return np.where(left < 0, (1 << np.maximum(-left, 1)) >> 1, 0)
