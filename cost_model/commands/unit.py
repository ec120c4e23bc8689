"""`python -m cost_model unit`: one configuration, its area and power, by component."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cost_model.commands import options
from cost_model.designs import FORMATS, Design, emitted_design, pwl_design, reference_unit
from cost_model.measure import Measured, measure
from rtl.storage import STYLES
from sim.reference import InputError, PwlTable
from sim.reference.command import print_json


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("unit", help="one piecewise-linear unit: area, power, and where they go")
    parser.set_defaults(do=_unit)
    parser.add_argument("verilog", nargs="?", type=Path, metavar="FILE.v", help="an emitted unit, with --table")
    parser.add_argument("--table", type=Path, metavar="JSON", help="the table that FILE.v is checked with")
    parser.add_argument("--format", choices=FORMATS, default="INT8", help="number format (INT8)")
    parser.add_argument("--entries", type=int, default=8, metavar="N", help="table entries, 2..64 (8)")
    for name in ("in", "coef", "out"):
        parser.add_argument(f"--{name}-width", type=int, metavar="BITS", help="of an integer unit (the format's)")
    parser.add_argument("--stages", type=int, default=3, metavar="N", help="pipeline stages (3)")
    parser.add_argument("--storage", choices=STYLES, default="flops", help="where the table is kept (flops)")
    options.add_flow(parser)
    options.add_power(parser)
    options.add_common(parser)


def _unit(arguments: argparse.Namespace) -> int:
    flow = options.flow(arguments)
    measured = measure(
        _design(arguments), flow, options.parameters(arguments), arguments.simulator, True, arguments.cache
    )
    clock = 1e9 / arguments.period
    if arguments.json:
        print_json(measured.row(clock))
    else:
        print_parts(measured, clock)
    return 0


def _design(arguments: argparse.Namespace) -> Design:
    if (arguments.verilog is None) != (arguments.table is None):
        raise InputError("FILE.v and --table must be given together")
    if arguments.verilog is not None:
        return emitted_design(arguments.verilog, PwlTable.load(arguments.table))
    widths = {name: getattr(arguments, f"{name}_width") for name in ("in", "coef", "out")}
    common: dict[str, Any] = {"entries": arguments.entries, "stages": arguments.stages, "storage": arguments.storage}
    if not any(widths.values()):
        return reference_unit(arguments.format, **common)
    if not arguments.format.startswith("INT"):
        raise InputError("--in-width, --coef-width and --out-width are for integer formats")
    default = int(arguments.format.removeprefix("INT"))
    shape: dict[str, Any] = {f"{name}_bits": width or default for name, width in widths.items()}
    return pwl_design(**common, **shape)


def print_parts(measured: Measured, clock_hz: float) -> None:
    """The parts of a unit as a table, and a line that says where they come from."""
    physical, unit = measured.power.physical, measured.synthesis.area_unit
    energy = "fJ/cycle" if physical else "NAND2 inputs/cycle"
    scale = 1e15 if physical else 1.0
    rows = []
    for part in measured.parts:
        rows.append([part.component, float(part.area), 100 * float(part.area) / measured.area, part.energy * scale])
    rows.append(["total", measured.area, 100.0, measured.power.energy * scale])
    options.print_table(["component", unit, "% area", energy], rows)
    source = measured.synthesis.source
    print()
    if physical:
        print(f"{measured.power.watts(clock_hz) * 1e3:.4g} mW at {clock_hz / 1e6:g} MHz, leakage included;")
    checked = measured.power.source["verified_vectors"]
    print(f"{measured.design.name}, {measured.design.stages} stages; library {source['library']}, {source['tool']};")
    print(f"netlist {source['netlist_sha256'][:12]} passed {checked} vectors in {measured.power.source['toggles']}.")
    print("shared: what the unit saves (or spends) where steps are not kept apart.", file=sys.stderr)
