"""`python -m rtl UNIT`: a unit's Verilog, and beside it what a user must know to instantiate it."""

import argparse
import sys
from collections.abc import Sequence

from rtl import commands
from rtl.emit import emit, module_name
from sim.common.command import Parser, print_json, run

EXAMPLE = """examples:
  python -m rtl pwl --entries 8 --width 8 -o gelu8.v
  python -m rtl pwl --table gelu.json --scale 5 --output-scale 5 --storage constants -o gelu_s5.v
  python -m rtl normaliser --table div.json --input-bits 16 --input-frac-bits 8 --output-scale 7 -o div16.v
  python -m rtl requant --in-width 32 --out-width 8 -o requant.v
  python -m rtl softmax --exp exp.json --scale 4 --div div.json --row-length 128 -o softmax.v
  python -m rtl layernorm --rsqrt rsqrt.json --length 384 -o layernorm.v
  python -m rtl fp-pwl --format fp16 --table gelu.json -o gelu_fp16.v
  python -m rtl fp-mac --format fp16 --accumulator fp32 -o mac.v
  python -m rtl array --weight-bits 4 --activation-bits 8 --rows 16 --columns 16 --group 64 -o array.v

Beside x.v stands x.rtl.json: parameters, ports, latency, stall and reset, how the table is loaded, an instantiation.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    arguments.module = module_name(arguments.output_file)
    unit, component, source = arguments.make(arguments)
    description = emit(arguments.output_file, unit, component, source, axis=arguments.ports == "axis")
    if arguments.json:
        print_json(description)
    schedule = description.get("schedule")
    rows = f" + {len(schedule['delays'])} * row" if schedule else ""
    print(f"{arguments.output_file}: {description['unit']}, latency {description['latency']}{rows}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    units = parser.add_subparsers(required=True, metavar="UNIT", dest="unit")
    for unit in commands.COMMANDS:
        unit.add(units)
    return parser
