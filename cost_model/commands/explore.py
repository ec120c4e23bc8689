"""`python -m cost_model explore`: the smallest hardware that is accurate enough."""

import argparse
import json
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE
from cost_model.commands import explore_network, options
from cost_model.explore.budget import Budget
from cost_model.explore.paper_units import known_units, paper_units
from cost_model.explore.unit import STORAGES, Confirmation, explore_unit
from cost_model.explore.unit_fits import UnitSpace
from cost_model.explore.unit_measured import OWN, RECIPES
from sim.common.results import read_results
from sim.common.text_table import format_table
from sim.reference import InputError
from sim.reference.folding import SYMMETRIES

UNSHOWN = ["table", "table_sha256", "wrongly_rounded", "objective"]  # on a terminal


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("explore", help="the smallest hardware that is accurate enough")
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    _add_unit(kinds)
    _add_paper(kinds)
    explore_network.add(kinds)


def _add_unit(kinds: Any) -> None:
    parser = kinds.add_parser("unit", help="a piecewise-linear unit for a function and an error budget")
    parser.set_defaults(do=_unit)
    parser.add_argument("function", help="what the unit approximates, such as gelu")
    parser.add_argument(
        "--budget", nargs="+", metavar="NAME=X",
        help="limits: mse_full, mse_inside, max_ulp, correctly_rounded (the released 8-entry table's errors)",
    )  # fmt: skip
    parser.add_argument("--entries", type=int, nargs="+", metavar="N", help="table sizes, ascending (2 to 16)")
    parser.add_argument("--symmetry", nargs="+", choices=SYMMETRIES, help="how a table is folded (each that is right)")
    parser.add_argument("--scales", type=int, nargs="+", metavar="S", help="scale exponents (the function's own)")
    parser.add_argument("--storage", nargs="+", choices=STORAGES, default=["flops"], help="of what is measured (flops)")
    parser.add_argument("--confirm", type=int, default=1, metavar="N", help="units to synthesise and simulate (1)")
    parser.add_argument("--recipes", action="store_true", help="the least area over several ways to map, not of one")
    options.add_flow(parser)
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"fits and netlists ({CACHE})")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _unit(arguments: argparse.Namespace) -> int:
    budget = Budget.released(arguments.function) if arguments.budget is None else Budget.parse(arguments.budget)
    given = {"entries": arguments.entries, "symmetries": arguments.symmetry, "scales": arguments.scales}
    chosen: dict[str, Any] = {name: tuple(values) for name, values in given.items() if values is not None}
    space = UnitSpace(**chosen)
    library = None if arguments.liberty is None else options.flow(arguments)
    recipes = RECIPES if arguments.recipes else (OWN,)
    confirmation = Confirmation(arguments.confirm, tuple(arguments.storage), library, recipes)
    frame = explore_unit(arguments.function, budget, space, confirmation, arguments.cache)
    rows = json.loads(frame.to_json(orient="records") or "[]")
    options.deliver(arguments, rows, lambda _: print(frame.drop(columns=UNSHOWN).to_string(index=False)))
    return 0


def _add_paper(kinds: Any) -> None:
    parser = kinds.add_parser("paper", help="units at the released tables' errors, beside FP32")
    parser.set_defaults(do=_paper)
    parser.add_argument(
        "--units", type=Path, metavar="FILE", help="rows of an earlier run, whose units are measured in another library"
    )
    options.add_flow(parser)
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"fits and netlists ({CACHE})")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _paper(arguments: argparse.Namespace) -> int:
    if arguments.liberty is None:
        raise InputError("--liberty must be given: equal clock needs a library with delays")
    flow = options.flow(arguments)
    if arguments.units is not None:
        rows = list(known_units(flow, read_results(arguments.units)["rows"], arguments.cache))
    else:
        rows = list(paper_units(flow, cache=arguments.cache))
    options.deliver(arguments, rows, _print_paper)
    return 0


def _print_paper(rows: list[dict[str, Any]]) -> None:
    names = ("unit", "entries", "slope_bits", "intercept_bits", "stages", "slack_ns", "area_ge", "area_um2")
    savings = ("saving_ge", "saving_um2", "saving_ge_fewest_entries", "saving_um2_fewest_entries")
    lines = [
        [*(row.get(name) for name in names), *(None if row.get(s) is None else f"{100 * row[s]:.1f}%" for s in savings)]
        for row in rows
    ]
    print(format_table([*names, "saves ge", "saves um2", "of fewest ge", "of fewest um2"], lines))
