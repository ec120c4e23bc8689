"""Piecewise-linear functions with real numbers, as the baselines fit them, and their conversion to integers."""

from dataclasses import dataclass

import numpy as np

from sim.reference.arithmetic import code_range
from sim.reference.pwl import frac_bits_range


@dataclass(frozen=True)
class RealTable:
    """N - 1 sorted breakpoints, N slopes and N intercepts, float64."""

    breakpoints: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray


def nearest(values: np.ndarray, frac_bits: int, bits: int) -> np.ndarray:
    """Integers nearest to values * 2**frac_bits, saturated to signed `bits`."""
    low, high = code_range(bits, True)
    return np.clip(np.rint(values * 2.0**frac_bits), low, high).astype(np.int64)


def finest_fit(values: np.ndarray, in_bits: int, coef_bits: int, limit: int) -> int:
    """The most fraction bits, at most `limit`, at which every value fits `coef_bits`; else the fewest there are."""
    low, high = frac_bits_range(in_bits, coef_bits)
    smallest, largest = code_range(coef_bits, True)
    for bits in range(min(high, limit), low, -1):
        integers = np.rint(values * 2.0**bits)
        if smallest <= integers.min() and integers.max() <= largest:
            return bits
    return low


def nearest_breakpoints(table: RealTable, frac_bits: int, in_bits: int, in_signed: bool) -> np.ndarray:
    """Breakpoints rounded to the nearest multiple of 2**-frac_bits, within the range of the file format; int64."""
    limit = float(1 << (in_bits - in_signed + frac_bits))
    return np.clip(np.floor(table.breakpoints * 2.0**frac_bits + 0.5), -limit, limit).astype(np.int64)
