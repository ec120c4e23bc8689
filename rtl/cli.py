"""`python -m rtl {pwl,normaliser,requant}`: a unit's Verilog, and beside it what a user must know to instantiate it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtl.emit import emit, module_name
from rtl.normaliser import NormaliserConfig, NormaliserUnit
from rtl.pwl import Pwl, PwlConfig
from rtl.requant import RequantConfig, Requantiser
from rtl.storage import STYLES
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable
from sim.reference.command import Parser, print_json, run
from sim.reference.pwl import WIDTH_RANGE, require_range

EXAMPLE = """examples:
  python -m rtl pwl --entries 8 --width 8 -o gelu8.v
  python -m rtl pwl --table gelu.json --scale 5 --output-scale 5 --storage constants -o gelu_s5.v
  python -m rtl normaliser --table div.json --input-bits 16 --input-frac-bits 8 --output-scale 7 -o div16.v
  python -m rtl requant --in-width 32 --out-width 8 -o requant.v

Beside x.v stands x.rtl.json: parameters, ports, latency, stall and reset, how the table is loaded, an instantiation.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    arguments.module = module_name(arguments.output_file)
    description = arguments.make(arguments)
    if arguments.json:
        print_json(description)
    print(f"{arguments.output_file}: {description['unit']}, latency {description['latency']}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    units = parser.add_subparsers(required=True, metavar="UNIT", dest="unit")

    pwl = units.add_parser("pwl", help="the integer piecewise-linear unit")
    pwl.set_defaults(make=_pwl)
    pwl.add_argument("--entries", type=int, metavar="N", help="table entries, 2..64 (8, or the table's)")
    for name, what in (("", "all three widths"), ("in-", "input"), ("coef-", "coefficients"), ("out-", "output")):
        pwl.add_argument(f"--{name}width", type=int, metavar="BITS", help=f"{what}, 4..32 bits (8, or the table's)")
    pwl.add_argument("--in-unsigned", action="store_true", help="input codes are unsigned")
    pwl.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    pwl.add_argument("--table", type=Path, metavar="JSON", help="the table to fit, to load or to wire in")
    _add_table(pwl)
    pwl.add_argument("--intercept-shift", type=int, metavar="N", help="fix the intercept shift")
    pwl.add_argument("--output-shift", type=int, metavar="N", help="fix the output shift")
    pwl.add_argument("--max-intercept-shift", type=int, metavar="N", help="largest intercept shift (input width - 1)")
    pwl.add_argument("--max-output-shift", type=int, metavar="N", help="largest output shift (input + coefficient - 1)")
    _add_common(pwl, stages=3)

    normaliser = units.add_parser("normaliser", help="1/x and 1/sqrt(x) of any positive fixed-point number")
    normaliser.set_defaults(make=_normaliser)
    normaliser.add_argument("--table", type=Path, metavar="JSON", required=True, help="a table with a normaliser step")
    normaliser.add_argument("--input-bits", type=int, default=16, metavar="BITS", help="input width, 2..32 (16)")
    normaliser.add_argument("--input-frac-bits", type=int, default=0, metavar="N", help="x = v * 2**-N (0)")
    normaliser.add_argument("--in-unsigned", action="store_true", help="the input is unsigned")
    normaliser.add_argument("--out-width", type=int, metavar="BITS", help="output, 4..32 bits (the table's)")
    normaliser.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    _add_table(normaliser)
    _add_common(normaliser, stages=4)

    requant = units.add_parser("requant", help="accumulator to code: multiply, shift, round, add, saturate")
    requant.set_defaults(make=_requant)
    requant.add_argument("--in-width", type=int, default=32, metavar="BITS", help="accumulator, 4..64 bits (32)")
    requant.add_argument("--multiplier-width", type=int, default=16, metavar="BITS", help="multiplier, 1..16 bits (16)")
    requant.add_argument("--max-shift", type=int, default=47, metavar="K", help="largest shift, 0..47 (47)")
    requant.add_argument("--out-width", type=int, default=8, metavar="BITS", help="output, 4..32 bits (8)")
    requant.add_argument("--out-unsigned", action="store_true", help="output codes are unsigned")
    _add_common(requant, stages=3)
    return parser


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", choices=STYLES, default="flops", help="where the table is kept (flops)")
    parser.add_argument("--output", choices=("code", "acc"), default="code", help="rounded code (default), accumulator")
    parser.add_argument("--scale", type=int, metavar="S", help="scale exponent of the table's input codes")
    parser.add_argument("--output-scale", type=int, metavar="S", help="scale exponent of the output codes")


def _add_common(parser: argparse.ArgumentParser, stages: int) -> None:
    parser.add_argument("--stages", type=int, default=stages, metavar="N", help=f"pipeline stages ({stages})")
    parser.add_argument("-o", dest="output_file", type=Path, required=True, metavar="FILE.v", help="the Verilog file")
    parser.add_argument("--json", action="store_true", help="print the description that is written beside the Verilog")


def _pwl(arguments: argparse.Namespace) -> dict[str, Any]:
    table = None if arguments.table is None else PwlTable.load(arguments.table)
    lowered = _lowered(arguments, table)
    fields = _shape(arguments, table)
    for shift in ("intercept_shift", "output_shift", "max_intercept_shift", "max_output_shift"):
        fields[shift] = getattr(arguments, shift)
    if arguments.storage == "constants":
        fields |= _wired(arguments, lowered)
    elif table is not None and fields["intercept_shift"] is None and fields["max_intercept_shift"] is None:
        needed = max(table.lower(s).intercept_shift for s in table.scales)
        fields["max_intercept_shift"] = max(needed, fields["in_bits"] - 1)
    config = PwlConfig(**fields, output=arguments.output, storage=arguments.storage, stages=arguments.stages)
    if table is not None:
        for fitting in [table.lower(scale) for scale in table.scales] if lowered is None else [lowered]:
            config.check_fit(fitting)
    return emit(
        arguments.output_file,
        "pwl",
        Pwl(config, latch_cell=f"{arguments.module}_latch"),
        _source(config, table, lowered),
    )


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


def _normaliser(arguments: argparse.Namespace) -> dict[str, Any]:
    table = PwlTable.load(arguments.table)
    scale = arguments.scale
    if scale is None:
        if len(table.scales) != 1:
            raise InputError(f"--scale must be given: {arguments.table} has the scales {list(table.scales)}")
        scale = table.scales[0]
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
    component = NormaliserUnit(config, latch_cell=f"{arguments.module}_latch")
    return emit(arguments.output_file, "normaliser", component, _source(config.pwl, table, reference.lowered))


def _requant(arguments: argparse.Namespace) -> dict[str, Any]:
    config = RequantConfig(
        in_bits=arguments.in_width,
        multiplier_bits=arguments.multiplier_width,
        max_shift=arguments.max_shift,
        out_bits=arguments.out_width,
        out_signed=not arguments.out_unsigned,
        stages=arguments.stages,
    )
    return emit(arguments.output_file, "requant", Requantiser(config))


def _source(config: PwlConfig, table: PwlTable | None, lowered: LoweredTable | None) -> dict[str, Any]:
    """The table that a unit was made for: its hash, what is stored of it, and the writes (select, address, data)."""
    source: dict[str, Any] = {} if table is None else {"table_sha256": table.digest}
    if lowered is not None:
        source["lowered"] = lowered.stored()
        if config.storage != "constants":
            source["words"] = [list(word) for word in config.words(lowered)]
    return source


def _shape(arguments: argparse.Namespace, table: PwlTable | None) -> dict[str, Any]:
    """Entries, widths and signs: as given, else the table's."""
    names = ("entries", "in_bits", "coef_bits", "out_bits", "in_signed", "out_signed")
    fields = {name: getattr(PwlConfig if table is None else table, name) for name in names}
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


def _lowered(arguments: argparse.Namespace, table: PwlTable | None) -> LoweredTable | None:
    for name in ("scale", "output_scale"):
        if table is None and getattr(arguments, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} needs --table")
    if arguments.output_scale is not None and arguments.scale is None:
        raise InputError("--output-scale needs --scale")
    if table is None or arguments.scale is None:
        return None
    return table.lower(arguments.scale, arguments.output_scale)
