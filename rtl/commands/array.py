"""`python -m rtl array`: the low-bit MAC array, or one of its processing elements."""

import argparse
from pathlib import Path
from typing import Any

from rtl.array.config import ArrayConfig
from rtl.array.fetch import MemoryGemm
from rtl.array.gemm import Gemm
from rtl.array.processing_element import Element
from rtl.commands import options
from rtl.pwl import PwlConfig
from sim.reference import InputError, LoweredTable, PwlTable

PARTS = ("array", "element")


def add(units: Any) -> None:
    """The subcommand, added to argparse's `units`."""
    array = units.add_parser("array", help="the low-bit MAC array: GEMM, requantisation, and GELU if wanted")
    array.set_defaults(make=_make)
    defaults = ArrayConfig()
    for option, name, what in (
        ("rows", "rows", "inputs at once"),
        ("columns", "columns", "output channels at once"),
        ("weight-bits", "weight_bits", "2, 3, 4 or 8"),
        ("activation-bits", "activation_bits", "4 or 8"),
        ("max-inputs", "max_inputs", "inputs of the largest layer, for the accumulator's bound"),
        ("depth", "depth", "tokens at once: accumulators of a column"),
        ("count-bits", "count_bits", "width of a job's dimensions"),
        ("address-bits", "address_bits", "width of an address, for --operands memory"),
        ("out-width", "out_bits", "output of the requantiser, 4..32 bits"),
    ):
        value = getattr(defaults, name)
        array.add_argument(f"--{option}", dest=name, type=int, default=value, metavar="N", help=f"{what} ({value})")
    array.add_argument("--weight-unsigned", action="store_true", help="weights are unsigned, with zero points")
    array.add_argument("--two-pass", action="store_true", help="8-bit activations in two passes of 4 bits")
    array.add_argument("--group", default="channel", metavar="SIZE", help="inputs of a group, or channel (channel)")
    array.add_argument("--group-multiplier-bits", type=int, metavar="N", help="0 for none (8; per channel 0)")
    array.add_argument("--bias-bits", type=int, metavar="N", help="width of the bias (that of the sum less one)")
    array.add_argument("--acc-bits", type=int, metavar="N", help="accumulator (the narrowest that cannot overflow)")
    array.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    array.add_argument("--table", type=Path, metavar="JSON", help="end in a piecewise-linear unit for this table")
    options.add_table(array)
    sources = ("stream", "memory")
    array.add_argument("--operands", choices=sources, default="stream", help="streams (default), or memories' ports")
    array.add_argument("--part", choices=PARTS, default="array", help="the whole array, or one element of it")
    options.add_common(array, stages=defaults.stages)


def _make(arguments: argparse.Namespace) -> options.Made:
    names = (
        "rows", "columns", "weight_bits", "activation_bits", "two_pass", "max_inputs", "bias_bits", "acc_bits", "depth",
        "count_bits", "address_bits", "out_bits", "stages",
    )  # fmt: skip
    if arguments.part == "element" and (arguments.operands != "stream" or arguments.table is not None):
        option = "--operands memory" if arguments.operands != "stream" else "--table"
        raise InputError(f"{option} must not be given with --part element, which has neither memories nor a table")
    group = _group(arguments.group)
    multiplier_bits = arguments.group_multiplier_bits
    if multiplier_bits is None:
        multiplier_bits = 0 if group is None else ArrayConfig.group_multiplier_bits
    table = None if arguments.table is None else PwlTable.load(arguments.table)
    lowered = _lowered(arguments, table)
    unit = None if table is None else _unit(arguments, table, lowered)
    config = ArrayConfig(
        **{name: getattr(arguments, name) for name in names},
        weight_signed=not arguments.weight_unsigned,
        group=group,
        group_multiplier_bits=multiplier_bits,
        out_signed=not arguments.out_unsigned,
        pwl=unit,
    )
    if arguments.part == "element":
        return "element", Element(config), None
    component = (MemoryGemm if arguments.operands == "memory" else Gemm)(config, f"{arguments.module}_latch")
    source = None if unit is None else options.source(unit, table, lowered)
    return "array", component, source


def _group(text: str) -> int | None:
    if text == "channel":
        return None
    if not text.isdecimal():
        raise InputError(f"--group must be a size or channel, not {text!r}")
    return int(text)


def _lowered(arguments: argparse.Namespace, table: PwlTable | None) -> LoweredTable | None:
    """The table at the scale that is asked for."""
    if table is None:
        for name in ("scale", "output_scale"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} needs --table")
        if arguments.storage != "flops" or arguments.output != "code":
            raise InputError("--storage and --output need --table")
        return None
    options.check_output(arguments, ("output_scale",))
    if arguments.scale is None:
        if arguments.output_scale is not None:
            raise InputError("--output-scale needs --scale")
        return None
    return table.lower(arguments.scale, arguments.output_scale)


def _unit(arguments: argparse.Namespace, table: PwlTable, lowered: LoweredTable | None) -> PwlConfig:
    """The unit that holds `table` at any of its scales, or the lowered one wired in."""
    if arguments.storage == "constants":
        if lowered is None or (arguments.output == "code" and arguments.output_scale is None):
            raise InputError("--storage constants needs --scale, and --output-scale or --output acc")
        return PwlConfig.hard_wired(lowered)
    shift = max(table.lower(s).intercept_shift for s in table.scales)
    return PwlConfig(
        entries=table.entries,
        **table.code_format.to_dict(),
        output=arguments.output,
        storage=arguments.storage,
        max_intercept_shift=max(shift, table.in_bits - 1),
    )
