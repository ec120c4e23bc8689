"""GQA-LUT's own recipe, after the paper (2403.19591): the baseline, not our default.

Breakpoints are real numbers; segments are secants of the function between them; coefficients are rounded to 2**-6; the
fitness is the mean squared error on a grid of step 0.01 over the domain, so quantised inputs are only felt through
the rounding mutation: each breakpoint is rounded to 2**-m, for each m of [ma, mb] with probability θr.

Where it deviates from the released trainer: the Gaussian step is a 20th of the domain wide and taken by every other
breakpoint of a mutated chromosome, [ma, mb] is 0..6 for all functions that round, the outer secants of functions that
do not go on end at the domain's ends, and the best chromosome always survives.
"""

import numpy as np

from ga_search.functions import FUNCTIONS, Function
from ga_search.real_table import RealTable

POPULATION, CROSSOVER, MUTATION, TOURNAMENT, GENERATIONS = 50, 0.7, 0.2, 3, 500
ROUNDING, ROUNDING_BITS = 0.05, (0, 6)  # θr and [ma, mb] for GELU, HSWISH and EXP
COEFFICIENT_BITS = 6
GRID_STEP, MAX_GRID = 0.01, 1 << 14  # a wider domain has a coarser grid
FAR = 1e4  # where the outer secants end for functions that go on beyond the domain


def gqa_lut(function: Function, entries: int, seed: int, generations: int = GENERATIONS) -> RealTable:
    """The best of the last generation; coefficients not yet rounded."""
    rng = np.random.default_rng(seed)
    low, high = function.domain
    # a function of the user's may grow in any way beyond its domain, so only those of `FUNCTIONS` have far secants
    goes_on = function.name in FUNCTIONS and not function.measured_inside and function.natural == (-np.inf, np.inf)
    ends = (-FAR, FAR) if goes_on else (low, high)
    # the paper rounds no breakpoints of DIV and RSQRT
    rounding = not function.normalised
    step = max(GRID_STEP, (high - low) / MAX_GRID)
    x = np.arange(low, high + (0 if function.half_open else step / 2), step)
    y = function.evaluate(x)
    population = np.sort(rng.uniform(low, high, (POPULATION, entries - 1)), axis=1)
    error = _fitness(function, ends, population, x, y)
    for _ in range(generations):
        drawn = rng.integers(0, POPULATION, (POPULATION, TOURNAMENT))
        parents = population[drawn[np.arange(POPULATION), error[drawn].argmin(axis=1)]]
        child = _cross(rng, parents)
        child = np.sort(np.clip(_mutate(rng, child, rounding, high - low), low, high), axis=1)
        child_error = _fitness(function, ends, child, x, y)
        best = int(error.argmin())  # the best survives
        worst = int(child_error.argmax())
        child[worst], child_error[worst] = population[best], error[best]
        population, error = child, child_error
    return secants(function, ends, population[int(error.argmin())])


def secants(function: Function, ends: tuple[float, float], points: np.ndarray) -> RealTable:
    """Segments through the function's values at the breakpoints and at the two ends."""
    slopes, intercepts = _secants(function, ends, points[None])
    return RealTable(points, slopes[0], intercepts[0])


def _secants(function: Function, ends: tuple[float, float], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(slopes, intercepts), shape (population, entries)."""
    edge = np.ones((len(points), 1))
    x = np.concatenate([edge * ends[0], points, edge * ends[1]], axis=1)
    with np.errstate(all="ignore"):
        y = function.evaluate(x)
    run = np.diff(x, axis=1)
    slopes = np.divide(np.diff(y, axis=1), run, out=np.zeros_like(run), where=run > 0)
    return slopes, y[:, :-1] - slopes * x[:, :-1]


def _fitness(
    function: Function, ends: tuple[float, float], points: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    unit = 2.0**COEFFICIENT_BITS
    slopes, intercepts = (np.rint(c * unit) / unit for c in _secants(function, ends, points))
    segment = (x[None, :, None] >= points[:, None, :]).sum(axis=2)
    got = np.take_along_axis(slopes, segment, 1) * x + np.take_along_axis(intercepts, segment, 1)
    return ((got - y) ** 2).mean(axis=1)


def _cross(rng: np.random.Generator, parents: np.ndarray) -> np.ndarray:
    """Two-point crossover of neighbouring parents."""
    other = np.roll(parents, 1, axis=0)
    cut = np.sort(rng.integers(0, parents.shape[1] + 1, (len(parents), 2)), axis=1)
    column = np.arange(parents.shape[1])
    crossed = rng.random((len(parents), 1)) < CROSSOVER
    return np.where((column >= cut[:, :1]) & (column < cut[:, 1:]) & crossed, other, parents)


def _mutate(rng: np.random.Generator, points: np.ndarray, rounding: bool, width: float) -> np.ndarray:
    """Of the chosen chromosomes, every other breakpoint takes a Gaussian step or, where the function has it, rounds."""
    chosen = rng.random((len(points), 1)) < MUTATION
    stepped = rng.random(points.shape) < 0.5
    mutant = np.where(stepped, points + rng.normal(0.0, width / 20, points.shape), points)
    for bits in range(ROUNDING_BITS[0], ROUNDING_BITS[1] + 1) if rounding else ():
        rounded = np.rint(points * 2.0**bits) / 2.0**bits
        mutant = np.where(rng.random(points.shape) < ROUNDING, rounded, mutant)
    return np.where(chosen, mutant, points)
