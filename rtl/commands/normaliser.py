"""`python -m rtl normaliser`: 1/x and 1/sqrt(x) of any positive fixed-point number."""

import argparse
from pathlib import Path
from typing import Any

from rtl.blocks.multiplication import PRODUCTS
from rtl.commands import options
from rtl.normaliser import NormaliserConfig, NormaliserUnit
from sim.reference import InputError, Normaliser, PwlTable
from sim.reference.normaliser import POWERS


def add(units: Any) -> None:
    """The subcommand, added to argparse's `units`."""
    normaliser = units.add_parser("normaliser", help="1/x and 1/sqrt(x) of any positive fixed-point number")
    normaliser.set_defaults(make=_make)
    normaliser.add_argument("--table", type=Path, metavar="JSON", required=True, help="a table with a normaliser step")
    normaliser.add_argument("--input-bits", type=int, default=16, metavar="BITS", help="input width, 2..62 (16)")
    normaliser.add_argument("--input-frac-bits", type=int, default=0, metavar="N", help="x = v * 2**-N (0)")
    normaliser.add_argument("--in-unsigned", action="store_true", help="the input is unsigned")
    normaliser.add_argument("--out-width", type=int, metavar="BITS", help="output, 4..32 bits (the table's)")
    normaliser.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    options.add_table(normaliser)
    options.add_product(normaliser)
    options.add_common(normaliser, stages=4)


def _make(arguments: argparse.Namespace) -> options.Made:
    table = PwlTable.load(arguments.table)
    if table.function not in POWERS or table.normaliser_step is None:
        raise InputError(
            f"--table must be of {' or '.join(POWERS)} with a normaliser step: {arguments.table} is of "
            f"{table.function!r} with {'none' if table.normaliser_step is None else table.normaliser_step}"
        )
    options.check_output(arguments)
    if arguments.output == "code" and arguments.output_scale is None:
        raise InputError("--output-scale must be given, unless with --output acc")
    scale = options.only_scale(arguments.scale, "--scale", table, arguments.table)
    reference = Normaliser(table, scale, arguments.input_bits, arguments.input_frac_bits, not arguments.in_unsigned)
    config = NormaliserConfig(
        reference,
        output=arguments.output,
        output_scale=arguments.output_scale,
        out_bits=table.out_bits if arguments.out_width is None else arguments.out_width,
        out_signed=table.out_signed and not arguments.out_unsigned,
        storage=arguments.storage,
        stages=arguments.stages,
    )
    component = NormaliserUnit(config, f"{arguments.module}_latch", PRODUCTS[arguments.product])
    return "normaliser", component, options.source(config.pwl, table, reference.lowered)
