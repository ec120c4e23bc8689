"""`python -m cost_model unit`: one configuration, its area and power, by component."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cost_model.commands import fpga, options
from cost_model.designs.design import FORMATS, Design, PwlOptions, pwl_design, reference_unit
from cost_model.designs.from_file import file_design
from cost_model.measurement import Measured, measure
from cost_model.netlist import timing
from cost_model.netlist.fpga import FPGAS
from rtl.blocks.storage import STYLES
from rtl.commands.rowwise import read_parameters
from sim.common.command import print_json
from sim.common.text_table import format_table
from sim.cosim.check import Given
from sim.reference import InputError, PwlTable


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("unit", help="one unit: area, power, and where they go")
    parser.set_defaults(do=_unit)
    parser.add_argument(
        "verilog",
        nargs="?",
        type=Path,
        metavar="FILE.v",
        help="a unit from python -m rtl; its netlist must pass what sim check tries",
    )
    parser.add_argument(
        "--table", type=Path, action="append", metavar="JSON", help="a table that FILE.v is checked with (softmax: two)"
    )
    parser.add_argument(
        "--parameters", type=Path, metavar="JSON", help="gain, bias, epsilon and shift of a norm's FILE.v"
    )
    options.add_memories(parser)
    parser.add_argument("--format", choices=FORMATS, default="INT8", help="number format (INT8)")
    parser.add_argument("--entries", type=int, default=8, metavar="N", help="table entries, 2..64 (8)")
    for name in ("in", "coef", "out"):
        parser.add_argument(f"--{name}-width", type=int, metavar="BITS", help="of an integer unit (the format's)")
    parser.add_argument("--stages", type=int, default=3, metavar="N", help="pipeline stages (3)")
    parser.add_argument("--storage", choices=STYLES, default="flops", help="where the table is kept (flops)")
    parser.add_argument("--fpga", choices=FPGAS, help="instead of a library: its cells and clock after routing")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the row as JSON")
    options.add_flow(parser)
    options.add_power(parser)
    options.add_common(parser)


def _unit(arguments: argparse.Namespace) -> int:
    if arguments.fpga is not None:
        return fpga.report(arguments, _products(arguments))
    flow = options.flow(arguments)
    measured = measure(
        _design(arguments), flow, options.parameters(arguments), options.engine(arguments), True, arguments.cache
    )
    clock = options.clock_hz(arguments)
    options.warn(timing.missed_period(measured.synthesis.netlist, flow, arguments.cache))
    if arguments.output_file is not None:
        options.save(arguments, [measured.row(clock)])
    if arguments.json:
        print_json(measured.row(clock))
    else:
        print_parts(measured, clock)
    return 0


def _products(arguments: argparse.Namespace) -> dict[str, Design]:
    """The unit with its own multiplier tree, and with a plain product, which an FPGA's tools may take for their own."""
    if arguments.verilog is not None:
        return {"as given": _design(arguments)}
    return {"tree": _design(arguments), "plain": _design(arguments, own_tree=False)}


def _design(arguments: argparse.Namespace, **changes: Any) -> Design:
    if arguments.verilog is not None:
        tables = tuple(PwlTable.load(path) for path in arguments.table or ())
        values = None if arguments.parameters is None else read_parameters(arguments.parameters)
        return file_design(arguments.verilog, Given(tables, values), arguments.memories == "flops")
    if (arguments.table, arguments.parameters, arguments.memories) != (None, None, None):
        raise InputError("--table, --parameters and --memories are for a FILE.v, which must be given too")
    widths = {name: getattr(arguments, f"{name}_width") for name in ("in", "coef", "out")}
    common: dict[str, Any] = {"entries": arguments.entries, "stages": arguments.stages, "storage": arguments.storage}
    common |= changes
    if not any(widths.values()):
        return reference_unit(arguments.format, **common)
    if not arguments.format.startswith("INT"):
        raise InputError("--in-width, --coef-width and --out-width are for integer formats")
    default = int(arguments.format.removeprefix("INT"))
    shape: dict[str, Any] = {f"{name}_bits": width or default for name, width in widths.items()}
    return pwl_design(PwlOptions(**common, **shape))


def print_parts(measured: Measured, clock_hz: float) -> None:
    """The parts of a unit as a table, and a line that says where they come from."""
    physical, unit = measured.power.physical, measured.synthesis.area_unit
    energy = "fJ/cycle" if physical else "NAND2 inputs/cycle"
    scale = 1e15 if physical else 1.0
    rows = []
    for part in measured.parts:
        rows.append([part.component, float(part.area), 100 * float(part.area) / measured.area, part.energy * scale])
    rows.append(["total", measured.area, 100.0, measured.power.energy * scale])
    print(format_table(["component", unit, "% area", energy], rows))
    source = measured.synthesis.source
    print()
    if physical:
        print(
            f"{measured.power.watts(clock_hz) * 1e3:.4g} mW at {clock_hz / 1e6:g} MHz, {measured.power.leakage_note};"
        )
    checked = measured.power.source["verified_vectors"]
    design = measured.design
    schedule = design.device.schedule
    depth = f"{design.stages} stages"
    if schedule is not None:
        depth = f"latency {design.stages} + {schedule.passes} x row"
    print(f"{design.name}, {depth}; library {source['library']}, {source['tool']};")
    if design.random_work:
        print("energy: of random operands, which move more than real ones;")
    print(f"netlist {source['netlist_sha256'][:12]} passed {checked} vectors in {measured.power.source['toggles']}.")
    if design.in_rows:
        print(options.memory_note(design))
        return
    print("shared: what the unit saves (or spends) where steps are not kept apart.", file=sys.stderr)
