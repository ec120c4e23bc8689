"""What a unit costs without synthesis: the sum of its components, for one point or a million in one call.

Coefficients belong to a library and are in `data/coefficients.json` with how they were found; points far from the
declared space (`cost_model.calibration.design_space`) are extrapolated.
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
from cost_model.analytical.units import components
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


def estimate(kind: str, library: str = "gate_equivalents", **parameters: Array) -> Estimate:
    """What units of `kind` cost in a library that coefficients are known for; each parameter a number or an array."""
    known = coefficients()
    if library not in known["libraries"]:
        raise InputError(f"library must be one of {', '.join(known['libraries'])}, not {library!r}")
    fitted = known["libraries"][library]
    return Estimate({name: price(part, fitted, kind) for name, part in components(kind, **parameters).items()})


def price(component: Component, fitted: Mapping[str, Any], kind: str) -> Cost:
    """A component's cost with a library's coefficients, at the work of a kind."""
    area = component.area(fitted["area"])
    energy = component.energy(fitted["energy"], fitted["activity"][kind])
    nothing = np.full(np.shape(area), np.nan)
    if not fitted["physical"]:
        return Cost(area, nothing, nothing, energy, nothing)
    leakage = area * fitted["leakage_per_area"]
    return Cost(area / fitted["nand2_area"], area * 1e-12, energy, nothing, leakage)


@lru_cache(maxsize=1)
def coefficients() -> dict[str, Any]:
    """The file's content."""
    return json.loads(read_text(COEFFICIENTS))
