"""The smallest piecewise-linear unit within an error budget.

Tables are fitted exactly (`ga_search`'s method `optimal`), units priced by the analytical model, and the cheapest of
the Pareto front synthesised and simulated. Nothing is random. Fits and netlists are kept in the cache under the hash of
their inputs, so that an interrupted search goes on where it stopped.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cost_model.analytical.trimmed import table_bits, trimmed_area
from cost_model.cache import CACHE
from cost_model.designs.design import Design
from cost_model.designs.table_unit import fixed_unit, table_unit, unit_config
from cost_model.explore.budget import Budget
from cost_model.explore.front import mark
from cost_model.explore.unit_fits import Fitted, UnitSpace, narrowest
from cost_model.explore.unit_measured import OWN, Recipe, areas, simulated, with_product
from cost_model.netlist.synthesis import Flow
from ga_search.exact import truth_table
from rtl.blocks.storage import STYLES
from sim.common import frames
from sim.reference import InputError

if TYPE_CHECKING:
    import pandas as pd

FIGURES = ("mse_full", "mse_inside", "mse_rounded", "max_ulp", "correctly_rounded")
OBJECTIVES = ("analytical_area_ge", "mse_rounded", "wrongly_rounded")
STORAGES = (*STYLES, "truth-table")


@dataclass(frozen=True)
class Confirmation:
    """How the cheapest units of a search are measured.

    Parameters
    ----------
    units : int
        How many tables of the front, cheapest first.
    storages : tuple of str
        Of `STORAGES`: how each table is kept. "constants" and "truth-table" are fixed functions at one scale, the
        middle one of the table's; the latter is exact and needs no table.
    library : Flow or None
        A real library to map to, beside gate equivalents.
    recipes : tuple of Recipe
        The ways to map; the least area counts.
    simulate : bool
        Whether each unit's Verilog runs in both simulators, with every code at every scale.
    """

    units: int = 1
    storages: tuple[str, ...] = ("flops",)
    library: Flow | None = None
    recipes: tuple[Recipe, ...] = (OWN,)
    simulate: bool = True

    def __post_init__(self) -> None:
        if self.units < 0:
            raise InputError(f"--confirm must be at least 0, not {self.units}")


def explore_unit(
    function: str,
    budget: Budget,
    space: UnitSpace | None = None,
    confirmation: Confirmation | None = None,
    cache: Path = CACHE,
) -> "pd.DataFrame":
    """Tables within a budget, what their units cost, and which are on the Pareto front of area and rounded error.

    Parameters
    ----------
    function : str
        A key of `ga_search.FUNCTIONS`.
    budget : Budget
        The limits on the errors.
    space : UnitSpace or None
        The tables; None is the default space.
    confirmation : Confirmation or None
        What is synthesised and simulated; None is one unit in flip-flops.
    cache : Path
        The folder for fits and netlists.

    Returns
    -------
    pandas.DataFrame
        A row a table, the smallest unit first, with its table as JSON in the column `table`. Areas in gate equivalents
        and um2 are missing where nothing was synthesised.

    Raises
    ------
    InputError
        If the function is unknown, or no table of the space is within the budget.
    """
    chosen = confirmation or Confirmation()
    with tqdm(unit="fit", disable=None) as bar:
        found = narrowest(function, budget, space or UnitSpace(), partial(_shown, bar), cache)
    if not found:
        raise InputError(f"no table of the space is within the budget for {function}")
    rows = sorted(mark([_row(one) for one in found], OBJECTIVES), key=lambda row: row["analytical_area_ge"])
    by_table = {one.table.digest: one for one in found}
    front = [row for row in rows if row["on_front"]][: chosen.units]
    done = []
    for row in tqdm(rows, unit="unit", disable=None):
        if row not in front:
            done.append({**row, **_nothing(chosen)})
            continue
        for storage in chosen.storages:
            unit = _as_stored(row, storage)
            done.append({**unit, **confirmed(by_table[row["table_sha256"]], storage, chosen, cache)})
    return frames.table(done)


def confirmed(one: Fitted, storage: str, confirmation: Confirmation, cache: Path = CACHE) -> dict[str, Any]:
    """The measured columns of a table's unit."""
    make = partial(_unit, one, storage)
    multiplies = storage != "truth-table" and one.config.slope_form == "any"
    own = [recipe for recipe in confirmation.recipes if multiplies or recipe.own_tree]
    return {
        "storage": storage,
        **areas(make, confirmation.library, own, cache),
        "simulated_vectors": simulated(make(1, True), cache) if confirmation.simulate else None,
    }


def _unit(one: Fitted, storage: str, stages: int, own_tree: bool) -> Design:
    if storage == "truth-table":
        scales = one.table.scales
        return fixed_unit(truth_table(one.table.function, (scales[len(scales) // 2],)))
    return with_product(table_unit([one.table], stages, storage, one.config.slope_form), own_tree)


def _as_stored(row: dict[str, Any], storage: str) -> dict[str, Any]:
    """A table's row; of a truth table, which has no table and no error but that of its rounding, nothing of it."""
    if storage != "truth-table":
        return row
    kept = ("function", "correctly_rounded", "max_ulp")
    return {name: value if name in kept else None for name, value in row.items()} | {
        "correctly_rounded": 1.0,
        "max_ulp": 0.5,
    }


def _row(one: Fitted) -> dict[str, Any]:
    table, config = one.table, unit_config([one.table], slope_form=one.config.slope_form)
    right = one.figures["correctly_rounded"]
    return {
        "function": table.function,
        "symmetry": table.symmetry,
        "entries": table.entries,
        "slope_form": config.slope_form,
        "slope_bits": table.coef_bits,
        "slope_sign": table.slope_sign,
        "intercept_bits": table.code_format.intercept_width,
        "intercept_sign": table.intercept_sign,
        "objective": table.objective,
        "intercept_shifts": "{}..{}".format(*config.ends("intercept_shift")),
        "output_shifts": "{}..{}".format(*config.ends("output_shift")),
        "table_bits": table_bits(config),
        **{name: one.figures[name] for name in FIGURES},
        "wrongly_rounded": None if right is None else 1.0 - right,
        "analytical_area_ge": round(trimmed_area(config), 1),
        "table_sha256": table.digest,
        "table": table.to_json(),
    }


def _nothing(confirmation: Confirmation) -> dict[str, Any]:
    names = ["storage", "area_ge", "recipe_ge", "stages"]
    names += ["area_um2", "recipe_um2", "slack_ns", "library"] if confirmation.library is not None else []
    return dict.fromkeys([*names, "netlist_vectors", "simulated_vectors"])


def _shown(bar: Any, text: str) -> None:
    bar.set_postfix_str(text)
    bar.update()
