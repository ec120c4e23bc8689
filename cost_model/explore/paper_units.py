"""Units at the errors of GQA-LUT's released tables of 8 entries, beside the FP32 unit: how much area do they save?

Every unit can be loaded with another table of its format, keeps it in flip-flops, has streams that stall on both sides,
and takes the period of the flow; a row of each fixed function stands beside them. All are mapped with `rtl`'s own
multiplier tree, which gives FP32 its least area (`results/cost_sensitivity.json`), so that no saving is flattered.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cost_model.analytical.trimmed import trimmed_area
from cost_model.cache import CACHE
from cost_model.designs.design import Design, float_design, reference_unit
from cost_model.designs.table_unit import fixed_unit, lowered_at_every_scale, table_unit, unit_config
from cost_model.explore.budget import Budget
from cost_model.explore.shared_unit import shared_tables
from cost_model.explore.unit_fits import Fitted, UnitSpace, accurate, narrowest
from cost_model.explore.unit_measured import areas, proved, simulated, synthesised, with_product
from cost_model.netlist.synthesis import Flow
from cost_model.reports.paper import saving
from ga_search import FitConfig
from ga_search.exact import truth_table
from ga_search.functions import FUNCTIONS as KNOWN
from sim.reference import PwlTable
from sim.reference.floating import FP32
from sim.reference.normaliser import POWERS

FUNCTIONS = ("gelu", "hswish", "exp")
FP32_STAGES = 7  # as recorded for 8 ns in IHP's library, from where the fewest are searched for
ERRORS = ("mse_full", "mse_inside", "mse_rounded", "correctly_rounded", "max_ulp")
WIDE_BITS = 16  # of coefficients that lose next to nothing, for the fewest entries of FP32
# of a normaliser's table the highest octaves, and what its mean squared error becomes on the paper's domain: an octave
# below has half as many codes and, for 1/x, four times the squared error of the one above, for 1/sqrt(x) twice
OCTAVES = {"div": ((2.0, 4.0), (64 + 32 * 4 + 16 * 16) / 112), "rsqrt": ((1.0, 4.0), (96 + 24 * 4) / 120)}


@dataclass(frozen=True)
class Group:
    """A unit to be searched: its functions, whether folded, and the λ that folded tables share."""

    name: str
    functions: tuple[str, ...]
    symmetry: str = "none"
    octaves: bool = False
    fold_bits: tuple[int | None, ...] = (None,)


GROUPS = (
    *(Group(f"{name}, not folded", (name,)) for name in FUNCTIONS),
    *(Group(f"{name}, folded", (name,), "gated") for name in FUNCTIONS[:2]),
    Group("gelu and hswish, folded", ("gelu", "hswish"), "gated", fold_bits=(5, 6)),
    Group("all five, normalised, folded", (*FUNCTIONS, "div", "rsqrt"), "gated", True, (5, 6)),
)


def paper_units(library: Flow, groups: Sequence[Group] = GROUPS, cache: Path = CACHE) -> Iterator[dict[str, Any]]:
    """The rows: FP32 and the reference unit, each group's unit, and the fixed functions; in JSON's types.

    Parameters
    ----------
    library : Flow
        A real library with delays and its period; gate equivalents stand beside it.
    groups : sequence of Group
        The units to search.
    cache : Path
        The folder for fits and netlists.

    Raises
    ------
    InputError
        If a tool is missing.
    """
    base: dict[int, dict[str, float]] = {}
    for entries in sorted({8, *(fewest_entries(name, cache) for name in FUNCTIONS)}, reverse=True):
        row = {
            "unit": f"FP32, {entries} entries",
            "entries": entries,
            **areas(partial(_fp32, entries), library, cache=cache, start=FP32_STAGES),
        }
        base[entries] = {key: row[f"area_{key}"] for key in ("ge", "um2")}
        yield row
    yield {"unit": "INT8, 8 entries, the reference unit", "entries": 8, **_saved(
        areas(_reference, library, cache=cache), base[8], None
    )}  # fmt: skip
    for group in tqdm(groups, unit="unit", disable=None):
        found = _found(group, cache)
        if not found:
            yield {"unit": group.name, "functions": list(group.functions), "found": False}
            continue
        yield _group_row(group, found, library, base, cache)
    for name in FUNCTIONS:
        for scales in ((3,), None):
            yield _fixed_row(name, scales, library, base[8], cache)


def known_units(library: Flow, rows: Sequence[Mapping[str, Any]], cache: Path = CACHE) -> Iterator[dict[str, Any]]:
    """The units of an earlier run's `rows` in another library, beside FP32 and the reference unit; in JSON's types.

    Each has the fewest stages that meet the flow's period there. Nothing is searched, simulated or proved again: the
    unit's Verilog is that of the rows, and each netlist gives every expected output.
    """
    known = {row["unit"]: [PwlTable.from_dict(table) for table in row["tables"]] for row in rows if row.get("tables")}
    fp32 = _in_library(partial(_fp32, 8), library, cache, FP32_STAGES)
    yield {"unit": "FP32, 8 entries", **fp32}
    units = {"INT8, 8 entries, the reference unit": _reference}
    units |= {name: partial(_unit, tables) for name, tables in known.items()}
    for name, make in tqdm(units.items(), unit="unit", disable=None):
        row = _in_library(make, library, cache)
        yield {"unit": name, **row, "saving_um2": saving(row["area_um2"], fp32["area_um2"])}


def _in_library(make: Callable[[int, bool], Design], library: Flow, cache: Path, start: int = 1) -> dict[str, Any]:
    found = synthesised(make, library, cache=cache, start=start)
    row = {"library": library.library.name, "period_s": library.period_s, "area_um2": found.pop("area")}
    return row | {name: found[name] for name in ("stages", "slack_ns", "verified_vectors")}


def fewest_entries(function: str, cache: Path = CACHE) -> int:
    """The fewest entries with which a table of wide coefficients has the released one's errors; at most 8."""
    budget = Budget.released(function)
    for entries in range(2, 8):
        config = FitConfig(function, entries, coef_bits=WIDE_BITS, certificate=False)
        if accurate(config, budget, ("full", "inside", "both"), cache) is not None:
            return entries
    return 8


def _found(group: Group, cache: Path) -> list[Fitted]:
    """The tables of the group's smallest unit by the analytical model."""
    space = UnitSpace(symmetries=(group.symmetry,))
    if len(group.functions) == 1:
        [name] = group.functions
        found = narrowest(name, Budget.released(name), space, lambda text: None, cache)
        return min(([one] for one in found), key=_price, default=[])
    sets = [
        shared_tables(_wanted(group, slope, intercept), space, group.fold_bits, cache=cache)
        for slope, intercept in (("signed", "signed"), ("unsigned", "negative"))
        if group.functions == ("gelu", "hswish") or slope == "signed"
    ]
    return min(filter(None, sets), key=_price, default=[])


def _price(found: Sequence[Fitted]) -> float:
    return trimmed_area(unit_config([one.table for one in found]))


def _wanted(group: Group, slope_sign: str, intercept_sign: str) -> Mapping[FitConfig, Budget]:
    wanted = {}
    for name in group.functions:
        domain, factor = OCTAVES[name] if group.octaves and name in OCTAVES else (None, 1.0)
        budget = Budget.released(name)
        limits = (limit / factor for limit in (budget.mse_full, budget.mse_inside) if limit is not None)
        config = FitConfig(
            name, domain=domain, symmetry=group.symmetry, slope_sign=slope_sign, intercept_sign=intercept_sign,
            certificate=False,
        )  # fmt: skip
        wanted[config] = Budget(*limits)
    return wanted


def _group_row(
    group: Group,
    found: Sequence[Fitted],
    library: Flow,
    base: Mapping[int, Mapping[str, float]],
    cache: Path,
) -> dict[str, Any]:
    tables = [one.table for one in found]
    make = partial(_unit, tables)
    fewest = max(fewest_entries(name, cache) for name in group.functions if name in FUNCTIONS)
    measured = areas(make, library, cache=cache)
    chosen = unit_config(tables, measured["stages"])
    return {
        "unit": group.name,
        "functions": list(group.functions),
        "found": True,
        "symmetry": group.symmetry,
        "entries": chosen.entries,
        "slope_bits": chosen.coef_bits,
        "slope_sign": chosen.slope_sign,
        "intercept_bits": chosen.code_format.intercept_width,
        "intercept_sign": chosen.intercept_sign,
        "intercept_shifts": [*chosen.ends("intercept_shift")],
        "output_shifts": [*chosen.ends("output_shift")],
        "errors": {one.table.function: _errors(one) for one in found},
        **_saved(measured, base[8], base.get(fewest)),
        "fp32_fewest_entries": fewest,
        "simulated_vectors": simulated(make(measured["stages"], True), cache),
        "proofs": [proved(chosen, lowered_at_every_scale(one.table)[-1], cache) for one in found],
        "tables": [table.to_dict() for table in tables],
    }  # fmt: skip


def _errors(one: Fitted) -> dict[str, Any]:
    found = {name: one.figures[name] for name in ERRORS} | {"domain": list(one.table.domain)}
    if list(one.table.domain) != list(KNOWN[one.table.function].domain):
        found["mse_normalised"] = normalised_error(one.table)
    return found


def normalised_error(table: PwlTable) -> float:
    """The mean squared error of a normaliser's table on every code of the function's own, wider domain.

    A code below the table's domain is shifted into it, and the result shifted back, without rounding.
    """
    function, [scale] = KNOWN[table.function], table.scales
    codes = np.arange(1 << table.in_bits - 1)
    codes = codes[function.inside(codes * 2.0**-scale)]
    assert table.normaliser_step is not None
    shift = np.zeros_like(codes)
    while (low := (codes << shift) * 2.0**-scale < table.domain[0]).any():
        shift[low] += table.normaliser_step
    y = table.lower(scale).accumulate(codes << shift) * 2.0 ** -(table.slope_frac_bits + scale)
    numerator, denominator = POWERS[table.function]
    error = y * 2.0 ** (-numerator * shift / denominator) - function.evaluate(codes * 2.0**-scale)
    return float(np.mean(error**2))


def _fixed_row(
    name: str, scales: tuple[int, ...] | None, library: Flow, fp32: Mapping[str, float], cache: Path
) -> dict[str, Any]:
    """The truth table of a function: not a unit that can be loaded, and exact."""
    design = fixed_unit(truth_table(name, scales))
    return {
        "unit": f"truth table of {name}, {'one scale' if scales else 'every scale'}",
        "functions": [name],
        **_saved(areas(lambda stages, own: design, library, cache=cache), fp32, None),
        "simulated_vectors": simulated(design, cache),
    }


def _saved(row: dict[str, Any], fp32: Mapping[str, float], fewest: Mapping[str, float] | None) -> dict[str, Any]:
    found = {f"saving_{key}": saving(row[f"area_{key}"], area) for key, area in fp32.items()}
    if fewest is not None:
        found |= {f"saving_{key}_fewest_entries": saving(row[f"area_{key}"], area) for key, area in fewest.items()}
    return row | found


def _fp32(entries: int, stages: int, own_tree: bool) -> Design:
    return float_design(FP32, entries, stages, own_tree=own_tree)


def _reference(stages: int, own_tree: bool) -> Design:
    return with_product(reference_unit("INT8", 8, stages), own_tree)


def _unit(tables: Sequence[Any], stages: int, own_tree: bool) -> Design:
    return with_product(table_unit(tables, stages), own_tree)
