"""The smallest unit that holds given tables: widths, signs and shift ranges are those that they need, no more."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cost_model.designs.design import Design, random_checks
from rtl.pwl import PwlConfig
from rtl.truth_table import TruthTableConfig
from sim.reference import InputError, LoweredTable, PwlTable
from sim.reference.truth_table import TruthTable
from sim.vectors.pwl import output_scale, pwl_set
from sim.vectors.random_unit import unit_set

ALIKE = ("in_bits", "in_signed", "out_bits", "out_signed", "slope_sign", "intercept_sign", "symmetry", "fold_bits")


def lowered_at_every_scale(table: PwlTable) -> list[LoweredTable]:
    """The table at each of its scales, with the output at the scale that its fit recorded, or the finest that fits.

    Raises `InputError` if a scale cannot reach that output scale.
    """
    best = table.provenance.get("output_scale", output_scale(table))
    return [table.lower(scale, best) for scale in table.scales]


def unit_config(tables: Sequence[PwlTable], stages: int = 1, **changes: Any) -> PwlConfig:
    """The configuration of the unit that each of the tables can be loaded into, at each of its scales.

    Raises `InputError` if the tables differ in codes, signs or symmetry.
    """
    first, *others = tables
    for other in others:
        for name in ALIKE:
            if getattr(other, name) != getattr(first, name):
                raise InputError(f"{name} of {other.function} must be that of {first.function}, {getattr(first, name)}")
    lowered = [one for table in tables for one in lowered_at_every_scale(table)]
    intercept_bits = max(table.code_format.intercept_width for table in tables)
    shifts: dict[str, int] = {}
    for name in ("intercept_shift", "output_shift"):
        values = [getattr(one, name) for one in lowered]
        shifts |= {f"min_{name}": min(values), f"max_{name}": max(values)}
    widths = replace(first.code_format, coef_bits=max(t.coef_bits for t in tables), intercept_bits=intercept_bits)
    entries = max(table.entries for table in tables)
    return PwlConfig(entries, **widths.to_dict(), stages=stages, **shifts, **changes)


def table_unit(tables: Sequence[PwlTable], stages: int = 1, storage: str = "flops", slope_form: str = "any") -> Design:
    """That unit as a design.

    Parameters
    ----------
    tables : sequence of PwlTable
        What it must hold; one or several.
    stages : int
        Latency in cycles.
    storage : str
        As for `rtl.PwlConfig`. With "constants" the first table is wired in at the middle one of its scales.
    slope_form : str
        As for `rtl.PwlConfig`.

    Returns
    -------
    Design
        Its work is every code of every table at every scale; its check is random tables with corners, with none if the
        table is wired in.
    """
    first = tables[0]
    name = "-".join(["pwl", *(table.function.replace(":", "-") for table in tables), str(first.entries)])
    source = {"tables": [table.digest for table in tables]}
    if storage == "constants":
        lowered = lowered_at_every_scale(first)
        wired = lowered[len(lowered) // 2]
        fixed: dict[str, Any] = PwlConfig.hard_wired(wired, stages).to_dict() | {
            "constants": wired,
            "slope_form": slope_form,
        }
        work = pwl_set("every code", [(wired, wired.codes())], source, **fixed)
        return Design(name, f"INT{first.in_bits}", work, (), parameters=source)
    config = unit_config(tables, stages, storage=storage, slope_form=slope_form)
    loads = [(one, one.codes()) for table in tables for one in lowered_at_every_scale(table)]
    shape: dict[str, Any] = {key: value for key, value in config.to_dict().items() if key != "constants"}
    work = pwl_set("every code", loads, source, **shape)
    return Design(name, f"INT{config.in_bits}", work, (random_checks(config),), parameters=source)


def fixed_unit(table: TruthTable) -> Design:
    """A truth table as a design; its work is every code at every scale."""
    config, rng = TruthTableConfig(table), np.random.default_rng(0)
    rows = range(len(table.scales))
    loads = [({"scale": row} if len(rows) > 1 else {}, config.random_inputs(rng, 0)) for row in rows]
    work = unit_set("every code", "truth-table", config, loads, {"function": table.function})
    return Design(f"truth-table-{table.function}", f"INT{table.in_bits}", work, ())
