"""The proven optimum: dynamic programming over every segment, with bounds that keep only the segments that matter.

For given slope and intercept fraction bits (λ, μ) the best table with N entries is a shortest path with N edges over
the boundaries between grid points, an edge's length being the least squared error of one integer segment. Real-valued
segments bound integer ones from below and do not depend on (λ, μ), so the real-valued path lengths from both ends,
together with one table that is known to exist, discard nearly every segment before its integer coefficients are
searched; the coarser grids and the coefficient range discard most (λ, μ) in the same way.

Dynamic programming for piecewise-linear tables: NLI (2602.02988), HARA. The integer coefficients, the bounds and the
free (λ, μ) are ours.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ga_search.coefficients import CoefficientGrid, Parabola, parabola
from ga_search.grid import Grid
from ga_search.progress import Report, silent
from ga_search.slopes import nearest_slope
from ga_search.solution import Solution, with_coefficients
from sim.reference.code_format import CodeFormat
from sim.reference.pwl import frac_bits_pairs

# bounds are compared with this slack, relative to the error and to f squared, so that rounding in float64 never
# discards the optimum
SLACK, SLACK_OF_SQUARE = 1e-9, 1e-14
CERTIFICATE_WORK = 3e7  # prices of segments after which a certificate gives up; the defaults need up to 1e7


@dataclass
class _Segments:
    """Candidate segments sorted by their end, with empty ones so that every end has at least one."""

    start: np.ndarray
    stop: np.ndarray
    shape: Parabola
    first: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.first = np.flatnonzero(np.diff(self.stop, prepend=-1))

    def take(self, kept: np.ndarray) -> "_Segments":
        kept = kept | (self.start == self.stop)
        return _Segments(self.start[kept], self.stop[kept], self.shape.take(kept))

    def path_lengths(self, length: np.ndarray, entries: int) -> np.ndarray:
        """Shortest length from boundary 0 to every boundary with at most k segments, shape (entries + 1, M + 1)."""
        rows = [np.full(int(self.stop[-1]) + 1, np.inf)]
        rows[0][0] = 0.0
        for _ in range(entries):
            rows.append(np.minimum.reduceat(rows[-1][self.start] + length, self.first))
        return np.array(rows)


class TooMuchWork(Exception):
    """The search went over its bound on work."""


class OptimalSearch:
    """The optimum for `grid` with `entries` segments and coefficients of `numbers`, at any (λ, μ) or over all.

    One instance shares the real-valued bounds between all (λ, μ). Costs about (M^2) memory: meant for grids of up to
    a few thousand points, that is up to 8 input bits.
    """

    def __init__(self, grid: Grid, entries: int, numbers: CodeFormat, work: float = math.inf) -> None:
        self._work_left = self._work = work
        self._report, self._stage, self._spent = silent, "", 0
        self.grid, self.entries, self.numbers = grid, entries, numbers
        self.pairs = frac_bits_pairs(numbers)
        self._slack = SLACK_OF_SQUARE * float(grid.weight @ grid.value**2)
        residual = _dense_residual(grid)
        self._residual = residual
        self._forward = _dense_path_lengths(residual, entries)
        self._backward = _dense_path_lengths(residual[::-1, ::-1].T, entries)[:, ::-1]

    def at(self, slope_frac_bits: int, intercept_frac_bits: int, report: Report = silent) -> Solution:
        """The optimum at one (λ, μ)."""
        self._report, self._stage = report, f"λ, μ = {slope_frac_bits}, {intercept_frac_bits}"
        start = self._feasible([(slope_frac_bits, intercept_frac_bits)])
        if start.error <= self._slack:
            return start  # nothing can be provably better
        segments = self._survivors(start.error)
        solution = self._solve(segments, (slope_frac_bits, intercept_frac_bits), start)
        assert solution is not None
        return solution

    def best(self, known: Solution | None = None, report: Report = silent) -> Solution:
        """The optimum over all (λ, μ) with μ <= λ. `known`, any table's content, only speeds the search up."""
        self._report = report
        pairs = self.pairs
        best = self._feasible(pairs)
        if known is not None and known.error < best.error:
            best = known
        if best.error <= self._slack:
            return best  # nothing can be provably better
        segments = self._survivors(best.error)
        slope_bits, intercept_bits = (sorted(set(bits)) for bits in zip(*pairs, strict=True))
        by_slope = {bits: self._slope_bound(segments, bits) for bits in slope_bits}
        by_intercept = {bits: self._intercept_bound(segments, bits) for bits in intercept_bits}
        self._drop_above(by_slope, segments, best.error)
        self._drop_above(by_intercept, segments, best.error)
        bounds = {}
        for pair in pairs:
            if pair[0] in by_slope and pair[1] in by_intercept:
                length = np.maximum(by_slope[pair[0]], by_intercept[pair[1]])
                bounds[pair] = segments.path_lengths(length, self.entries)[-1, -1], length
        for number, pair in enumerate(sorted(bounds, key=lambda p: bounds[p][0]), 1):
            self._stage = f"λ, μ {number} of {len(bounds)}"
            bound, length = bounds[pair]
            if bound <= self._limit(best.error):
                best = self._solve(segments, pair, best, length) or best
        return best

    def _spend(self, prices: int) -> None:
        self._work_left -= prices
        self._spent += prices
        self._report(f"{self._stage}, {self._spent:.1e} prices of segments")
        if self._work_left < 0:
            raise TooMuchWork(f"the proof of the optimum needs more than {self._work:.0e} prices of segments")

    def _limit(self, error: float) -> float:
        return error * (1 + SLACK) + self._slack

    def _feasible(self, pairs: Iterable[tuple[int, int]]) -> Solution:
        """A table that exists: the real-valued optimum's boundaries with integer coefficients, at the best pair."""
        boundaries = _trace(self._forward, self._residual)
        solutions = [with_coefficients(self.grid, boundaries, pair, self.numbers) for pair in pairs]
        return min(solutions, key=lambda solution: solution.error)

    def _survivors(self, limit: float) -> _Segments:
        """The segments that can lie on a path no longer than `limit`, by the real-valued bounds."""
        start, stop = np.nonzero(np.triu(self._residual <= self._limit(limit)))
        length = self._residual[start, stop]
        shortest = np.full(len(start), np.inf)
        for k in range(self.entries):
            np.minimum(
                shortest, self._forward[k][start] + length + self._backward[self.entries - 1 - k][stop], out=shortest
            )
        kept = (shortest <= self._limit(limit)) | (start == stop)
        start, stop = start[kept], stop[kept]
        order = np.lexsort((start, stop))
        start, stop = start[order], stop[order]
        return _Segments(start, stop, parabola(self.grid.moments(start, stop)))

    def _slope_bound(self, segments: _Segments, frac_bits: int) -> np.ndarray:
        """Length of each segment with the slope on its grid and in range, the intercept real."""
        shape = segments.shape
        nearest = np.ldexp(nearest_slope(np.ldexp(shape.slope, frac_bits), self.numbers), -frac_bits)
        return shape.residual + shape.spread * (nearest - shape.slope) ** 2

    def _intercept_bound(self, segments: _Segments, frac_bits: int) -> np.ndarray:
        """Length of each segment with the intercept on its grid and in range, the slope real."""
        low, high = self.numbers.intercept_range
        shape = segments.shape
        ideal = shape.mean_f - shape.slope * shape.mean_x
        nearest = np.ldexp(np.clip(np.rint(np.ldexp(ideal, frac_bits)), low, high), -frac_bits)
        moment = shape.spread + shape.weight * shape.mean_x**2  # the sum of w x^2
        stiffness = np.divide(shape.weight * shape.spread, moment, out=np.zeros_like(moment), where=moment > 0)
        stiffness = np.where(moment > 0, stiffness, shape.weight)  # a single point at x = 0: only the intercept counts
        return shape.residual + stiffness * (nearest - ideal) ** 2

    def _drop_above(self, bounds: dict[int, np.ndarray], segments: _Segments, limit: float) -> None:
        for bits in list(bounds):
            if segments.path_lengths(bounds[bits], self.entries)[-1, -1] > self._limit(limit):
                del bounds[bits]

    def _solve(
        self,
        segments: _Segments,
        pair: tuple[int, int],
        known: Solution,
        bound: np.ndarray | None = None,
    ) -> Solution | None:
        """The optimum at one (λ, μ), or None if it is worse than `known`, a table that need not be at this pair."""
        slope_bits, intercept_bits = pair
        if bound is None:
            bound = np.maximum(self._slope_bound(segments, slope_bits), self._intercept_bound(segments, intercept_bits))
        segments = segments.take(self._on_short_path(segments, bound, known.error))
        grid = CoefficientGrid(slope_bits, intercept_bits, self.numbers)
        # the best table from few slopes a segment tightens the limit before every slope is searched
        self._spend(len(segments.start) * (self.entries + 4))
        error, _, _ = grid.best(segments.shape, 2)
        limit = min(known.error, segments.path_lengths(error, self.entries)[-1, -1])
        segments = segments.take(self._on_short_path(segments, self._slope_bound(segments, slope_bits), limit))
        error, slopes, intercepts = _every_slope(grid, segments.shape, self._spend)
        lengths = segments.path_lengths(error, self.entries)
        if lengths[-1, -1] > self._limit(known.error):
            return None
        chosen = []
        stop = self.grid.points
        for k in range(self.entries, 0, -1):
            begin = np.searchsorted(segments.stop, stop, side="left")
            end = np.searchsorted(segments.stop, stop, side="right")
            edge = begin + int(np.argmin(lengths[k - 1][segments.start[begin:end]] + error[begin:end]))
            chosen.append(edge)
            stop = int(segments.start[edge])
        edges = np.array(chosen[::-1])
        boundaries = np.concatenate([segments.start[edges], segments.stop[edges[-1:]]])
        return Solution(
            float(lengths[-1, -1]), slope_bits, intercept_bits, boundaries, slopes[edges], intercepts[edges]
        )

    def _on_short_path(self, segments: _Segments, bound: np.ndarray, limit: float) -> np.ndarray:
        """Which segments can lie on a path no longer than `limit` when each costs at least `bound`."""
        forward = segments.path_lengths(bound, self.entries)
        backward = _backward_lengths(segments, bound, self.entries)
        shortest = np.full(len(bound), np.inf)
        for k in range(self.entries):
            np.minimum(
                shortest,
                forward[k][segments.start] + bound + backward[self.entries - 1 - k][segments.stop],
                out=shortest,
            )
        return shortest <= self._limit(limit)


def _backward_lengths(segments: _Segments, length: np.ndarray, entries: int) -> np.ndarray:
    """Shortest length from every boundary to the last with at most k segments."""
    order = np.argsort(segments.start, kind="stable")
    start, stop, length = segments.start[order], segments.stop[order], length[order]
    first = np.flatnonzero(np.diff(start, prepend=-1))
    rows = [np.full(int(start[-1]) + 1, np.inf)]
    rows[0][-1] = 0.0
    for _ in range(entries):
        rows.append(np.minimum.reduceat(rows[-1][stop] + length, first))
    return np.array(rows)


def _dense_residual(grid: Grid) -> np.ndarray:
    """Real-valued error of the segment from boundary i to j, shape (M + 1, M + 1); 0 on the diagonal, inf below."""
    w, wx, wxx, wf, wxf, wff, count = (row[None, :] - row[:, None] for row in grid.prefix)
    w = np.where(w > 0, w, 1.0)
    mean_x, mean_f = wx / w, wf / w
    spread = wxx - wx * mean_x
    covariance = wxf - wx * mean_f
    lost = spread <= 0.0  # single points, or weights so uneven that rounding took all: free, to stay a bound
    spread[lost] = 1.0
    residual = np.maximum(wff - wf * mean_f - covariance * covariance / spread, 0.0)
    residual[lost | (count <= 1)] = 0.0
    residual[np.tri(len(residual), k=-1, dtype=bool)] = np.inf
    np.fill_diagonal(residual, 0.0)
    return residual


def _dense_path_lengths(length: np.ndarray, entries: int) -> np.ndarray:
    rows = [np.full(len(length), np.inf)]
    rows[0][0] = 0.0
    for _ in range(entries):
        rows.append((rows[-1][:, None] + length).min(axis=0))
    return np.array(rows)


def _trace(lengths: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The boundaries of a shortest path to the last boundary, shape (entries + 1,)."""
    path = [length.shape[1] - 1]
    for k in range(len(lengths) - 1, 0, -1):
        path.append(int(np.argmin(lengths[k - 1] + length[:, path[-1]])))
    return np.array(path[::-1])


def _every_slope(
    grid: CoefficientGrid, shape: Parabola, spend: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(error, K, B) over every allowed slope, stepping outward until the parabola alone exceeds the best found."""
    error, slopes, intercepts = grid.best(shape, 2)
    ideal = shape.slope / grid.slope_unit
    for direction in (-1, 1):
        below = grid.below(ideal)
        place = np.clip(below - 1 if direction < 0 else below + 2, grid.low, grid.high)
        active = np.arange(len(error))
        while active.size:
            k = grid.slope(place[active])
            outward = (k - ideal[active]) * direction > 0  # inside the range's end the parabola still falls
            bound = shape.residual[active] + shape.spread[active] * (k * grid.slope_unit - shape.slope[active]) ** 2
            active, k = (values[~(outward & (bound >= error[active]))] for values in (active, k))
            if not active.size:
                break
            spend(active.size)
            b, e = grid.at(shape.take(active), k)
            better = e < error[active]
            where = active[better]
            error[where], slopes[where], intercepts[where] = e[better], k[better], b[better]
            place[active] += direction
            active = active[(place[active] >= grid.low) & (place[active] <= grid.high)]
    return error, slopes, intercepts
