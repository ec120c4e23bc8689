"""`python -m rtl pwl`: the integer piecewise-linear unit."""

import argparse
from pathlib import Path
from typing import Any

from rtl.blocks.multiplication import PRODUCTS
from rtl.commands import options
from rtl.pwl import Pwl, PwlConfig
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable, PwlTable
from sim.reference.code_format import WIDTH_RANGE
from sim.reference.two_powers import SLOPE_FORMS


def add(units: Any) -> None:
    """The subcommand, added to argparse's `units`."""
    pwl = units.add_parser("pwl", help="the integer piecewise-linear unit")
    pwl.set_defaults(make=_make)
    pwl.add_argument("--entries", type=int, metavar="N", help="table entries, 2..64 (8, or the table's)")
    for name, what in (("", "all three widths"), ("in-", "input"), ("coef-", "coefficients"), ("out-", "output")):
        pwl.add_argument(f"--{name}width", type=int, metavar="BITS", help=f"{what}, 4..32 bits (8, or the table's)")
    pwl.add_argument("--in-unsigned", action="store_true", help="input codes are unsigned")
    pwl.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    pwl.add_argument("--table", type=Path, metavar="JSON", help="the table to fit, to load or to wire in")
    options.add_table(pwl)
    pwl.add_argument("--intercept-shift", type=int, metavar="N", help="fix the intercept shift")
    pwl.add_argument("--output-shift", type=int, metavar="N", help="fix the output shift")
    for name in ("intercept", "output"):
        pwl.add_argument(f"--min-{name}-shift", type=int, metavar="N", help=f"smallest {name} shift (0)")
    pwl.add_argument("--max-intercept-shift", type=int, metavar="N", help="largest intercept shift (input width - 1)")
    pwl.add_argument("--max-output-shift", type=int, metavar="N", help="largest output shift (input + coefficient - 1)")
    pwl.add_argument(
        "--slope-form", choices=SLOPE_FORMS, default="any", help="two-powers: slopes ±2^a ± 2^b, no multiplier (any)"
    )
    options.add_product(pwl)
    options.add_common(pwl, stages=3)


def _make(arguments: argparse.Namespace) -> options.Made:
    table = None if arguments.table is None else PwlTable.load(arguments.table)
    options.check_output(arguments)
    lowered = _lowered(arguments, table)
    fields = _shape(arguments, table)
    for shift in ("intercept_shift", "output_shift", "max_intercept_shift", "max_output_shift"):
        fields[shift] = getattr(arguments, shift)
    fields |= {name: getattr(arguments, name) or 0 for name in ("min_intercept_shift", "min_output_shift")}
    if arguments.storage == "constants":
        fields |= _wired(arguments, lowered)
    elif table is not None and fields["intercept_shift"] is None and fields["max_intercept_shift"] is None:
        needed = max(table.lower(s).intercept_shift for s in table.scales)
        fields["max_intercept_shift"] = max(needed, fields["in_bits"] - 1)
    fields |= {name: getattr(arguments, name) for name in ("output", "storage", "stages", "slope_form")}
    config = PwlConfig(**fields)
    if table is not None:
        _check_signs(config, table)
        for fitting in [table.lower(scale) for scale in table.scales] if lowered is None else [lowered]:
            config.check_fit(fitting)
    source = options.source(config, table, lowered)
    if table is not None and lowered is not None:
        source["result"] = _meaning(config, table, lowered)
    component = Pwl(config, f"{arguments.module}_latch", PRODUCTS[arguments.product])
    return "pwl", component, source


def _meaning(config: PwlConfig, table: PwlTable, lowered: LoweredTable) -> str:
    """What the payloads stand for while the unit holds `lowered`."""
    unit = table.slope_frac_bits + lowered.s
    scale = f"2**{(lowered.output_shift or 0) - unit}"
    if config.output == "code" and lowered.output_shift is None:
        scale = f"2**(output_shift - {unit})"
    return f"x = i__payload * 2**{-lowered.s}; {table.function}(x) is o__payload * {scale}"


def _wired(arguments: argparse.Namespace, lowered: LoweredTable | None) -> dict[str, Any]:
    """What a table that is wired in fixes."""
    if lowered is None:
        raise InputError("--storage constants needs --table and --scale")
    wired: dict[str, Any] = {"constants": lowered, "intercept_shift": lowered.intercept_shift}
    if arguments.output == "code":
        if lowered.output_shift is None:
            raise InputError("--storage constants needs --output-scale, or --output acc")
        wired["output_shift"] = lowered.output_shift
    for name in ("intercept_shift", "output_shift"):
        given = getattr(arguments, name)
        if given is not None and given != wired.get(name):
            raise InputError(f"--{name.replace('_', '-')} must be the table's {wired.get(name)}, not {given}")
    return wired


def _shape(arguments: argparse.Namespace, table: PwlTable | None) -> dict[str, Any]:
    """Entries, widths and signs: as given, else the table's."""
    like = PwlConfig() if table is None else table
    fields: dict[str, Any] = {"entries": like.entries, **like.code_format.to_dict()}
    if arguments.entries is not None:
        fields["entries"] = arguments.entries
    for name in ("in", "coef", "out"):
        for option in ("width", f"{name}_width"):
            value = getattr(arguments, option)
            if value is not None:
                require_range(f"--{option.replace('_', '-')}", value, *WIDTH_RANGE)
                fields[f"{name}_bits"] = value
    for name, flag in (("in_signed", arguments.in_unsigned), ("out_signed", arguments.out_unsigned)):
        if flag:
            fields[name] = False
    return fields


def _check_signs(config: PwlConfig, table: PwlTable) -> None:
    """What `PwlConfig.check_fit` says of signs, in the options' words."""
    for side in ("in", "out") if config.output == "code" else ("in",):
        signed, option = getattr(table, f"{side}_signed"), f"--{side}-unsigned"
        if signed and not getattr(config, f"{side}_signed"):
            raise InputError(f"{option} must not be given, since the table's {side}put codes are signed")


def _lowered(arguments: argparse.Namespace, table: PwlTable | None) -> LoweredTable | None:
    for name in ("scale", "output_scale"):
        if table is None and getattr(arguments, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} needs --table")
    if arguments.output_scale is not None and arguments.scale is None:
        raise InputError("--output-scale needs --scale")
    if table is None or arguments.scale is None:
        return None
    return table.lower(arguments.scale, arguments.output_scale)
