"""One table for every scale, or a private one for each: fewer entries against more storage.

A shared table serves every scale, since its breakpoints are lowered to each. A private one is fitted for one scale, and
keeps the budget there. A unit holds one private table and is loaded anew when the scale changes, or holds all of them.
No table is folded: folded ones would have to share λ.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cost_model.analytical.trimmed import table_bits, trimmed_area
from cost_model.cache import CACHE
from cost_model.designs.table_unit import unit_config
from cost_model.explore.budget import Budget
from cost_model.explore.unit_fits import Fitted, UnitSpace, narrowest
from ga_search import FitConfig
from ga_search.problem import prepare
from rtl.pwl import PwlConfig
from sim.common import frames
from sim.reference import InputError

if TYPE_CHECKING:
    import pandas as pd


def compare_tables(
    function: str, budget: Budget, space: UnitSpace | None = None, cache: Path = CACHE
) -> "pd.DataFrame":
    """The smallest unit of a shared table, and those of private ones, by the analytical model.

    Parameters
    ----------
    function : str
        A key of `ga_search.FUNCTIONS`.
    budget : Budget
        The limits on the errors: of a shared table over all scales, of a private one at its own.
    space : UnitSpace or None
        The tables; None is the default space. Its symmetries are not used.
    cache : Path
        The folder for fits.

    Returns
    -------
    pandas.DataFrame
        Rows "shared"; "private, one loaded", whose other tables are kept elsewhere; and "private, all held".

    Raises
    ------
    InputError
        If the function is unknown, or no table of the space is within the budget at one of the scales.
    """
    space = replace(space or UnitSpace(), symmetries=("none",))
    with tqdm(unit="fit", disable=None) as bar:
        report = partial(_shown, bar)
        shared = _alike([narrowest(function, budget, space, report, cache)], function)
        scales = prepare(FitConfig(function, scales=space.scales)).codes.scales
        found = [narrowest(function, budget, replace(space, scales=(s,)), report, cache) for s in scales]
        private = _alike(found, function)
    rows = [_row("shared", shared, 1, 1), _row("private, one loaded", private, 1, len(private)),
            _row("private, all held", private, len(private), len(private))]  # fmt: skip
    return frames.table(rows)


def _alike(choices: list[list[Fitted]], function: str) -> list[Fitted]:
    """One of each list, of one form and with the same signs, so that the unit that takes them all is small."""
    kinds = set.intersection(*(set(map(_kind, found)) for found in choices))
    if not kinds:
        raise InputError(f"no table of the space is within the budget for {function}")
    sets = [
        [min((one for one in found if _kind(one) == kind), key=_area) for found in choices] for kind in sorted(kinds)
    ]
    return min(sets, key=lambda tables: trimmed_area(_unit(tables)))


def _kind(one: Fitted) -> tuple[str, str, str]:
    return one.config.slope_form, one.table.slope_sign, one.table.intercept_sign


def _unit(found: Sequence[Fitted]) -> PwlConfig:
    return unit_config([one.table for one in found], slope_form=found[0].config.slope_form)


def _area(one: Fitted) -> float:
    return trimmed_area(_unit([one]))


def _row(name: str, found: list[Fitted], held: int, tables: int) -> dict[str, Any]:
    config = _unit(found)
    return {
        "tables": name,
        "function": found[0].table.function,
        "slope_form": config.slope_form,
        "entries": config.entries,
        "slope_bits": config.coef_bits,
        "intercept_bits": config.code_format.intercept_width,
        "held_bits": held * table_bits(config),
        "all_tables_bits": tables * table_bits(config),
        "analytical_area_ge": round(trimmed_area(config, tables=held), 1),
        "worst_mse_full": max(one.figures["mse_full"] for one in found),
        "worst_mse_inside": max(one.figures["mse_inside"] for one in found),
        "entries_by_scale": [one.table.entries for one in found],
    }


def _shown(bar: Any, text: str) -> None:
    bar.set_postfix_str(text)
    bar.update()
