"""The baseline of equal segments: breakpoints evenly spaced over the domain, integer least squares in each."""

import numpy as np

from ga_search.coefficients import CoefficientGrid, parabola
from ga_search.grid import Grid
from ga_search.solution import Solution, with_coefficients
from sim.reference.code_format import CodeFormat


def uniform(grid: Grid, entries: int, domain: tuple[float, float], numbers: CodeFormat, pairs: np.ndarray) -> Solution:
    """Equal segments at the best of the (λ, μ) in `pairs`, shape (n, 2)."""
    inner = np.linspace(*domain, entries + 1)[1:-1]
    boundaries = np.concatenate([[0], np.searchsorted(grid.x, inner), [grid.points]])
    shape = parabola(grid.moments(boundaries[None, :-1], boundaries[None, 1:]))
    error = CoefficientGrid(pairs[:, :1], pairs[:, 1:], numbers).price(shape, 4).sum(axis=-1)
    best = pairs[int(error.argmin())]
    return with_coefficients(grid, boundaries, (int(best[0]), int(best[1])), numbers, 4)
