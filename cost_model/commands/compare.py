"""`python -m cost_model compare`: packed models side by side, and FP16 beside them."""

import argparse
from pathlib import Path
from typing import Any

from cost_model.analytical.estimate import coefficients
from cost_model.network.comparison import comparison
from cost_model.network.machine import Machine
from sim.common.command import print_json
from sim.common.errors import require_range
from sim.common.results import write_results
from sim.common.text_table import format_table


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("compare", help="packed models side by side: bytes, cycles and energy of their layers")
    parser.set_defaults(do=_compare)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="from python -m quant")
    machine = Machine()
    for option, default, what in (
        ("tokens", 128, "tokens of a sequence"),
        ("rows", machine.rows, "rows of the array, its inputs"),
        ("columns", machine.columns, "columns of the array, its output channels"),
    ):
        parser.add_argument(f"--{option}", type=int, default=default, metavar="N", help=f"{what} ({default})")
    libraries = ", ".join(coefficients()["libraries"])
    parser.add_argument("--library", default=machine.library, metavar="NAME", help=f"one of {libraries} (the first)")
    parser.add_argument("-o", dest="path", type=Path, metavar="JSON", help="keep the rows as a file of results")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _compare(arguments: argparse.Namespace) -> int:
    require_range("--tokens", arguments.tokens, 1, 1 << 24)
    machine = Machine(arguments.rows, arguments.columns, library=arguments.library)
    rows = comparison(arguments.folders, machine, arguments.tokens)
    if arguments.path is not None:
        names = " ".join(folder.resolve().name for folder in arguments.folders)
        options = {"rows": machine.rows, "columns": machine.columns, "tokens": arguments.tokens,
                   "library": machine.library, "clock_hz": machine.clock_hz}  # fmt: skip
        write_results(
            arguments.path, f"python -m cost_model compare {names} --library {machine.library}", rows, options=options
        )
    if arguments.json:
        print_json(rows)
        return 0
    columns = ("folder", "numbers", "bytes", "bits a weight", "smaller", "with the rest", "cycles", "uJ", "less energy")
    cells = [
        (
            row["folder"], row["numbers"], row["bytes"], f"{row['bits_per_weight']:.3f}", f"{row['times_smaller']:.2f}",
            f"{row['times_smaller_with_the_rest']:.2f}", row["cycles"],
            f"{row['energy'] * 1e6:.4g}" if machine.physical else "-", f"{row['times_less_energy']:.2f}",
        )
        for row in rows
    ]  # fmt: skip
    print(format_table(columns, cells))
    return 0
