"""Coefficients from measured units: non-negative least squares on relative errors, one set for each library."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cost_model.analytical import components
from cost_model.dataset import Row
from cost_model.library import Library
from cost_model.space import Point


def sizes(point: Point) -> dict[str, float]:
    """All sizes of a point's components, those of one name added up."""
    found: dict[str, float] = {}
    fields = {key: value for key, value in point.items() if key != "kind"}
    for component in components(point["kind"], **fields).values():
        for name, size in component.sizes().items():
            found[name] = found.get(name, 0.0) + float(np.asarray(size))
    return found


# What a size should weigh, in NAND2, by counting gates: a full adder is 5.3, an AND 1.3, a multiplexer 2.3, a flip-flop
# that holds 8. A fit starts from here and leaves it where the data say so.
GATES: Mapping[str, float] = {
    "table bits in flip-flops": 8.0,
    "table bits in latches": 3.4,
    "table words in flip-flops": 3.0,
    "table words in latches": 4.0,
    "latch port bits": 6.0,
    "comparator bits": 2.4,
    "comparators": 1.0,
    "selected bits": 1.7,
    "selection ways": 1.5,
    "inner partial products": 6.6,
    "product bits": 4.0,
    "shifter multiplexers": 2.4,
    "adder bits": 6.0,
    "extended partial products": 5.3,
    "rounded bits": 5.0,
    "saturated bits": 1.3,
    "register bits": 8.0,
    "stages": 10.0,
    "float shifter multiplexers": 5.0,
    "float significand bits": 30.0,
    "float exponent bits": 25.0,
    "float product bits": 12.0,
    "float register bits": 9.0,
    "leading-one bits": 4.0,
    "aligned bits": 2.0,
}
TRUST = 0.05  # weight of a gate count against one measured unit


def fit(rows: Sequence[Row], library: Library) -> dict[str, Any]:
    """A library's entry of the coefficients' file."""
    leakage = np.array([row["leakage_w"] for row in rows])
    areas = np.array([row["area"] for row in rows])
    energies = np.array([sum(row[key] for key in ENERGIES) for row in rows])
    nand2 = float(min(cell.area for cell in library.cells.values() if _is_nand2(cell.name.lower())))
    found = [sizes(row["point"]) for row in rows]
    return {
        "library_sha256": library.sha256,
        "physical": library.has_energies,
        "nand2_area": nand2,
        "leakage_per_area": float((leakage * areas).sum() / (areas * areas).sum()),
        "area": regressed(found, areas, {name: gates * nand2 for name, gates in GATES.items()}),
        "energy": regressed(found, energies, _energies(energies.sum() / areas.sum() * nand2)),
    }


def _energies(per_gate: float) -> dict[str, float]:
    """What a size should spend in a cycle: its gates at the units' mean energy, held bits more, idle tables less."""
    return {name: gates * per_gate for name, gates in GATES.items()}


def _is_nand2(name: str) -> bool:
    return name.endswith(("nand2", "nand2_1", "nand2_x1"))


def regressed(
    found: Sequence[Mapping[str, float]], measured: np.ndarray, prior: Mapping[str, float]
) -> dict[str, float]:
    """Coefficients >= 0 that minimise the squared relative errors, and `TRUST` times those against `prior`.

    A name without a prior is one for which 0 is as good; a name that gets 0 is left out.
    """
    from scipy.optimize import nnls

    names = sorted({name for row in found for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in found]) / measured[:, None]
    scale = np.array(
        [prior.get(name) or 1 / max(column.max(), 1e-300) for name, column in zip(names, matrix.T, strict=True)]
    )
    pulled = TRUST * np.diag([1.0 if name in prior else 0.2 for name in names])
    target = TRUST * np.array([1.0 if name in prior else 0.0 for name in names])
    solved, _ = nnls(np.vstack([matrix * scale, pulled]), np.concatenate([np.ones(len(measured)), target]))
    return {n: float(f"{v * s:.6g}") for n, v, s in zip(names, solved, scale, strict=True) if v > 0}


def relative_errors(rows: Sequence[Row], fitted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """(estimate - measured) / measured of area and energy, a value for each row."""
    result = {}
    for what in ("area", "energy"):
        values = np.array([sum(fitted[what].get(n, 0.0) * s for n, s in sizes(row["point"]).items()) for row in rows])
        key = (lambda row: row["area"]) if what == "area" else (lambda row: sum(row[k] for k in ENERGIES))
        measured = np.array([key(row) for row in rows])
        result[what] = values / measured - 1
    return result


ENERGIES = ("logic", "registers", "clock")
