"""An emitted file against a table: `FILE.v` as it is, not a unit emitted anew."""

from pathlib import Path
from typing import Any

from sim.devices import Device, read_device
from sim.pwl_vectors import fitted_set
from sim.reference import InputError, PwlTable
from sim.vectors import VectorSet

SAME = ("in_bits", "in_signed", "coef_bits", "out_bits", "out_signed")


def check_set(path: Path, table: PwlTable) -> tuple[Device, VectorSet]:
    """The unit in `path` and the vectors of `table` for it: every code at every scale it was fitted for.

    Raises `InputError` where the unit is no piecewise-linear one with a stored table and variable shifts, or the table
    does not fit it.
    """
    unit, description = read_device(path)
    if description["unit"] != "pwl":
        raise InputError(f"{path}: unit must be pwl, not {description['unit']}")
    parameters: dict[str, Any] = description["parameters"]
    if unit.table is None or parameters["intercept_shift"] is not None or parameters["output_shift"] is not None:
        raise InputError(f"{path}: must have a table port and shifts that are inputs")
    for name in SAME:
        if parameters[name] != getattr(table, name):
            raise InputError(f"{path}: {name} must be the table's {getattr(table, name)}, not {parameters[name]}")
    needed = max(table.lower(scale).intercept_shift for scale in table.scales)
    if needed > parameters["max_intercept_shift"]:
        raise InputError(f"{path}: max_intercept_shift must be at least {needed} for the table")
    names = ("entries", "stages", "storage", "max_intercept_shift")
    changes = {name: parameters[name] for name in names}
    if parameters["output"] == "code":
        changes["max_output_shift"] = parameters["max_output_shift"]
    return unit, fitted_set(path.stem, table, parameters["output"], table.scales, **changes)
