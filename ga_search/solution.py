"""A fit's content before it becomes a table, and the step from one to the other."""

from dataclasses import dataclass

import numpy as np

from ga_search.coefficients import CoefficientGrid, parabola
from ga_search.grid import Grid
from sim.reference.code_format import CodeFormat


@dataclass(frozen=True)
class Solution:
    """N + 1 boundaries between grid points, and N integer pairs at one (λ, μ).

    Segment i serves points boundaries[i]..boundaries[i + 1] - 1 and may be empty. `error` is the objective's mean
    squared error by the moments; what is reported is measured on the finished table.
    """

    error: float
    slope_frac_bits: int
    intercept_frac_bits: int
    boundaries: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray


def with_coefficients(
    grid: Grid, boundaries: np.ndarray, pair: tuple[int, int], numbers: CodeFormat, reach: int = 4
) -> Solution:
    """The solution with the best integer coefficients for these boundaries at (λ, μ) = `pair`."""
    shape = parabola(grid.moments(boundaries[:-1], boundaries[1:]))
    error, slopes, intercepts = CoefficientGrid(*pair, numbers).best(shape, reach)
    return Solution(float(error.sum()), *pair, boundaries, slopes, intercepts)


def breakpoints(grid: Grid, boundaries: np.ndarray) -> np.ndarray:
    """The N - 1 breakpoints in units of 2**-frac_bits: each the first point of the segment on its right."""
    first = np.append(grid.position, grid.position[-1] + 1)
    return first[boundaries[1:-1]]


def filled(solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and intercepts, int64, in which an empty segment repeats a neighbour."""
    used = np.flatnonzero(np.diff(solution.boundaries) > 0)
    nearest = used[np.clip(np.searchsorted(used, np.arange(len(solution.slopes))), 0, len(used) - 1)]
    return solution.slopes[nearest].astype(np.int64), solution.intercepts[nearest].astype(np.int64)
