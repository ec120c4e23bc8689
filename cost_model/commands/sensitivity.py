"""`python -m cost_model sensitivity`: the paper's four savings, one factor changed at a time."""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.cells import library
from cost_model.commands import options
from cost_model.netlist.synthesis import Flow
from cost_model.reports import paper, sensitivity
from cost_model.reports.equal_clock import unchecked
from sim.common.text_table import format_table


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("sensitivity", help="how each saving moves with depth, multiplier, storage, ...")
    parser.set_defaults(do=_sensitivity)
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the records as JSON")
    options.add_flow(parser)
    options.add_common(parser)


def _sensitivity(arguments: argparse.Namespace) -> int:
    flows = [Flow(library.GATE_EQUIVALENTS, None, arguments.multiplier)]
    if arguments.liberty is not None:
        flows.append(options.flow(arguments))
        options.warn(unchecked(flows[-1]))
    work = [(f, flow) for flow in flows for f in sensitivity.FACTORS if sensitivity.applies(f, flow)]
    clock = options.clock_hz(arguments)
    records = [sensitivity.record(*pair, clock, arguments.cache) for pair in tqdm(work, unit="record", disable=None)]
    options.deliver(arguments, records, _print)
    return 0


def _print(records: list[sensitivity.Record]) -> None:
    names = list(paper.savings())
    lines = [["paper", "", "TSMC 28 nm", *(_points(value, None) for value in paper.savings().values())]]
    for record in records:
        lines.append(
            [record["factor"], record["value"], record["library"][:16], *(_points(record[n], n) for n in names)]
        )
    print(format_table(["factor", "value", "library", "area/FP32", "power/FP32", "area/INT32", "power/INT32"], lines))
    print(f"\nsavings of INT8 in percent; * more than {paper.POINTS:g} points from the paper's.")


def _points(value: float, name: str | None) -> str:
    far = name is not None and abs(value - paper.savings()[name]) * 100 > paper.POINTS
    return f"{100 * value:.1f}{'*' if far else ' '}"
