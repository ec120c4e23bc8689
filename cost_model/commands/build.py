"""`python -m cost_model build`: a point of an explored network as a folder for a hardware team."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.common.command import print_json
from sim.cosim.simulators import SIMULATORS
from sim.reference import InputError

if TYPE_CHECKING:
    from cost_model.handover.build import Order


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("build", help="tables, weights, Verilog, benches and cost of an explored point")
    parser.set_defaults(do=_build)
    parser.add_argument(
        "point", metavar="FILE#POINT", help="a file of python -m cost_model explore network, and a point"
    )
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="missing or empty")
    parser.add_argument(
        "--simulator", nargs="+", choices=SIMULATORS, default=["icarus"], help="that run the regression (icarus)"
    )
    parser.add_argument("--json", action="store_true", help="the regression's rows as JSON on stdout")


def _build(arguments: argparse.Namespace) -> int:
    from cost_model.handover.build import build
    from sim.cosim.regress import passed

    rows = build(ordered(arguments.point), arguments.folder, arguments.simulator, _say)
    failed = [row for row in rows if not passed(row)]
    for row in failed:
        problem = row["problem"] or f"{row['mismatches']} of {row['vectors']} wrong"
        print(f"FAILED {row['set']} {row['simulator']} {row['bench']}: {problem}", file=sys.stderr)
    if arguments.json:
        print_json(rows)
    if failed:
        return 1
    print(
        f"{arguments.folder}: {len(rows)} runs passed; sh {arguments.folder}/run.sh needs Icarus alone", file=sys.stderr
    )
    return 0


def ordered(text: str) -> "Order":
    """What FILE#POINT orders. Raises `InputError` if the file holds no such point, or one that cannot be built."""
    from cost_model.explore.network_space import NetworkPoint
    from cost_model.explore.network_subjects import subject_from
    from cost_model.explore.points_file import read_points
    from cost_model.handover.build import Order

    path, mark, digest = text.rpartition("#")
    if not mark:
        raise InputError(f"point must be FILE#POINT, not {text!r}")
    content = read_points(path)
    found = [row for row in content["rows"] if row["point"] == digest]
    if not found:
        raise InputError(f"{path}: must hold the point {digest}")
    if found[0]["refused"] is not None:
        raise InputError(f"{path}: point {digest} was refused: {found[0]['refused']}")
    try:
        subject = subject_from(content["search"]["subject"])
    except InputError as error:
        raise InputError(f"{path}: search.subject: {error}") from None
    return Order(subject, NetworkPoint.from_row(found[0]), found[0]["packed_sha256"])


def _say(step: str) -> None:
    print(step, file=sys.stderr)
