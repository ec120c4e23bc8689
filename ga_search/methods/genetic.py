"""The genetic search of GQA-LUT (2403.19591) with a quantization-aware fitness.

A chromosome is N - 1 cuts between grid points; its fitness is the exact mean squared error of the integer table over
all scales, the coefficients being least squares on the integer grid. Each (λ, μ) that may pay is an island of its own;
islands that fall behind are dropped, neighbours of the best are tried, and the cuts of the rest are pooled for a last
round. What differs from the
paper, beside the fitness:

- breakpoint descent: after crossover and mutation every cut in turn moves to the best of a few places between its
  neighbours, odd and even cuts alternately;
- relocation: one of the mutations drops the cut that helps least and splits the segment that costs most.

The paper's rounding mutation stays: a cut moves to the nearest multiple of 2**-m, m drawn from 0..frac_bits. Nothing
here reads a result of the dynamic programme.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ga_search.coefficients import CoefficientGrid, parabola, price_segments
from ga_search.grid import Grid
from ga_search.progress import Report, silent
from ga_search.solution import Solution, with_coefficients
from sim.reference.code_format import CodeFormat
from sim.reference.pwl import frac_bits_pairs

CACHE_SLOTS = 1 << 24  # prices that are kept, 16 bytes each
SMALL = 1 << 26  # segments at all (λ, μ), up to which a segment without error costs LEAST_PRICE instead of 0:
LEAST_PRICE = 5e-324  # the noise of `_relocate` then chooses among cuts that do not help, instead of the first


@dataclass(frozen=True)
class GeneticConfig:
    """Sizes and rates; sizes and generations grow with the entries.

    `rounds` are (generations per entry, ratio): islands worse than ratio times the best are then dropped.
    """

    island: int = 6  # chromosomes of an island, plus one per four entries
    final: int = 8  # chromosomes of the last round, plus one per entry
    rounds: tuple[tuple[float, float], ...] = ((0.25, 32.0), (0.375, 16.0), (0.625, 6.0), (0.875, 2.0))
    final_generations: float = 2.5  # per entry
    patience: int = 4  # generations without any progress that end a round, plus one per two entries
    crossover: float = 0.7
    mutations: float = 1.5  # cuts mutated per chromosome, on average
    relocation: float = 0.5
    tournament: int = 3


class SegmentPrices:
    """Least error of integer segments at several (λ, μ), computed when first needed and then cached.

    The cache is direct-mapped: a segment has one slot, and a later segment of the same slot replaces it. Small grids
    fit whole. On large grids the segments of neighbouring cuts are near each other, so that few are replaced.
    """

    def __init__(self, grid: Grid, pairs: np.ndarray, numbers: CodeFormat) -> None:
        self.grid, self.pairs, self.numbers = grid, pairs, numbers
        self._stride = grid.points + 1
        self._keys = np.zeros(CACHE_SLOTS, dtype=np.int64)  # of the segment in each slot, plus 1; 0: empty
        self._prices = np.empty(CACHE_SLOTS)

    def add(self, pairs: np.ndarray) -> np.ndarray:
        """Append more (λ, μ), shape (n, 2); returns their indices."""
        new = np.arange(len(self.pairs), len(self.pairs) + len(pairs))
        self.pairs = np.concatenate([self.pairs, pairs])
        return new

    def of(self, start: np.ndarray, stop: np.ndarray, pair: np.ndarray) -> np.ndarray:
        """Price of the segments start..stop-1; `pair` indexes the (λ, μ) of each along the first axis."""
        pair = pair.reshape((-1,) + (1,) * (start.ndim - 1))
        key = (pair * self._stride + start) * self._stride + stop + 1
        slot = key % CACHE_SLOTS
        price = self._prices[slot]
        unknown = self._keys[slot] != key
        if unknown.any():
            new, where = np.unique(key[unknown], return_inverse=True)
            rest, new_stop = np.divmod(new - 1, self._stride)
            new_pair, new_start = np.divmod(rest, self._stride)
            new_price = self._compute(new_start, new_stop, new_pair)
            price[unknown] = new_price[where]
            slot = new % CACHE_SLOTS
            self._keys[slot], self._prices[slot] = new, new_price
        small = len(self.pairs) * self._stride**2 <= SMALL
        return np.maximum(price, LEAST_PRICE, out=price) if small else price

    def _compute(self, start: np.ndarray, stop: np.ndarray, pair: np.ndarray) -> np.ndarray:
        coefficients = CoefficientGrid(self.pairs[pair, 0], self.pairs[pair, 1], self.numbers)
        return price_segments(self.grid.moments(start, stop), coefficients, self.numbers.coef_bits)


class GeneticSearch:
    """One fit, seeded; `candidates` (sorted boundaries of the grid, both ends among them) restricts the cuts."""

    def __init__(
        self,
        grid: Grid,
        entries: int,
        numbers: CodeFormat,
        seed: int,
        candidates: np.ndarray | None = None,
        config: GeneticConfig | None = None,
    ) -> None:
        self.grid, self.entries, self.numbers = grid, entries, numbers
        self.config = config or GeneticConfig()
        self.rng = np.random.default_rng(seed)
        self._report, self._round = silent, ""
        # cuts are indices into `places`, which are boundaries of the grid
        self.places = np.arange(grid.points + 1) if candidates is None else candidates
        self.last = len(self.places) - 1
        steps = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233]
        reach = max(3 * self.last // entries, 3)
        self.moves = np.array([0] + [sign * step for step in steps if step <= reach for sign in (1, -1)])

    def run(self, pair: tuple[int, int] | None = None, report: Report = silent) -> Solution:
        """The best solution found, at (λ, μ) = `pair` or over all."""
        config = self.config
        self._report = report
        if self.last <= self.entries:  # each point may have a segment of its own: no breakpoints are left to search
            cuts = np.minimum(np.arange(1, self.entries), self.last)
            tried = self._every_pair().tolist() if pair is None else [pair]
            return min((self._solution(cuts, p) for p in tried), key=lambda solution: solution.error)
        pairs = self._first_pairs() if pair is None else np.array([pair])
        prices = SegmentPrices(self._place_grid(), pairs, self.numbers)
        alive = np.arange(len(pairs))
        cuts = self._random_cuts((len(pairs), config.island + self.entries // 4))
        cuts[:, 0] = np.linspace(0, self.last, self.entries + 1)[1:-1].astype(np.int64)
        for number, (generations, ratio) in enumerate(config.rounds, 1):
            self._round = f"round {number} of {len(config.rounds) + 1}"
            cuts, error = self._evolve(prices, cuts, alive, math.ceil(generations * self.entries))
            kept = np.flatnonzero(error[:, 0] <= ratio * error[:, 0].min())
            best = cuts[error[:, 0].argmin()]
            cuts, alive = cuts[kept], alive[kept]
            if pair is None:
                new = prices.add(self._neighbours(prices.pairs, int(alive[error[kept, 0].argmin()])))
                cuts = np.concatenate([cuts, np.broadcast_to(best, (len(new), *best.shape))])
                alive = np.concatenate([alive, new])
        self._round = "last round"
        while True:
            cuts, error = self._final(prices, cuts, alive)
            winner = int(error[:, 0].argmin())
            new = (
                prices.add(self._neighbours(prices.pairs, int(alive[winner])))
                if pair is None
                else np.empty(0, dtype=int)
            )
            if not new.size:
                break
            alive = np.append(new, alive[winner])
        return self._solution(cuts[winner, 0], prices.pairs[alive[winner]])

    def _solution(self, cuts: np.ndarray, pair: Sequence[int] | np.ndarray) -> Solution:
        """The cuts with their best coefficients."""
        ends = self.places[self._ends(cuts)]
        return with_coefficients(self.grid, ends, (int(pair[0]), int(pair[1])), self.numbers, 128)

    def _final(self, prices: SegmentPrices, cuts: np.ndarray, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The last round: every island that is alive starts from the best cuts of all, and a few fresh ones."""
        pool = cuts.reshape(1, -1, self.entries - 1)
        pool = np.broadcast_to(pool, (len(alive), *pool.shape[1:]))
        order = np.argsort(self._total(prices, pool, alive), axis=1, kind="stable")
        size = self.config.final + self.entries
        best = np.take_along_axis(pool, order[:, : size * 3 // 4, None], 1)
        fresh = self._random_cuts((len(alive), size - best.shape[1]))
        generations = math.ceil(self.config.final_generations * self.entries)
        return self._evolve(prices, np.concatenate([best, fresh], axis=1), alive, generations)

    def _place_grid(self) -> Grid:
        """The grid seen through the candidate cuts: its prefix sums at the places only."""
        grid = self.grid
        if len(self.places) == grid.points + 1:
            return grid
        points = self.places[:-1]
        return Grid(
            grid.frac_bits, grid.position[points], grid.x[points], grid.value[points], grid.weight[points],
            grid.prefix[:, self.places],
        )  # fmt: skip

    def _first_pairs(self) -> np.ndarray:
        """The (λ, μ) around the best of random chromosomes, shape (pairs, 2)."""
        every = self._every_pair()
        ends = self.places[self._ends(self._random_cuts((12,)))]
        shape = parabola(self.grid.moments(ends[:, None, :-1], ends[:, None, 1:]))
        error = CoefficientGrid(every[None, :, :1], every[None, :, 1:], self.numbers).price(shape, 1).sum(axis=-1)
        slope, intercept = (int(v) for v in np.median(every[error.argmin(axis=1)], axis=0))
        near = (every >= (slope - 1, intercept - 1)) & (every <= (slope + 2, intercept + 2))
        return every[near.all(axis=1)]

    def _every_pair(self) -> np.ndarray:
        return np.array(frac_bits_pairs(self.numbers))

    def _neighbours(self, tried: np.ndarray, best: int) -> np.ndarray:
        """The (λ, μ) next to the best that have not been tried yet."""
        every = self._every_pair()
        near = every[(np.abs(every - tried[best]) <= 1).all(axis=1)]
        return near[~(near[:, None] == tried).all(axis=2).any(axis=1)]

    def _random_cuts(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.sort(self.rng.integers(0, self.last + 1, (*shape, self.entries - 1)), axis=-1)

    def _ends(self, cuts: np.ndarray) -> np.ndarray:
        """Cuts with the two ends of the grid, shape (..., entries + 1)."""
        edge = np.zeros((*cuts.shape[:-1], 1), dtype=cuts.dtype)
        return np.concatenate([edge, cuts, edge + self.last], axis=-1)

    def _total(self, prices: SegmentPrices, cuts: np.ndarray, alive: np.ndarray) -> np.ndarray:
        ends = self._ends(cuts)
        return prices.of(ends[..., :-1], ends[..., 1:], alive).sum(axis=-1)

    def _evolve(
        self, prices: SegmentPrices, cuts: np.ndarray, alive: np.ndarray, generations: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(cuts, error) after `generations`, each island sorted best first; shapes (islands, chromosomes, ...)."""
        rng, size = self.rng, cuts.shape[1]
        cuts = self._descend(prices, cuts, alive)
        cuts, error = _best_first(cuts, self._total(prices, cuts, alive), size)
        island, stalled = np.arange(len(cuts))[:, None], 0
        for generation in range(generations):
            self._report(f"{self._round}, generation {generation + 1} of {generations}")
            # the islands are sorted, so the winner of a tournament is the smallest index
            parents = rng.integers(0, size, (len(cuts), 2 * size, self.config.tournament)).min(axis=-1)
            child = self._cross(cuts[island, parents[:, :size]], cuts[island, parents[:, size:]])
            relocated = rng.random((*child.shape[:2], 1)) < self.config.relocation
            child = np.where(relocated, self._relocate(prices, child, alive), self._mutate(child))
            child = self._descend(prices, child, alive)
            before = error.min()
            cuts, error = _best_first(
                np.concatenate([cuts, child], axis=1),
                np.concatenate([error, self._total(prices, child, alive)], axis=1),
                size,
            )
            stalled = 0 if error.min() < before else stalled + 1
            if stalled >= self.config.patience + self.entries // 2:
                break
        return cuts, error

    def _cross(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Two-point crossover."""
        ends = np.sort(self.rng.integers(0, self.entries, (*one.shape[:2], 2)), axis=-1)
        column = np.arange(self.entries - 1)
        crossed = self.rng.random((*one.shape[:2], 1)) < self.config.crossover
        taken = (column >= ends[..., :1]) & (column < ends[..., 1:]) & crossed
        return np.sort(np.where(taken, other, one), axis=-1)

    def _mutate(self, cuts: np.ndarray) -> np.ndarray:
        """Some cuts jump anywhere, step nearby or round to a coarser grid (the paper's rounding mutation)."""
        rng, shape = self.rng, cuts.shape
        jump = rng.integers(0, self.last + 1, shape)
        step = cuts + np.rint(rng.normal(0.0, self.last / 30, shape)).astype(np.int64)
        position = self.grid.position[np.minimum(self.places[cuts], self.grid.points - 1)]
        coarse = rng.integers(0, self.grid.frac_bits + 1, shape)  # bits that the rounding drops
        rounded = ((position + ((1 << coarse) >> 1)) >> coarse) << coarse
        rounded = np.searchsorted(self.places, np.searchsorted(self.grid.position, rounded))
        kind = rng.random(shape)
        mutant = np.where(kind < 0.4, jump, np.where(kind < 0.8, step, rounded))
        mutated = rng.random(shape) < self.config.mutations / (self.entries - 1)
        return np.sort(np.clip(np.where(mutated, mutant, cuts), 0, self.last), axis=-1)

    def _relocate(self, prices: SegmentPrices, cuts: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Drop the cut that helps least and put it into the segment that costs most, both weighed with noise."""
        ends = self._ends(cuts)
        price = prices.of(ends[..., :-1], ends[..., 1:], alive)
        help_ = prices.of(ends[..., :-2], ends[..., 2:], alive) - price[..., 1:] - price[..., :-1]
        dropped = (help_ * self.rng.exponential(size=help_.shape)).argmin(axis=-1)[..., None]
        wide = np.diff(ends, axis=-1)
        split = (price * (wide > 1) * self.rng.exponential(size=price.shape)).argmax(axis=-1)[..., None]
        width = np.take_along_axis(wide, split, -1)
        place = np.take_along_axis(ends, split, -1) + 1
        place = place + (self.rng.random(place.shape) * np.maximum(width - 1, 0)).astype(np.int64)
        moved = cuts.copy()
        np.put_along_axis(moved, dropped, np.minimum(place, self.last), -1)
        return np.sort(moved, axis=-1)

    def _descend(self, prices: SegmentPrices, cuts: np.ndarray, alive: np.ndarray) -> np.ndarray:
        """Breakpoint descent: odd cuts to their best place between fixed neighbours, then the even ones."""
        ends = self._ends(cuts)
        for first in (1, 2):
            inner = np.arange(first, self.entries, 2)
            if not inner.size:
                continue
            left, right = ends[..., inner - 1, None], ends[..., inner + 1, None]
            place = np.minimum(np.maximum(ends[..., inner, None] + self.moves, left), right)
            left, right = np.broadcast_to(left, place.shape), np.broadcast_to(right, place.shape)
            price = prices.of(np.stack([left, place], -1), np.stack([place, right], -1), alive).sum(axis=-1)
            ends[..., inner] = np.take_along_axis(place, price.argmin(axis=-1)[..., None], -1)[..., 0]
        return ends[..., 1:-1]


def _best_first(cuts: np.ndarray, error: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The best `size` chromosomes of each island in order, equals (by error) last so that they do not crowd it."""
    order = np.argsort(error, axis=1, kind="stable")
    ordered = np.take_along_axis(error, order, 1)
    repeated = np.diff(ordered, axis=1, prepend=-1.0) == 0
    order = np.take_along_axis(order, np.argsort(repeated, axis=1, kind="stable"), 1)[:, :size]
    return np.take_along_axis(cuts, order[..., None], 1), np.take_along_axis(error, order, 1)
