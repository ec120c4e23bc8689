"""One unit for several functions: the narrowest format in which each has a table within its budget."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from cost_model.analytical.trimmed import trimmed_area
from cost_model.cache import CACHE
from cost_model.designs.table_unit import unit_config
from cost_model.explore.budget import Budget
from cost_model.explore.unit_fits import Fitted, UnitSpace, accurate
from ga_search import FitConfig

MOST_DROPPED = 3  # by how many bits μ may be below λ where λ is given


def shared_tables(
    wanted: Mapping[FitConfig, Budget],
    space: UnitSpace,
    fold_bits: tuple[int | None, ...] = (None,),
    report: Callable[[str], None] = lambda text: None,
    cache: Path = CACHE,
) -> list[Fitted]:
    """A table for each function, all for the one unit that the analytical model prices least; empty if there is none.

    Parameters
    ----------
    wanted : mapping from FitConfig to Budget
        The functions with their signs, symmetry and scales, and what each may cost; their sizes and widths are ignored.
    space : UnitSpace
        The sizes and widths to search.
    fold_bits : tuple of int or None
        λ of all tables, which "gated" tables share; None leaves it to each fit.
    report : callable
        Called with the progress.
    cache : Path
        The folder for fits.
    """
    sets: list[list[Fitted]] = []
    for bits in fold_bits:
        sizes = 0
        for entries in space.entries:
            made = _staircase(
                {replace(config, entries=entries): b for config, b in wanted.items()}, bits, space, report, cache
            )
            sets += made
            sizes += bool(made)
            if sizes == space.sizes:
                break
    return min(sets, key=lambda found: trimmed_area(unit_config([one.table for one in found])), default=[])


def _staircase(
    wanted: Mapping[FitConfig, Budget],
    bits: int | None,
    space: UnitSpace,
    report: Callable[[str], None],
    cache: Path,
) -> list[list[Fitted]]:
    """As `cost_model.explore.unit_fits` walks, for all functions at once."""
    slopes, intercepts = list(space.slope_bits), list(space.intercept_bits)
    found: list[list[Fitted]] = []
    while slopes and intercepts:
        made = []
        for config, budget in wanted.items():
            sized = replace(config, method="optimal", coef_bits=slopes[0], intercept_bits=intercepts[-1])
            report(f"{config.function} {config.entries} x {slopes[0]}/{intercepts[-1]}")
            one = _best(sized, budget, bits, space, cache)
            if one is None:
                break
            made.append(one)
        if len(made) == len(wanted):
            found.append(made)
            intercepts.pop()
        else:
            slopes.pop(0)
    return found


def _best(config: FitConfig, budget: Budget, bits: int | None, space: UnitSpace, cache: Path) -> Fitted | None:
    """A table within the budget at λ = `bits`, μ as near to it as can be, so that shifts differ little; else None."""
    if bits is None:
        return accurate(config, budget, space.objectives, cache)
    for intercept_bits in range(bits, max(bits - MOST_DROPPED, 0) - 1, -1):
        at = replace(config, slope_frac_bits=bits, intercept_frac_bits=intercept_bits)
        found = accurate(at, budget, space.objectives, cache)
        if found is not None:
            return found
    return None
