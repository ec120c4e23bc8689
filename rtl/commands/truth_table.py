"""`python -m rtl truth-table`: a fixed function as one case."""

import argparse
from pathlib import Path
from typing import Any

from rtl.commands import options
from rtl.truth_table import TruthTableConfig, TruthTableUnit
from sim.reference.truth_table import TruthTable


def add(units: Any) -> None:
    """The subcommand, added to argparse's `units`."""
    parser = units.add_parser("truth-table", help="a fixed function as one case, from python -m ga_search exact")
    parser.set_defaults(make=_make)
    parser.add_argument("--codes", type=Path, required=True, metavar="JSON", help="the outputs of every code")
    options.add_common(parser, stages=1)


def _make(arguments: argparse.Namespace) -> options.Made:
    config = TruthTableConfig(TruthTable.load(arguments.codes), arguments.stages)
    return "truth-table", TruthTableUnit(config), None
