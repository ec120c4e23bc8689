"""The tables that a search for a unit fits: for each symmetry and size the narrowest within the budget, exactly."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE, remember
from cost_model.explore.budget import Budget
from ga_search import FitConfig
from ga_search.fit import fit
from ga_search.metrics import rounded_error
from ga_search.problem import prepare
from sim.common.errors import require_range
from sim.reference import InputError, PwlTable
from sim.reference.folding import SYMMETRIES

MINOR = 0.25  # coefficients of one sign, if those of the other are smaller than this share of them, are fitted as such


@dataclass(frozen=True)
class UnitSpace:
    """The tables that a search goes through, each field the choices of one property.

    Parameters
    ----------
    entries : tuple of int
        Segments, ascending. The search stops `sizes` after the first that is accurate enough.
    slope_bits, intercept_bits : tuple of int
        Widths, ascending; of slopes at most 8, and of intercepts at most 12, which the exact fit takes.
    symmetries : tuple of str
        Of `sim.reference.folding.SYMMETRIES`; one that the function has not is left out.
    slope_forms : tuple of str
        Of `sim.reference.two_powers.SLOPE_FORMS`: "two-powers" makes a unit without a multiplier.
    objectives : tuple of str
        What a fit minimises; the budget has several figures and a fit one.
    scales : tuple of int or None
        The scale exponents that the unit serves; None: the function's own.
    sizes : int
        How many sizes are searched from the smallest that is accurate enough.

    Raises
    ------
    InputError
        If a property has no choice, one out of its range, or is not ascending where it must be.
    """

    entries: tuple[int, ...] = tuple(range(2, 17))
    slope_bits: tuple[int, ...] = (4, 5, 6, 7, 8)
    intercept_bits: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9)
    symmetries: tuple[str, ...] = SYMMETRIES
    slope_forms: tuple[str, ...] = ("any",)
    objectives: tuple[str, ...] = ("full", "inside", "both")
    scales: tuple[int, ...] | None = None
    sizes: int = 2

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) == ():
                raise InputError(f"{field.name} must have at least one choice")
        for name, most in (("entries", 64), ("slope_bits", 8), ("intercept_bits", 12)):
            values = getattr(self, name)
            for value in values:
                require_range(name, value, 2, most)
            if list(values) != sorted(set(values)):
                raise InputError(f"{name} must be ascending, not {' '.join(map(str, values))}")
        if self.scales is not None and len(set(self.scales)) != len(self.scales):
            raise InputError(f"scales must be different ones, not {' '.join(map(str, self.scales))}")
        require_range("sizes", self.sizes, 1, 64)


@dataclass(frozen=True)
class Fitted:
    """A table and the figures of its fit."""

    config: FitConfig
    table: PwlTable
    figures: dict[str, Any]


def fitted(config: FitConfig, cache: Path = CACHE) -> Fitted:
    """A fit, from the cache if it is there; its figures are those of `ga_search` and `mse_rounded`."""
    problem = prepare(config)

    def compute() -> str:
        table, row = fit(problem)
        del row["seconds"]  # the same fit gives the same bytes
        figures = row | {"mse_rounded": rounded_error(table, problem.function, problem.codes, row["output_scale"])}
        return json.dumps({"table": table.to_dict(), "figures": figures})

    versions = [metadata.version(name) for name in ("numpy", "bitwright")]
    made = json.loads(remember(cache, "fit", [config.to_dict(), problem.values_digest(), versions], compute))
    return Fitted(config, PwlTable.from_dict(made["table"]), made["figures"])


def narrowest(
    function: str, budget: Budget, space: UnitSpace, report: Callable[[str], None], cache: Path
) -> list[Fitted]:
    """Every table within the budget of which no width can be smaller alone, for each symmetry, form and size."""
    return [
        found
        for symmetry in symmetries(function, space)
        for form in space.slope_forms
        for base in _bases(function, symmetry, form, budget, space, cache)
        for found in _staircase(base, budget, space, report, cache)
    ]


def symmetries(function: str, space: UnitSpace) -> list[str]:
    """Those of the space that the function has. Raises `InputError` if it has none of them."""
    found, reason = [], ""
    for symmetry in space.symmetries:
        try:
            prepare(FitConfig(function, symmetry=symmetry, scales=space.scales))
        except InputError as error:
            if not str(error).startswith("symmetry"):
                raise
            reason = str(error)
        else:
            found.append(symmetry)
    if not found:
        raise InputError(reason)
    return found


def _bases(
    function: str, symmetry: str, slope_form: str, budget: Budget, space: UnitSpace, cache: Path
) -> Iterator[FitConfig]:
    """The widest fits of each size from the smallest accurate one on, signed and with the signs that they show."""
    found = 0
    for entries in space.entries:
        base = FitConfig(
            function, entries, "optimal", scales=space.scales, certificate=False, symmetry=symmetry,
            coef_bits=space.slope_bits[-1], intercept_bits=space.intercept_bits[-1], slope_form=slope_form,
        )  # fmt: skip
        best = accurate(base, budget, space.objectives, cache)
        if best is None:
            continue
        slopes, intercepts = {"signed", sign(best.table.slopes)}, {"signed", sign(best.table.intercepts)}
        if symmetry == "gated":
            slopes -= {"negative"}
        for slope, intercept in product(sorted(slopes), sorted(intercepts)):
            yield replace(base, slope_sign=slope, intercept_sign=intercept)
        found += 1
        if found == space.sizes:
            return


def sign(values: Sequence[int]) -> str:
    """The sign that all coefficients can have, or "signed" if those of the other one are not small beside them."""
    low, high = -min(*values, 0), max(*values, 0)
    if low <= MINOR * high:
        return "unsigned"
    return "negative" if high <= MINOR * low else "signed"


def accurate(config: FitConfig, budget: Budget, objectives: Sequence[str], cache: Path) -> Fitted | None:
    """The first of the fits, one for each objective, that is within the budget and serves every scale; else None.

    A fit is the optimum of its objective, so that one that misses its own limit ends the search.
    """
    own = {"full": ("mse_full", budget.mse_full), "inside": ("mse_inside", budget.mse_inside)}
    for objective in objectives:
        one = fitted(replace(config, objective=objective), cache)
        scales = one.table.scales
        serves = one.table.slope_frac_bits + min(scales) >= one.figures["output_scale"]
        if serves and budget.met(one.figures):
            return one
        name, limit = own.get(objective, ("", None))
        if limit is not None and one.figures[name] > limit:
            return None
    return None


def _staircase(
    base: FitConfig, budget: Budget, space: UnitSpace, report: Callable[[str], None], cache: Path
) -> Iterator[Fitted]:
    """From the narrowest slopes and the widest intercepts on: wider slopes until it is accurate, then narrower
    intercepts until it is not. A wider coefficient never makes the optimum worse.
    """
    slopes, intercepts = list(space.slope_bits), list(space.intercept_bits)
    last: Fitted | None = None
    while slopes and intercepts:
        report(f"{base.function} {base.symmetry} {base.entries} x {slopes[0]}/{intercepts[-1]}")
        config = replace(base, coef_bits=slopes[0], intercept_bits=intercepts[-1])
        found = accurate(config, budget, space.objectives, cache)
        if found is not None:
            last = found
            intercepts.pop()
            continue
        if last is not None:
            yield last
            last = None
        slopes.pop(0)
    if last is not None:
        yield last
