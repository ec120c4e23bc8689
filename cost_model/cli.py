"""`python -m cost_model {unit,...}`: area, power and timing of units, with the source of each figure."""

import argparse
import sys
from collections.abc import Sequence

from cost_model.power.gate_level import GateLevelError
from sim.common.command import Parser, run

EXAMPLE = """examples:
  python -m cost_model unit --format INT8
  python -m cost_model unit --format INT8 --liberty sg13g2_stdcell_typ_1p20V_25C.lib --period 8 --stages 2
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code, 1 if a netlist differs from its vectors."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return arguments.do(arguments)
    except GateLevelError as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m cost_model",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    from cost_model.commands import COMMANDS

    for add in COMMANDS:
        add(commands)
    return parser
