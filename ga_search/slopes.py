"""The slopes that a fit may choose: every integer of their width, or a list."""

from dataclasses import dataclass

import numpy as np

from sim.reference.code_format import CodeFormat
from sim.reference.two_powers import two_powers


@dataclass(frozen=True)
class FitFormat(CodeFormat):
    """The code format of a fit's tables, and the form of their slopes, of `sim.reference.two_powers.SLOPE_FORMS`."""

    slope_form: str = "any"


def slope_codes(numbers: CodeFormat) -> np.ndarray | None:
    """The slopes that are allowed, ascending, as float64; None if every one in range is."""
    if getattr(numbers, "slope_form", "any") == "any":
        return None
    return np.array(list(two_powers(numbers.coef_bits, *numbers.slope_range)), dtype=np.float64)


def nearest_slope(ideal: np.ndarray, numbers: CodeFormat) -> np.ndarray:
    """The allowed slope nearest to each of `ideal`, same shape."""
    codes = slope_codes(numbers)
    if codes is None:
        return np.clip(np.rint(ideal), *numbers.slope_range)
    above = np.clip(np.searchsorted(codes, ideal), 1, len(codes) - 1)
    return np.where(codes[above] - ideal < ideal - codes[above - 1], codes[above], codes[above - 1])
