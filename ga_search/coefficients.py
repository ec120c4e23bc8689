"""Least squares on the integer grid: the slope and intercept of segments from their moments, exactly priced."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ga_search.slopes import slope_codes
from sim.reference.code_format import CodeFormat


@dataclass(frozen=True)
class Parabola:
    """The weighted squared error of segments as a function of real slope k and intercept b.

    error(k, b) = residual + spread * (k - slope)^2 + weight * (b - (mean_f - k * mean_x))^2. All arrays share the
    moments' trailing shape; an empty segment has weight 0 and costs nothing.
    """

    weight: np.ndarray
    mean_x: np.ndarray
    mean_f: np.ndarray
    spread: np.ndarray
    slope: np.ndarray
    residual: np.ndarray

    def take(self, index: np.ndarray) -> "Parabola":
        """The same for a subset of the segments."""
        return Parabola(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def parabola(moments: np.ndarray) -> Parabola:
    """From moments of shape (7, ...): sums of w, wx, wx^2, wf, wxf, wf^2 and 1."""
    w, wx, wxx, wf, wxf, wff, count = moments
    safe = np.where(w > 0, w, 1.0)
    mean_x, mean_f = wx / safe, wf / safe
    spread = wxx - wx * mean_x
    single = (count <= 1) | (spread <= 0.0)  # what is left of a single point is rounding
    spread = np.where(single, 0.0, spread)
    covariance = np.where(single, 0.0, wxf - wx * mean_f)
    slope = covariance / np.where(single, 1.0, spread)
    residual = np.maximum(wff - wf * mean_f - slope * covariance, 0.0)
    return Parabola(w, mean_x, mean_f, spread, slope, residual)


class CoefficientGrid:
    """Slopes K * 2**-slope_frac_bits and intercepts B * 2**-intercept_frac_bits, K and B in the ranges of `numbers`.

    The fraction bits may be arrays that broadcast against the segments. Where the slopes are of a list
    (`ga_search.slopes`), `low` and `high` are the ends of its places, else of the slopes themselves.
    """

    def __init__(
        self, slope_frac_bits: int | np.ndarray, intercept_frac_bits: int | np.ndarray, numbers: CodeFormat
    ) -> None:
        self.slope_unit = np.ldexp(1.0, -np.asarray(slope_frac_bits))
        self.intercept_unit = np.ldexp(1.0, -np.asarray(intercept_frac_bits))
        self.intercept_scale = 1.0 / self.intercept_unit  # exact, and a product is faster than a quotient
        self.codes = slope_codes(numbers)
        self.low, self.high = numbers.slope_range if self.codes is None else (0, len(self.codes) - 1)
        self.least, self.most = numbers.intercept_range

    def best(self, shape: Parabola, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(error, K, B) over the 2 * reach slopes around the real optimum, clipped to the range."""
        slope, intercept, error = self._around(shape, reach)
        at = error.argmin(axis=-1)[..., None]
        return tuple(np.take_along_axis(a, at, -1)[..., 0] for a in (error, slope, intercept))  # pyright: ignore[reportReturnType]

    def price(self, shape: Parabola, reach: int) -> np.ndarray:
        """The least error over the 2 * reach integer slopes around the real optimum."""
        return self._around(shape, reach)[2].min(axis=-1)

    def below(self, ideal: np.ndarray) -> np.ndarray:
        """The place of the largest slope that is at most `ideal`, in units of `slope_unit`."""
        return np.floor(ideal) if self.codes is None else np.searchsorted(self.codes, ideal, side="right") - 1.0

    def slope(self, place: np.ndarray) -> np.ndarray:
        """The slopes at places between `low` and `high`."""
        return place if self.codes is None else self.codes[place.astype(np.int64)]

    def at(self, shape: Parabola, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, error) at integer slopes K; the error is a parabola in b, so B is its rounded, clipped minimum."""
        k = slope * self.slope_unit
        ideal = shape.mean_f - k * shape.mean_x
        intercept = np.rint(ideal * self.intercept_scale)
        np.minimum(np.maximum(intercept, self.least, out=intercept), self.most, out=intercept)
        error = intercept * self.intercept_unit
        error -= ideal
        error *= error  # in place from here on: this is where fits spend their time
        error *= shape.weight
        k -= shape.slope
        k *= k
        k *= shape.spread
        error += k
        error += shape.residual
        return intercept, error

    def take(self, index: Any) -> "CoefficientGrid":
        """The grid for a subset of the segments; shared fraction bits stay shared."""
        part = object.__new__(CoefficientGrid)
        part.slope_unit = self.slope_unit[index] if self.slope_unit.ndim else self.slope_unit
        part.intercept_unit = self.intercept_unit[index] if self.intercept_unit.ndim else self.intercept_unit
        part.intercept_scale = self.intercept_scale[index] if self.intercept_scale.ndim else self.intercept_scale
        for name in ("codes", "low", "high", "least", "most"):
            setattr(part, name, getattr(self, name))
        return part

    def _around(self, shape: Parabola, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K, B, error) with a trailing axis over the slopes."""
        wide = Parabola(*(getattr(shape, name)[..., None] for name in shape.__dataclass_fields__))
        grid = self.take(np.s_[..., None]) if self.slope_unit.ndim else self
        below = grid.below(wide.slope / grid.slope_unit)
        place = np.minimum(np.maximum(below + np.arange(1.0 - reach, 1.0 + reach), self.low), self.high)
        slope = self.slope(place)
        intercept, error = grid.at(wide, slope)
        return slope, intercept, error


def free_slope_limit(shape: Parabola, grid: CoefficientGrid) -> np.ndarray:
    """The spread below which another slope can pay: short segments leave theirs almost free.

    Moving the slope by n units costs spread * (n * slope_unit)^2 and can save at most weight * (intercept_unit / 2)^2,
    so it can pay only where n^2 * spread is at most what is returned here.
    """
    return 0.25 * shape.weight * (grid.intercept_unit / grid.slope_unit) ** 2


def price_segments(moments: np.ndarray, grid: CoefficientGrid, coef_bits: int) -> np.ndarray:
    """Least error of segments, shape (n,), from moments (7, n): two slopes for long segments, many for short ones.

    Up to 8 coefficient bits this is the true minimum but for segments of a few points, where it may miss by less than
    a 64th of the intercept unit.
    """
    shape = parabola(moments)
    price = grid.price(shape, 1)
    need = free_slope_limit(shape, grid)
    short = (need > shape.spread) & (shape.weight > 0)
    near = need <= 16 * shape.spread
    for index, reach in ((np.flatnonzero(short & near), 4), (np.flatnonzero(short & ~near), min(32, 1 << coef_bits))):
        if index.size:
            price[index] = grid.take(index).price(shape.take(index), reach)
    return price
