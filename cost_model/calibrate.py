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


def fit(rows: Sequence[Row], library: Library) -> dict[str, Any]:
    """A library's entry of the coefficients' file."""
    leakage = np.array([row["leakage_w"] for row in rows])
    areas = np.array([row["area"] for row in rows])
    energies = np.array([row["logic"] + row["registers"] + row["clock"] for row in rows])
    nand2 = [c for c in library.cells.values() if _is_nand2(c.name.lower())]
    return {
        "library_sha256": library.sha256,
        "physical": library.has_energies,
        "nand2_area": float(min(cell.area for cell in nand2)),
        "leakage_per_area": float((leakage * areas).sum() / (areas * areas).sum()),
        "area": non_negative([sizes(row["point"]) for row in rows], areas),
        "energy": non_negative([sizes(row["point"]) for row in rows], energies),
    }


def _is_nand2(name: str) -> bool:
    return name.endswith(("nand2", "nand2_1", "nand2_x1"))


def non_negative(found: Sequence[Mapping[str, float]], measured: np.ndarray) -> dict[str, float]:
    """Coefficients >= 0 that minimise the squared relative errors; a name that gets 0 is left out."""
    from scipy.optimize import nnls

    names = sorted({name for row in found for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in found]) / measured[:, None]
    scale = matrix.max(axis=0)
    scale[scale == 0] = 1.0
    solved, _ = nnls(matrix / scale, np.ones(len(measured)))
    return {n: float(f"{v / s:.6g}") for n, v, s in zip(names, solved, scale, strict=True) if v > 0}


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
