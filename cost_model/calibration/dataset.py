"""Measured points: designs drawn by `cost_model.calibration.design_space`, synthesised and simulated in a library."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.analytical.units import unit
from cost_model.cache import CACHE
from cost_model.calibration.design_space import Point, design, parameters
from cost_model.measurement import BIT_PARALLEL, measure
from cost_model.netlist.synthesis import Flow
from sim.common.files import read_json
from sim.reference import InputError

Record = dict[str, Any]
ENERGIES = ("logic", "registers", "clock")
NUMBERS = ("area", *ENERGIES, "leakage_w")
KEYS = ("point", *NUMBERS, "netlist_sha256")


def measured_record(point: Point, flow: Flow, cache: Path = CACHE) -> Record:
    """Area in the library's unit, energies per cycle in J and leakage in W of one point, whose netlist is checked."""
    found = measure(design(point), flow, None, BIT_PARALLEL, False, cache)
    power = found.power
    return {
        "point": point,
        "area": found.area,
        "logic": power.logic,
        "registers": power.registers,
        "clock": power.clock,
        "leakage_w": power.leakage_w if power.physical else 0.0,
        "netlist_sha256": found.synthesis.netlist.sha256,
    }


def measured_records(
    points: Sequence[Point], flow: Flow, cache: Path = CACHE, known: Sequence[Record] = ()
) -> list[Record]:
    """A record for each point, with a progress bar on stderr; one of `known` is not measured anew."""
    records = []
    for point in tqdm(points, unit="unit", desc=flow.library.name):
        before = next((record for record in known if record["point"] == point), None)
        records.append(before or measured_record(point, flow, cache=cache))
    return records


def read_dataset(path: Path) -> dict[str, list[Record]]:
    """The records of a dataset's file, by library.

    Raises `InputError` with the file and the key if it is not a dataset, names an unknown unit, or has a figure that is
    not a finite number from 0 on.
    """
    content = read_json(path)
    libraries = content.get("libraries") if isinstance(content, dict) else None
    if not isinstance(libraries, dict) or not libraries:
        raise InputError(f"{path}: libraries must be an object with records for each library")
    for name, records in libraries.items():
        if not isinstance(records, list) or not records:
            raise InputError(f"{path}: libraries.{name} must be a list of records")
        for k, record in enumerate(records):
            _check(record, f"{path}: libraries.{name}[{k}]")
    return libraries


def _check(record: Any, where: str) -> None:
    if not isinstance(record, dict) or set(record) != set(KEYS):
        raise InputError(f"{where}: must have exactly the keys {', '.join(KEYS)}")
    for key in NUMBERS:
        value = record[key]
        if key == "leakage_w" and value is None:
            continue  # the library does not give it
        if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < math.inf):
            raise InputError(f"{where}.{key} must be a number from 0 on, not {value!r}")
    if not record["area"]:
        raise InputError(f"{where}.area must be above 0")
    point = record["point"]
    if not isinstance(point, dict) or not isinstance(point.get("unit"), str):
        raise InputError(f"{where}.point must be an object with a unit and its parameters")
    try:
        unit(point["unit"], **parameters(point)).components()
    except InputError as error:
        raise InputError(f"{where}.point: {error}") from None
    except (TypeError, ValueError) as error:  # a parameter of another type than the unit's
        raise InputError(f"{where}.point: {str(error).splitlines()[0]}") from None
