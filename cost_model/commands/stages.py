"""`python -m cost_model stages`: the fewest stages that meet the period, by format, for tables at equal clock."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cost_model.commands import options
from cost_model.designs.design import FLOAT_FORMATS, FORMATS
from cost_model.designs.processing_element import FLOAT_ELEMENTS
from cost_model.reports import equal_clock
from sim.common.text_table import format_table
from sim.reference import InputError

START = {"INT8": 1, "INT16": 3, "INT32": 6, "FP16": 4, "FP32": 9}


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("stages", help="the fewest pipeline stages that meet the period (needs OpenSTA)")
    parser.set_defaults(do=_stages)
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write them, as data/stages.json is")
    parser.add_argument("--entries", type=int, nargs="+", default=[8, 16], metavar="N", help="table entries (8 16)")
    options.add_flow(parser)
    options.add_common(parser)


def _stages(arguments: argparse.Namespace) -> int:
    if arguments.liberty is None:
        raise InputError("--liberty must be given: the shipped library has no delays")
    flow = options.flow(arguments)
    records = []
    for unit, number, entries in _units(arguments.entries):
        start = 4 if unit == "element" else START[number]
        stages, found = equal_clock.count(unit, number, entries, flow, start, arguments.cache)
        record = dict(unit=unit, format=number, entries=entries, multiplier=flow.multiplier, stages=stages)
        records.append({**record, "slack_s": round(found.slack_s, 13), "tool": found.tool})
        print(f"{unit} {number} {entries}: {stages} stages, slack {found.slack_s * 1e9:.2f} ns", file=sys.stderr)
    cells = flow.library
    content = {"library": cells.name, "library_sha256": cells.sha256, "period_s": flow.period_s, "records": records}
    options.deliver(arguments, content, _print)
    return 0


def _print(content: dict[str, Any]) -> None:
    names = ["unit", "format", "entries", "multiplier", "stages", "slack_s"]
    print(format_table(names, [[record[name] for name in names] for record in content["records"]]))


def _units(entries: list[int]) -> list[tuple[str, str, int]]:
    units = [("pwl", number, n) for n in entries for number in FORMATS]
    return units + [("element", number, 0) for number in FLOAT_ELEMENTS if number in FLOAT_FORMATS]
