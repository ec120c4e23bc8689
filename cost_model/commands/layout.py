"""`python -m cost_model layout`: units placed and routed, beside the same netlists without wires."""

import argparse
from pathlib import Path
from typing import Any

from cost_model.commands import options
from cost_model.designs.design import FORMATS
from cost_model.layout import lef
from cost_model.layout.placement import Core
from cost_model.reports.layout_table import LayoutOptions, layout_rows
from sim.common.text_table import format_table
from sim.reference import InputError


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("layout", help="units placed and routed, with their wires (needs graywolf, qrouter)")
    parser.set_defaults(do=_layout)
    parser.add_argument(
        "--lef", type=Path, action="append", metavar="FILE",
        help="the library's layers and cells, once for each file, the one with the layers first",
    )  # fmt: skip
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["INT8", "INT32", "FP32"], help="of the units")
    parser.add_argument("--entries", type=int, choices=(8, 16), default=8, help="table entries (8)")
    parser.add_argument("--filled", type=float, default=Core.filled, metavar="SHARE", help="of the rows, 0.3..1 (0.9)")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    options.add_flow(parser)
    options.add_common(parser)


def _layout(arguments: argparse.Namespace) -> int:
    if arguments.liberty is None or arguments.lef is None:
        raise InputError("--liberty and --lef must be given: the shipped library has no layout")
    chosen = LayoutOptions(lef.load(*arguments.lef), Core(arguments.filled), arguments.simulator)
    rows = layout_rows(arguments.format, arguments.entries, options.flow(arguments), chosen, arguments.cache)
    asked = {name: getattr(arguments, name) for name in ("format", "entries", "filled", "period", "simulator")}
    options.deliver(arguments, rows, print_rows, options=asked)
    return 0


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A line for each unit without wires and one after routing."""
    names = ["format", "stages", "", "um2", "mm of wire", "failed", "needs ns", "mW", "area/FP32", "area/INT32"]
    names += ["power/FP32", "power/INT32"]
    lines = []
    for row in rows:
        for view, area, power, path, wires in (
            ("no wires", "area", "power", "path_no_wires_ns", (None, None)),
            ("routed", "row_area", "power_routed", "path_routed_ns", (row["wire_mm"], row["failed_nets"])),
        ):
            saved = [row[f"{key}_saving_vs_{name}"] for key in (area, power) for name in ("fp32", "int32")]
            watts = f"{row[f'{power}_w'] * 1e3:.3g}"
            lines.append(
                [row["format"], row["stages"], view, round(row[f"{area}_um2"]), *wires, row[path], watts]
                + [None if share is None else f"{-100 * share:.1f}%" for share in saved]
            )
    print(format_table(names, lines))
    print("\nareas of cells without wires, of rows after routing; the clock is one net without a tree of buffers.")
