"""The cost of units without synthesis: the sum of their components, for one design point or many in one call.

Coefficients belong to a library; `data/coefficients.json` has them and how they were found. Points outside the
calibrated space (`cost_model.calibration.design_space`) are extrapolated.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.analytical.broadcasting import Array
from cost_model.analytical.components import Component, Cost
from cost_model.analytical.units import unit
from sim.common.files import read_text
from sim.reference import InputError

COEFFICIENTS = Path(__file__).parents[1] / "data" / "coefficients.json"


@dataclass(frozen=True)
class Estimate:
    """A unit's cost by component; `total` is their sum."""

    parts: dict[str, Cost]

    @property
    def total(self) -> Cost:
        first, *rest = self.parts.values()
        for cost in rest:
            first = first + cost
        return first


def estimate(unit_name: str, library: str = "gate_equivalents", **parameters: Array) -> Estimate:
    """Estimate the cost of one unit, or of many in arrays.

    Parameters
    ----------
    unit_name : str
        One of `cost_model.analytical.units.UNITS`.
    library : str
        A library of `data/coefficients.json`.
    **parameters
        The fields of the unit's class, numbers or arrays; arrays broadcast.

    Returns
    -------
    Estimate
        Area, energy per action and leakage by component, in the shape of the parameters.

    Raises
    ------
    InputError
        If the unit, the library or a parameter is unknown, or a width is out of range.
    """
    known = coefficients()
    if library not in known["libraries"]:
        raise InputError(f"library must be one of {', '.join(known['libraries'])}, not {library!r}")
    fitted = known["libraries"][library]
    parts = unit(unit_name, **parameters).components()
    return Estimate({name: price(part, fitted, unit_name) for name, part in parts.items()})


def price(component: Component, fitted: Mapping[str, Any], unit_name: str) -> Cost:
    """A component's cost with a library's coefficients, at the activity of a unit's work."""
    area = component.area(fitted["area"])
    energy = component.energy(fitted["energy"], fitted["activity"][unit_name])
    nothing = np.full(np.shape(area), np.nan)
    if not fitted["physical"]:
        return Cost(area, nothing, nothing, energy, nothing)
    leakage = nothing if fitted["leakage_per_area"] is None else area * fitted["leakage_per_area"]
    return Cost(area / fitted["nand2_area"], area * 1e-12, energy, nothing, leakage)


@lru_cache(maxsize=1)
def coefficients() -> dict[str, Any]:
    """The file's content."""
    return json.loads(read_text(COEFFICIENTS))
