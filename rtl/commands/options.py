"""The options that several units share, and what is read from them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtl.blocks.multiplication import PRODUCTS
from rtl.blocks.storage import STYLES
from rtl.pwl import PwlConfig
from sim.reference import InputError, LoweredTable, PwlTable

Made = tuple[str, Any, dict[str, Any] | None]  # what a command makes: unit, component, source as for `rtl.emit.emit`


def add_table(parser: argparse.ArgumentParser) -> None:
    """What a unit with a table has: its storage, its output and the scales."""
    parser.add_argument("--storage", choices=STYLES, default="flops", help="where the table is kept (flops)")
    parser.add_argument("--output", choices=("code", "acc"), default="code", help="rounded code (default), accumulator")
    parser.add_argument("--scale", type=int, metavar="S", help="scale exponent of the table's input codes")
    parser.add_argument("--output-scale", type=int, metavar="S", help="scale exponent of the output codes")


def add_product(parser: argparse.ArgumentParser) -> None:
    """How the unit multiplies; read it back as `PRODUCTS[arguments.product]`."""
    text = "a tree of its own (default), or *, which an FPGA's tools put into its multipliers"
    parser.add_argument("--product", choices=tuple(PRODUCTS), default="tree", help=text)


def add_common(
    parser: argparse.ArgumentParser, stages: int | Sequence[int], parts: tuple[str, ...] = (), text: str = ""
) -> None:
    """What every unit has; `stages` is the default depth, or one for each of `parts`, which `text` then explains."""
    text = text or f"pipeline stages ({stages})"
    several: dict[str, Any] = {"nargs": len(parts)} if parts else {}
    parser.add_argument("--stages", type=int, default=stages, metavar=parts or "N", help=text, **several)
    styles = ("plain", "axis")
    parser.add_argument("--ports", choices=styles, default="plain", help="own names (default), or AXI4-Stream's")
    parser.add_argument("-o", dest="output_file", type=Path, required=True, metavar="FILE.v", help="the Verilog file")
    parser.add_argument("--json", action="store_true", help="print the description that is written beside the Verilog")


def check_output(
    arguments: argparse.Namespace, names: Sequence[str] = ("out_width", "out_unsigned", "output_scale")
) -> None:
    """Raise `InputError` for an option of the output code, one of `names`, if the output is the accumulator."""
    for name in names if arguments.output == "acc" else ():
        if getattr(arguments, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} must not be given with --output acc")


def only_scale(given: int | None, option: str, table: PwlTable, path: Path) -> int:
    """The scale exponent that was given, else the table's if it has only one."""
    if given is not None:
        return given
    if len(table.scales) != 1:
        raise InputError(f"{option} must be given: {path} has the scales {list(table.scales)}")
    return table.scales[0]


def source(config: PwlConfig, table: PwlTable | None, lowered: LoweredTable | None) -> dict[str, Any]:
    """The table that a unit was made for: its hash, what is stored of it, and the writes (select, address, data)."""
    made_for: dict[str, Any] = {} if table is None else {"table_sha256": table.digest}
    if lowered is not None:
        made_for["lowered"] = lowered.stored()
        if config.storage != "constants":
            made_for["words"] = [list(word) for word in config.words(lowered)]
    return made_for
