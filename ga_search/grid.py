"""The points a fit is measured on, merged over all scales, and the prefix sums that price any segment at once.

A code q at scale s sits at position q * 2**(b - s) on the grid of step 2**-b, b being the largest scale. One table
serves all scales, so a fit is a weighted least-squares problem over the distinct positions, a few thousand at most.
"""

from dataclasses import dataclass, replace

import numpy as np

from ga_search.functions import Function
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.folding import fold

SYMMETRIC = 1e-9  # the halves of a symmetric function may differ by so much, by rounding in float64
MAX_VALUE = 1e30  # far beyond any coefficient; its square is finite
MAX_CODES_PER_SCALE = 1 << 16  # wider inputs are measured on every 2**(in_bits - 16)-th code


@dataclass(frozen=True)
class Codes:
    """The input codes: width, sign and scale exponents."""

    in_bits: int
    in_signed: bool
    scales: tuple[int, ...]

    @property
    def stride(self) -> int:
        """1, or above 16 bits the step between the codes that are measured."""
        return max(1, (1 << self.in_bits) // MAX_CODES_PER_SCALE)

    def all(self) -> np.ndarray:
        """The codes measured, ascending, int64."""
        low, high = code_range(self.in_bits, self.in_signed)
        return np.arange(low, high + 1, self.stride, dtype=np.int64)

    def x(self, scale: int) -> np.ndarray:
        """What the codes stand for at `scale`, float64."""
        return self.all() * 2.0**-scale


@dataclass(frozen=True)
class Grid:
    """M distinct points in ascending order with their weight in the objective (the weights sum to 1).

    `position` is int64 in units of 2**-frac_bits; `x`, `value` and `weight` are float64, shape (M,). `prefix` has
    shape (7, M + 1): sums of w, wx, wx^2, wf, wxf, wf^2 and 1 over the points before each boundary, counted outward
    from x = 0, where the points are dense and must not lose their digits to the tails.
    """

    frac_bits: int
    position: np.ndarray
    x: np.ndarray
    value: np.ndarray
    weight: np.ndarray
    prefix: np.ndarray

    @property
    def points(self) -> int:
        """M."""
        return len(self.position)

    def moments(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """The seven sums over points start..stop-1, shape (7, *start.shape)."""
        return self.prefix[:, stop] - self.prefix[:, start]


def code_weights(function: Function, codes: Codes, objective: str, histogram: np.ndarray | None) -> np.ndarray:
    """Weight of each code at each scale, shape (scales, codes); each scale sums to 1 / scales, or to 0 if unmeasured.

    `full` counts the codes of the natural domain, `inside` those of the fitted domain, `both` is the mean of the two,
    `weights` counts each code by
    `histogram`, shape (codes,) or (scales, codes), where the function is defined.
    Raises `InputError` if no code at any scale is left.
    """
    if objective == "both":
        return sum(code_weights(function, codes, one, None) for one in ("full", "inside")) / 2  # pyright: ignore[reportReturnType]
    rows = []
    for row, scale in enumerate(codes.scales):
        x = codes.x(scale)
        if objective == "inside":
            weight = function.inside(x).astype(np.float64)
        else:
            weight = function.defined(x).astype(np.float64)
        if objective == "weights":
            assert histogram is not None
            weight *= histogram[row] if histogram.ndim == 2 else histogram
        rows.append(weight)
    weights = np.array(rows)
    total = weights.sum(axis=1, keepdims=True)
    measured = int((total > 0).sum())
    if not measured:
        raise InputError(
            f"no code at scales {codes.scales[0]}..{codes.scales[-1]} has weight in the domain of {function.name}"
        )
    return np.divide(weights, total * measured, out=np.zeros_like(weights), where=total > 0)


def build_grid(
    function: Function,
    codes: Codes,
    objective: str = "full",
    histogram: np.ndarray | None = None,
    symmetry: str = "none",
) -> Grid:
    """Merge the weighted codes of all scales into a `Grid`, that of |x| where there is a symmetry.

    Raises `InputError` if f is not finite, or not symmetric on the codes.
    """
    weights = code_weights(function, codes, objective, histogram)
    b = max(codes.scales)
    positions, summed = [], []
    for scale, weight in zip(codes.scales, weights, strict=True):
        kept = weight > 0
        positions.append(codes.all()[kept] << (b - scale))
        summed.append(weight[kept])
    position, where = np.unique(np.concatenate(positions), return_inverse=True)
    weight = np.bincount(where, weights=np.concatenate(summed))
    x = position * 2.0**-b
    value = function.evaluate(x)
    if not (np.abs(value) < MAX_VALUE).all():
        worst = int(np.argmax(~(np.abs(value) < MAX_VALUE)))
        raise InputError(
            f"{function.name} must be below {MAX_VALUE:g} on all codes, not {value[worst]:g} at x = {x[worst]:g}"
        )
    if symmetry != "none":
        position, x, value, weight = _folded(function, symmetry, (position, x, value, weight))
    one = np.ones_like(x)
    terms = np.stack([*(weight * v for v in (one, x, x * x, value, x * value, value * value)), one])
    origin = int(np.searchsorted(position, 0))
    right = np.cumsum(terms[:, origin:], axis=1)
    left = -np.cumsum(terms[:, :origin][:, ::-1], axis=1)[:, ::-1]
    prefix = np.concatenate([left, np.zeros((7, 1)), right], axis=1)
    return Grid(b, position, x, value, weight, prefix)


def _folded(function: Function, symmetry: str, points: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Position, x, value and weight of |x|. Raises `InputError` if the halves contradict each other."""
    position, x, value, weight = points
    x, value = fold(symmetry, x, value)
    merged, first, where = np.unique(np.abs(position), return_index=True, return_inverse=True)
    apart = np.abs(value - value[first][where])
    if (apart > SYMMETRIC * (1.0 + np.abs(value))).any():
        raise InputError(
            f"symmetry must be one of {function.name}, which is not {symmetry} at x = {x[apart.argmax()]:g}"
        )
    return merged, x[first], value[first], np.bincount(where, weights=weight)


def measured_where_finite(function: Function, codes: Codes) -> Function:
    """A user's function is measured on all codes if it is finite on all, else inside its domain."""
    x = np.unique(np.concatenate([codes.x(scale) for scale in codes.scales]))
    with np.errstate(all="ignore"):
        finite = np.isfinite(function.evaluate(x)).all()
    return function if finite else replace(function, measured_inside=True)
