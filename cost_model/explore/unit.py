"""The smallest piecewise-linear unit within an error budget.

Every candidate table is fitted exactly (`ga_search`'s method `optimal`), its unit priced by the analytical model, and
rows come back as a pandas DataFrame. Fits are kept in the cache under the hash of their inputs, so that an interrupted
search goes on where it stopped.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cost_model.analytical.estimate import estimate
from cost_model.cache import CACHE, remember
from cost_model.explore.budget import Budget
from ga_search import FitConfig
from ga_search.fit import fit
from ga_search.problem import prepare
from sim.reference import InputError

if TYPE_CHECKING:
    import pandas as pd

FIGURES = ("mse_full", "mse_inside", "max_ulp", "correctly_rounded")


@dataclass(frozen=True)
class UnitSpace:
    """The tables that a search goes through, each field the choices of one property.

    Parameters
    ----------
    entries : tuple of int
        Segments.
    coef_bits : tuple of int
        Widths of the coefficients, at most 8, which the exact fit takes.
    objectives : tuple of str
        What a fit minimises; the budget has several figures and a fit one.

    Raises
    ------
    InputError
        If a property has no choice.
    """

    entries: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    coef_bits: tuple[int, ...] = (4, 5, 6, 7, 8)
    objectives: tuple[str, ...] = ("full", "inside")

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name):
                raise InputError(f"{field.name} must have at least one choice")

    def fits(self, function: str) -> Iterator[FitConfig]:
        """The fit of every table, in a fixed order."""
        for entries, bits, objective in product(self.entries, self.coef_bits, self.objectives):
            yield FitConfig(function, entries, "optimal", coef_bits=bits, objective=objective, certificate=False)


def explore_unit(
    function: str,
    budget: Budget,
    space: UnitSpace | None = None,
    library: str = "gate_equivalents",
    cache: Path = CACHE,
) -> "pd.DataFrame":
    """Every table of a space, whether it is within a budget, and what its unit costs.

    Parameters
    ----------
    function : str
        A key of `ga_search.FUNCTIONS`.
    budget : Budget
        The limits on the errors.
    space : UnitSpace or None
        The tables; None is the default space.
    library : str
        A library of the analytical model.
    cache : Path
        The folder for fits.

    Returns
    -------
    pandas.DataFrame
        A row a table, smallest unit first, those within the budget before the others.

    Raises
    ------
    InputError
        If the function or the library is unknown.
    """
    pandas = _pandas()
    rows = []
    for config in tqdm(list((space or UnitSpace()).fits(function)), unit="fit", disable=None):
        figures = _fitted(config, cache)
        area = estimate("pwl", library, entries=config.entries, in_bits=8, coef_bits=config.coef_bits, stages=1)
        rows.append(
            {
                "function": function,
                "entries": config.entries,
                "coef_bits": config.coef_bits,
                "objective": config.objective,
                **{name: figures[name] for name in FIGURES},
                "within_budget": budget.met(figures),
                "area_ge": float(area.total.area_ge),
            }
        )
    frame = pandas.DataFrame(rows)
    return frame.sort_values(["within_budget", "area_ge"], ascending=[False, True], ignore_index=True)


def _fitted(config: FitConfig, cache: Path) -> dict[str, Any]:
    """The figures of a fit, from the cache if it is there."""
    problem = prepare(config)
    identity = [config.to_dict(), problem.values_digest(), metadata.version("numpy")]
    return json.loads(remember(cache, "fit", identity, lambda: json.dumps(fit(problem)[1])))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise InputError("pandas must be installed: pip install 'bitwright[cost]'") from None
    return pandas
