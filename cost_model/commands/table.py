"""`python -m cost_model table`: the paper's hardware table beside ours."""

import argparse
from pathlib import Path
from typing import Any

from cost_model.cells import library
from cost_model.commands import options
from cost_model.designs.design import FORMATS
from cost_model.netlist.synthesis import Flow
from cost_model.power.gate_level import GLITCHES
from cost_model.reports import hardware_table as table
from cost_model.reports.equal_clock import unchecked
from sim.common.text_table import format_table
from sim.reference import InputError

SAVINGS = ("area_saving_vs_fp32", "area_saving_vs_int32", "power_saving_vs_fp32", "power_saving_vs_int32")


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("table", help="every format beside the paper's, at equal clock")
    parser.set_defaults(do=_table)
    parser.add_argument("--entries", type=int, nargs="+", choices=(8, 16), default=[8, 16], help="table entries (both)")
    parser.add_argument("--unit", nargs="+", choices=("pwl", "element"), default=["pwl", "element"], help="both")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=FORMATS, help="of piecewise-linear units (all)")
    parser.add_argument(
        "--glitches", action="store_true", help="of the library given, with its cells' delays; reference units alone"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="records at once (1)")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the records as JSON")
    options.add_libraries(parser)
    options.add_common(parser)


def _table(arguments: argparse.Namespace) -> int:
    if arguments.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {arguments.jobs}")
    given = options.flows(arguments)
    if arguments.glitches and not given:
        raise InputError("--glitches needs a library with delays: give --liberty")
    for flow, _ in given:
        options.warn(unchecked(flow))
        if flow.library.latch is None:
            options.warn(
                f"warning: library {flow.library.name}: no latch of known area; rows with latches are left out"
            )
    shipped = Flow(library.GATE_EQUIVALENTS, None, arguments.multiplier)
    flows = given if arguments.glitches else [(shipped, 1e9 / arguments.period[0]), *given]
    wanted = [e for e in table.entries(arguments.entries) if e.unit in arguments.unit]
    wanted = [e for e in wanted if e.unit == "element" or e.format in arguments.format]
    engine = arguments.simulator
    if arguments.glitches:
        wanted, engine = [e for e in wanted if not e.changes], GLITCHES
    records = table.records(flows, wanted, engine, arguments.cache, arguments.jobs)
    if arguments.glitches:  # the others are not of this kind
        records = [record for record in records if record["view"] == "synthesised"]
    asked = {name: getattr(arguments, name) for name in ("unit", "entries", "format", "period", "simulator")}
    options.deliver(arguments, records, print_records, options=asked)
    return 0


def print_records(records: list[table.Record]) -> None:
    """A line for each record, savings in percent."""
    columns = [
        "unit",
        "format",
        "N",
        "view",
        "library",
        "ns",
        "stages",
        "storage",
        "area",
        "mW",
        "proxy",
        "area/FP32",
        "area/INT32",
    ]
    columns += ["power/FP32", "power/INT32"]
    lines = []
    for record in records:
        storage = (record["storage"] or "") + (", fixed shift" if record["output_shift_fixed"] else "")
        watts = record["power_w"]
        lines.append(
            [
                record["unit"],
                record["format"],
                record["entries"],
                record["view"],
                record["library"][:16],
                None if record["clock_hz"] is None else round(1e9 / record["clock_hz"], 2),
                record["stages"],
                storage,
                round(record["area"]),
                None if watts is None else f"{watts * 1e3:.3g}",
                None if record["switching_proxy"] is None else round(record["switching_proxy"]),
                *(None if record[name] is None else f"{-100 * record[name]:.1f}%" for name in SAVINGS),
            ]
        )
    print(format_table(columns, lines))
    print("\narea in gate equivalents or um2; savings against the same library's FP32 and INT32 with as many entries;")
    print("where there are no watts, power savings are of the switching proxy (NAND2 inputs charged per cycle).")
