"""`python -m cost_model memories`: area and energy of SRAM macros, for the memories of whole networks."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cost_model.cells import sram
from sim.common.command import print_json
from sim.common.results import write_results
from sim.common.text_table import format_table


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("memories", help="SRAM macros of Liberty files: area and energy of an access")
    parser.set_defaults(do=_memories)
    parser.add_argument(
        "--liberty", type=Path, nargs="+", required=True, metavar="FILE", help="files of one macro each"
    )
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _memories(arguments: argparse.Namespace) -> int:
    rows = [asdict(sram.load(path)) for path in arguments.liberty]
    if arguments.output_file is not None:
        write_results(arguments.output_file, "python -m cost_model memories --liberty FILE ...", rows)
    if arguments.json:
        print_json(rows)
        return 0
    headings = ("macro", "words", "bits", "ports", "um2 a bit", "read, pJ a bit", "write, pJ a bit")
    lines = [
        [r["name"], r["words"], r["bits"], r["ports"], r["area_um2"] / (r["words"] * r["bits"]),
         r["read_j"] / r["bits"] * 1e12, r["write_j"] / r["bits"] * 1e12] for r in rows
    ]  # fmt: skip
    print(format_table(headings, lines))
    return 0
