"""Coefficients from measured units: non-negative least squares on relative errors, one set for each library."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cost_model.analytical.components import CLOCKED, Component, added
from cost_model.analytical.units import unit
from cost_model.calibration.dataset import ENERGIES, Record
from cost_model.calibration.design_space import Point, parameters
from cost_model.cells.library import Library


def parts_of(point: Point) -> list[Component]:
    """A point's components."""
    return list(unit(point["unit"], **parameters(point)).components().values())


def sizes(point: Point) -> dict[str, float]:
    """The sizes of a point's components, added up by name."""
    return {name: float(size) for name, size in added(*(part.sizes() for part in parts_of(point))).items()}


# The prior of each size, in NAND2, by counting gates: a full adder is 5.3, an AND 1.3, a multiplexer 2.3, a flip-flop
# that holds 8. A fit is regularised towards it.
GATES: Mapping[str, float] = {
    "flip-flops": 6.0,
    "register bits": 2.4,
    "table bits in flip-flops": 2.4,
    "held bits": 2.4,
    "table bits in latches": 3.4,
    "table words in flip-flops": 3.0,
    "table words in latches": 4.0,
    "comparator bits": 2.4,
    "comparators": 1.0,
    "selected bits": 1.7,
    "selection ways": 1.5,
    "Booth digits": 6.0,
    "Booth row bits": 4.0,
    "gated row bits": 1.3,
    "full adders": 6.6,
    "full adders of rows": 6.6,
    "adder bits": 7.0,
    "shifter multiplexers": 2.3,
    "multiplexer bits": 2.3,
    "incremented bits": 3.3,
    "clamped bits": 2.0,
    "tested bits": 1.3,
    "inverted bits": 2.3,
    "ordered bits": 3.0,
    "packed bits": 3.0,
    "leading-zero bits": 3.0,
    "leading-one bits": 4.0,
    "aligned bits": 2.0,
}
IDLE = ("table bits in flip-flops", "table bits in latches", "table words in flip-flops", "held bits")  # spend nothing
TRUST = 0.05  # weight of a gate count against one measured unit
ROUNDS = 10  # of energies and activities in turn; they settle in five
ACTIVITY_OF = "pwl"  # the unit whose work has activity 1


def fit(records: Sequence[Record], library: Library) -> dict[str, Any]:
    """A library's entry of the coefficients' file."""
    areas = np.array([record["area"] for record in records])
    nand2 = float(min(cell.area for cell in library.cells.values() if _is_nand2(cell.name.lower())))
    energy, activity = _energies(records, nand2)
    return {
        "library_sha256": library.sha256,
        "physical": library.has_energies,
        "nand2_area": nand2,
        "leakage_per_area": _leakage_per_area(records, areas),
        "area": regressed(
            [sizes(record["point"]) for record in records],
            areas,
            areas,
            {name: gates * nand2 for name, gates in GATES.items()},
        ),
        "energy": energy,
        "activity": activity,
    }


def _leakage_per_area(records: Sequence[Record], areas: np.ndarray) -> float | None:
    """By least squares; None if the library does not give leakage."""
    leakages = [record["leakage_w"] for record in records]
    if None in leakages:
        return None
    return float((np.array(leakages) * areas).sum() / (areas * areas).sum())


def _energies(records: Sequence[Record], nand2: float) -> tuple[dict[str, float], dict[str, float]]:
    """(energy of each size, activity of each unit); the energies of flip-flops and of gates are measured separately."""
    found = [sizes(record["point"]) for record in records]
    names = [record["point"]["unit"] for record in records]
    total = np.array([sum(record[key] for key in ENERGIES) for record in records])
    kept = np.array([record["registers"] + record["clock"] for record in records])
    per_gate = total.sum() / sum(record["area"] for record in records) * nand2
    prior = {name: gates * per_gate for name, gates in GATES.items() if name not in IDLE}
    activity = dict.fromkeys(names, 1.0)
    registers = ("flip-flops", "register bits")
    energy: dict[str, float] = {}
    for _ in range(ROUNDS):
        moved = [
            {n: s if n in CLOCKED else s * activity[name] for n, s in one.items() if n not in IDLE}
            for one, name in zip(found, names, strict=True)
        ]
        held = [{name: one[name] for name in registers} for one in moved]
        gates = [{name: size for name, size in one.items() if name != "flip-flops"} for one in moved]
        energy = regressed(held, kept, total, prior)
        for name, value in regressed(gates, total - kept, total, prior).items():
            energy[name] = energy.get(name, 0.0) + value
        clocked, data = (
            np.array([sum(energy.get(n, 0.0) * s for n, s in one.items() if (n in CLOCKED) == c) for one in found])
            for c in (True, False)
        )
        for name in activity:
            of = np.array([other == name for other in names])
            share, rest = (data / total)[of], (1 - clocked / total)[of]
            activity[name] = float((share * rest).sum() / (share * share).sum())
        activity = {name: value / activity[ACTIVITY_OF] for name, value in activity.items()}
    return energy, {name: float(f"{value:.4g}") for name, value in activity.items()}


def _is_nand2(name: str) -> bool:
    return name.endswith(("nand2", "nand2_1", "nand2_x1"))


def regressed(
    found: Sequence[Mapping[str, float]], measured: np.ndarray, whole: np.ndarray, prior: Mapping[str, float]
) -> dict[str, float]:
    """Coefficients >= 0 that minimise the squared errors relative to `whole`, and `TRUST` times those against `prior`.

    A name without a prior has the prior 0; a name whose coefficient is 0 is left out.
    """
    from scipy.optimize import nnls

    names = sorted({name for row in found for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in found]) / whole[:, None]
    scale = np.array(
        [prior.get(name) or 1 / max(column.max(), 1e-300) for name, column in zip(names, matrix.T, strict=True)]
    )
    pulled = TRUST * np.diag([1.0 if name in prior else 0.2 for name in names])
    target = TRUST * np.array([1.0 if name in prior else 0.0 for name in names])
    solved, _ = nnls(np.vstack([matrix * scale, pulled]), np.concatenate([measured / whole, target]))
    return {n: float(f"{v * s:.6g}") for n, v, s in zip(names, solved, scale, strict=True) if v > 0}


def relative_errors(records: Sequence[Record], fitted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """(estimate - measured) / measured of area and energy, a value for each record."""
    areas, energies = [], []
    for record in records:
        point = record["point"]
        parts = parts_of(point)
        activity = fitted["activity"][point["unit"]]
        areas.append(sum(float(part.area(fitted["area"])) for part in parts) / record["area"] - 1)
        spent = sum(float(part.energy(fitted["energy"], activity)) for part in parts)
        energies.append(spent / sum(record[key] for key in ENERGIES) - 1)
    return {"area": np.array(areas), "energy": np.array(energies)}
