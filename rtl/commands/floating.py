"""`python -m rtl fp-pwl`, `fp-mac` and the operations they are made of: the floating-point baseline."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtl.blocks.multiplication import PRODUCTS
from rtl.blocks.storage import STYLES
from rtl.commands import options
from rtl.floating.mac import Mac, MacConfig
from rtl.floating.operators import Operator, OperatorConfig
from rtl.floating.pwl import FloatPwl, FloatPwlConfig
from sim.reference import InputError, PwlTable
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FORMATS

OPERATORS = (
    ("fp-mul", "multiply", "floating-point a * b"),
    ("fp-add", "add", "floating-point a + b"),
    ("fp-compare", "compare", "floating-point a >= b"),
)


def add(units: Any) -> None:
    """The subcommands, added to argparse's `units`."""
    pwl = _unit(units, "fp-pwl", "the piecewise-linear unit in floating point", _pwl)
    pwl.add_argument("--entries", type=int, metavar="N", help="table entries, 2..64 (8, or the table's)")
    pwl.add_argument("--table", type=Path, metavar="JSON", help="an integer table to round, to load or to wire in")
    pwl.add_argument("--storage", choices=STYLES, default="flops", help="where the table is kept (flops)")
    options.add_product(pwl)
    options.add_common(pwl, stages=3)
    mac = _unit(units, "fp-mac", "floating-point multiply-accumulate, addend + a * b", _mac)
    mac.add_argument("--accumulator", choices=FORMATS, help="of addend and result (as --format); fp32 takes fp16")
    options.add_product(mac)
    options.add_common(mac, stages=3)
    for name, operation, text in OPERATORS:
        operator = _unit(units, name, text, _operator)
        operator.set_defaults(operation=operation)
        if operation == "multiply":
            options.add_product(operator)
        else:
            operator.set_defaults(product="tree")  # there is none
        options.add_common(operator, stages=1)


def _unit(units: Any, name: str, text: str, make: Callable[[argparse.Namespace], options.Made]) -> Any:
    parser = units.add_parser(name, help=text)
    parser.set_defaults(make=make)
    parser.add_argument("--format", choices=FORMATS, default="fp32", help="of the numbers (fp32)")
    return parser


def _pwl(arguments: argparse.Namespace) -> options.Made:
    number = FORMATS[arguments.format]
    source: dict[str, Any] = {}
    table = None
    if arguments.table is not None:
        integers = PwlTable.load(arguments.table)
        table = FloatTable.of_table(number, integers)
        source = {"table_sha256": integers.digest, "stored": table.stored()}
    entries = arguments.entries
    if entries is None:
        entries = FloatPwlConfig.entries if table is None else table.entries
    wired = arguments.storage == "constants"
    if wired and table is None:
        raise InputError("--storage constants needs --table")
    config = FloatPwlConfig(entries, number, arguments.storage, table if wired else None, arguments.stages)
    if table is not None and not wired:
        source["words"] = [list(word) for word in config.words(table)]
    component = FloatPwl(config, f"{arguments.module}_latch", PRODUCTS[arguments.product])
    return "fp-pwl", component, source


def _mac(arguments: argparse.Namespace) -> options.Made:
    accumulator = FORMATS[arguments.accumulator or arguments.format]
    config = MacConfig(FORMATS[arguments.format], accumulator, arguments.stages)
    return "fp-mac", Mac(config, PRODUCTS[arguments.product]), None


def _operator(arguments: argparse.Namespace) -> options.Made:
    config = OperatorConfig(arguments.operation, FORMATS[arguments.format], arguments.stages)
    return arguments.unit, Operator(config, PRODUCTS[arguments.product]), None
