"""`python -m cost_model explore`: the smallest hardware that is accurate enough."""

import argparse
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE
from cost_model.commands import options
from cost_model.explore.budget import Budget


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("explore", help="the smallest hardware that is accurate enough")
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    _add_unit(kinds)


def _add_unit(kinds: Any) -> None:
    parser = kinds.add_parser("unit", help="a piecewise-linear unit for a function and an error budget")
    parser.set_defaults(do=_unit)
    parser.add_argument("function", help="what the unit approximates, such as gelu")
    parser.add_argument(
        "--budget", nargs="+", metavar="NAME=X",
        help="limits: mse_full, mse_inside, max_ulp, correctly_rounded (the released 8-entry table's errors)",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"fits and netlists ({CACHE})")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _unit(arguments: argparse.Namespace) -> int:
    from cost_model.explore.unit import explore_unit

    budget = Budget.released(arguments.function) if arguments.budget is None else Budget.parse(arguments.budget)
    frame = explore_unit(arguments.function, budget, cache=arguments.cache)
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    options.deliver(arguments, rows, lambda _: print(frame.to_string(index=False)))
    return 0
