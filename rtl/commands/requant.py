"""`python -m rtl requant`: accumulator to code."""

import argparse
from typing import Any

from rtl.commands import options
from rtl.requant import RequantConfig, Requantiser


def add(units: Any) -> None:
    """The subcommand, added to argparse's `units`."""
    requant = units.add_parser("requant", help="accumulator to code: multiply, shift, round, add, saturate")
    requant.set_defaults(make=_make)
    requant.add_argument("--in-width", type=int, default=32, metavar="BITS", help="accumulator, 4..64 bits (32)")
    requant.add_argument("--multiplier-width", type=int, default=16, metavar="BITS", help="multiplier, 1..16 bits (16)")
    requant.add_argument("--max-shift", type=int, default=47, metavar="K", help="largest shift, 0..47 (47)")
    requant.add_argument("--out-width", type=int, default=8, metavar="BITS", help="output, 4..32 bits (8)")
    requant.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    options.add_common(requant, stages=3)


def _make(arguments: argparse.Namespace) -> options.Made:
    config = RequantConfig(
        in_bits=arguments.in_width,
        multiplier_bits=arguments.multiplier_width,
        max_shift=arguments.max_shift,
        out_bits=arguments.out_width,
        out_signed=not arguments.out_unsigned,
        stages=arguments.stages,
    )
    return "requant", Requantiser(config), None
