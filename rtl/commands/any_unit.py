"""`python -m rtl NAME` for a unit that has no file here: an option for each number of its configuration."""

import argparse
from dataclasses import fields
from typing import Any

from rtl.commands import options
from rtl.units import UNITS


def add(units: Any) -> None:
    """A subcommand for each unit that brings its specification, added to argparse's `units`."""
    for name, unit in UNITS.items():
        if not unit.is_reference or name in units.choices:
            continue
        parser = units.add_parser(name, help=(unit.component_class.__doc__ or name).splitlines()[0])
        parser.set_defaults(make=_make)
        numbers = {field.name: field.default for field in fields(unit.config_class) if type(field.default) is int}
        stages: Any = numbers.pop("stages", 1)
        for key, value in numbers.items():
            parser.add_argument(f"--{key.replace('_', '-')}", type=int, default=value, metavar="N", help=f"({value})")
        parser.set_defaults(numbers=(*numbers, "stages"))
        options.add_common(parser, stages=stages)


def _make(arguments: argparse.Namespace) -> options.Made:
    unit = UNITS[arguments.unit]
    config = unit.configuration({key: getattr(arguments, key) for key in arguments.numbers})
    return arguments.unit, unit.component_class(config), None
