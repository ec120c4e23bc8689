"""`python -m cost_model plot`: area and energy by component, and savings over entries and width."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cost_model.commands import options
from cost_model.designs.design import FORMATS, reference_unit
from cost_model.measurement import measure
from cost_model.reports.equal_clock import stage_count, unchecked
from sim.common.files import locked


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("plot", help="breakdown.png and savings.png")
    parser.set_defaults(do=_plot)
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="where to write them")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["INT8", "INT16", "FP16"], help="formats shown")
    options.add_flow(parser)
    options.add_power(parser)
    options.add_common(parser)


def _plot(arguments: argparse.Namespace) -> int:
    from cost_model.reports import plot

    flow, parameters = options.flow(arguments), options.parameters(arguments)
    options.warn(unchecked(flow))
    measured = []
    with locked(arguments.folder):
        for number in arguments.format:
            design = reference_unit(number, 8, stage_count("pwl", number, 8, flow, arguments.cache))
            measured.append(measure(design, flow, parameters, options.engine(arguments), True, arguments.cache))
        paths = [
            plot.breakdown(measured, arguments.folder / "breakdown.png"),
            plot.savings(arguments.folder / "savings.png"),
        ]
    for path in paths:
        print(path, file=sys.stderr)
    return 0
