"""`python -m rtl {pwl}`: a unit's Verilog, and beside it what a user must know to instantiate it."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.reference import InputError, LoweredTable, PwlTable
from sim.reference.command import Parser, print_json, run
from sim.reference.pwl import WIDTH_RANGE, require_range

EXAMPLE = """examples:
  python -m rtl pwl --entries 8 --width 8 -o gelu8.v
  python -m rtl pwl --table tables/gelu-8.json --scale 5 --output-scale 5 --storage constants -o gelu8s5.v
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
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
    _add_widths(pwl)
    pwl.add_argument("--output", choices=("code", "acc"), default="code", help="rounded code (default) or accumulator")
    _add_table(pwl)
    pwl.add_argument("--intercept-shift", type=int, metavar="N", help="fix the intercept shift")
    pwl.add_argument("--output-shift", type=int, metavar="N", help="fix the output shift")
    pwl.add_argument("--max-intercept-shift", type=int, metavar="N", help="largest intercept shift (input width - 1)")
    pwl.add_argument("--max-output-shift", type=int, metavar="N", help="largest output shift (input + coefficient - 1)")
    _add_common(pwl, stages=3)
    return parser


def _add_widths(parser: argparse.ArgumentParser) -> None:
    for name, what in (("", "all three widths"), ("in-", "input"), ("coef-", "coefficients"), ("out-", "output")):
        parser.add_argument(f"--{name}width", type=int, metavar="BITS", help=f"{what}, 4..32 bits (8, or the table's)")
    parser.add_argument("--unsigned-input", action="store_true", help="input codes are unsigned")
    parser.add_argument("--unsigned-output", action="store_true", help="output codes are unsigned")


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--storage", choices=("flops", "latches", "constants"), default="flops", help="table (flops)")
    parser.add_argument("--table", type=Path, metavar="JSON", help="the table to fit, to load or to wire in")
    parser.add_argument("--scale", type=int, metavar="S", help="scale exponent of the input codes, for --table")
    parser.add_argument("--output-scale", type=int, metavar="S", help="scale exponent of the output, for --table")


def _add_common(parser: argparse.ArgumentParser, stages: int) -> None:
    parser.add_argument("--stages", type=int, default=stages, metavar="N", help=f"pipeline stages ({stages})")
    parser.add_argument("-o", dest="output_file", type=Path, required=True, metavar="FILE.v", help="the Verilog file")
    parser.add_argument("--json", action="store_true", help="print the description that is written beside the Verilog")


def _pwl(arguments: argparse.Namespace) -> dict[str, Any]:
    from rtl import emit
    from rtl.pwl import Pwl, PwlConfig

    name = emit.module_name(arguments.output_file)
    table = None if arguments.table is None else PwlTable.load(arguments.table)
    lowered = _lowered(arguments, table)
    fields = _shape(arguments, table) | {"output": arguments.output, "stages": arguments.stages}
    for shift in ("intercept_shift", "output_shift", "max_intercept_shift", "max_output_shift"):
        fields[shift] = getattr(arguments, shift)
    if arguments.storage == "constants":
        if lowered is None:
            raise InputError("--storage constants needs --table and --scale")
        if arguments.output == "code" and lowered.output_shift is None:
            raise InputError("--storage constants needs --output-scale, or --output acc")
        wired = {"storage": "constants", "constants": lowered, "intercept_shift": lowered.intercept_shift}
        if arguments.output == "code":
            wired["output_shift"] = lowered.output_shift
        for key in wired.keys() & fields.keys():
            if fields[key] not in (None, wired[key]):
                raise InputError(f"--{key.replace('_', '-')} must be the table's {wired[key]}, not {fields[key]}")
        fields |= wired
    else:
        fields["storage"] = arguments.storage
        if table is not None and fields["intercept_shift"] is None and fields["max_intercept_shift"] is None:
            needed = max(table.lower(s).intercept_shift for s in table.scales)
            fields["max_intercept_shift"] = max(needed, fields.get("in_bits", 8) - 1)
    config = PwlConfig(**fields)
    if table is not None:
        for scale in [arguments.scale] if lowered else table.scales:
            config.check_fit(lowered or table.lower(scale))
    component = Pwl(config, latch_cell=f"{name}_latch")
    return emit.emit(arguments.output_file, "pwl", component, _about_pwl(component, table, lowered), component.verilog)


def _shape(arguments: argparse.Namespace, table: PwlTable | None) -> dict[str, Any]:
    """Entries, widths and signs: as given, else the table's."""
    names = ("entries", "in_bits", "coef_bits", "out_bits", "in_signed", "out_signed")
    fields = {} if table is None else {name: getattr(table, name) for name in names}
    if arguments.entries is not None:
        fields["entries"] = arguments.entries
    for name in ("in", "coef", "out"):
        for option in ("width", f"{name}_width"):
            value = getattr(arguments, option)
            if value is not None:
                require_range(f"--{option.replace('_', '-')}", value, *WIDTH_RANGE)
                fields[f"{name}_bits"] = value
    for name, flag in (("in_signed", arguments.unsigned_input), ("out_signed", arguments.unsigned_output)):
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


def _about_pwl(component: Any, table: PwlTable | None, lowered: LoweredTable | None) -> dict[str, Any]:
    config = component.config
    parameters = {key: value for key, value in dataclasses.asdict(config).items() if key != "constants"}
    about: dict[str, Any] = {
        "parameters": parameters | {"acc_bits": config.acc_bits},
        "latency": config.stages,
        "interval": 1,
    }
    if config.storage != "constants":
        about["table"] = {
            "load_order": [
                {"list": name, "select": select, "count": config.entries - (select == 0), "bits": bits, "signed": sign}
                for select, (name, bits, sign) in enumerate(
                    (
                        ("thresholds", config.in_bits, config.in_signed),
                        ("slopes", config.coef_bits, True),
                        ("intercepts", config.coef_bits, True),
                    )
                )
            ],
            "write": "with table__en at 1, one word a clock; table__data holds it in its low bits, two's complement",
            "settle_cycles": component.settle,
            "quasi_static": "table and shifts must not change with beats in flight: drain first",
        }
    if table is not None:
        about["source"] = {"table_sha256": table.digest}
        if lowered is not None:
            about["source"] |= lowered.stored()
            if config.storage != "constants":
                about["source"]["words"] = [list(word) for word in config.words(lowered)]
    return about
