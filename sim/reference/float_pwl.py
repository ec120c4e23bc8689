"""The floating-point piecewise-linear unit: its table and what the hardware computes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference import floating
from sim.reference.floating import FloatFormat
from sim.reference.pwl import ENTRIES_RANGE, PwlTable


@dataclass(frozen=True)
class FloatTable:
    """A piecewise-linear table in floating point, as the bit patterns that the hardware stores.

    Parameters
    ----------
    format : FloatFormat
        The format of all patterns.
    thresholds : tuple of int
        N-1 patterns, sorted as numbers.
    slopes, intercepts : tuple of int
        N patterns each.

    Raises
    ------
    InputError
        A list has the wrong length, a pattern is wider than the format, or the thresholds are not sorted or hold a NaN.
    """

    format: FloatFormat
    thresholds: tuple[int, ...]
    slopes: tuple[int, ...]
    intercepts: tuple[int, ...]

    STORED = ("thresholds", "slopes", "intercepts")

    def __post_init__(self) -> None:
        require_range("entries", self.entries, *ENTRIES_RANGE)
        for name, length in (("thresholds", self.entries - 1), ("intercepts", self.entries)):
            if len(getattr(self, name)) != length:
                raise InputError(f"{name} must have {length} patterns, not {len(getattr(self, name))}")
        for name in self.STORED:
            for k, pattern in enumerate(getattr(self, name)):
                require_range(f"{name}[{k}]", pattern, 0, (1 << self.format.bits) - 1)
        if floating.decode(self.format, self.thresholds).nan.any():
            raise InputError("thresholds must not be NaN")
        if (np.diff(floating.order(self.format, self.thresholds)) < 0).any():
            raise InputError(f"thresholds must be sorted, not {self.values('thresholds').tolist()}")

    @property
    def entries(self) -> int:
        """N."""
        return len(self.slopes)

    @classmethod
    def of(cls, number: FloatFormat, breakpoints: Any, slopes: Any, intercepts: Any) -> "FloatTable":
        """The table of real coefficients, each rounded to the nearest number of the format, ties to even."""
        lists = (floating.encode(number, values).tolist() for values in (breakpoints, slopes, intercepts))
        return cls(number, *map(tuple, lists))

    @classmethod
    def of_table(cls, number: FloatFormat, table: PwlTable) -> "FloatTable":
        """An integer table's real coefficients, each rounded to the nearest number of the format."""
        table.code_format.require_unfolded("a floating-point unit")
        units = (table.bp_frac_bits, table.slope_frac_bits, table.intercept_frac_bits)
        lists = (table.breakpoints, table.slopes, table.intercepts)
        return cls.of(number, *(np.ldexp(np.asarray(v, float), -u) for v, u in zip(lists, units, strict=True)))

    def values(self, name: str) -> np.ndarray:
        """The list called `name` as real numbers (float64)."""
        return floating.value(self.format, getattr(self, name))

    def segment(self, x: np.ndarray) -> np.ndarray:
        """The entry i = #{j : x >= thresholds[j]} of each pattern, 0 for NaN; same shape as `x`."""
        keys = floating.order(self.format, self.thresholds)
        return np.searchsorted(keys, floating.order(self.format, x), side="right")

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """slopes[i] * x + intercepts[i] as patterns, product and sum each rounded; same shape as `x`."""
        i = self.segment(x)
        slopes, intercepts = (np.asarray(values, dtype=np.int64)[i] for values in (self.slopes, self.intercepts))
        return floating.add(self.format, floating.multiply(self.format, slopes, x), intercepts)

    def stored(self) -> dict[str, tuple[int, ...]]:
        """What the hardware stores, by name."""
        return {name: getattr(self, name) for name in self.STORED}
