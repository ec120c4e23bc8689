"""`python -m rtl layer`: the engine that runs a transformer's layers."""

import argparse
from pathlib import Path
from typing import Any

from rtl.commands import options
from rtl.layer.config import EngineConfig
from rtl.layer.engine import Engine
from sim.common.errors import require_range
from sim.reference import InputError, Norm, Normaliser, PwlTable, Softmax
from sim.reference.norm import spread_bits_for
from sim.reference.softmax import lower_exp, power_scale, scales_for, total_bits_for

TABLES = {"exp": "of exp", "div": "of 1/x", "rsqrt": "of 1/sqrt(x)"}


def add(units: Any) -> None:
    """The subcommand, added to argparse's `units`."""
    layer = units.add_parser("layer", help="an engine: array, softmax, norm, token quantiser, table and memory")
    layer.set_defaults(make=_make, ports="plain")
    for name, what in TABLES.items():
        text = f"a table {what}, whose geometry the unit has; what it holds is loaded"
        layer.add_argument(f"--{name}", type=Path, metavar="JSON", required=True, help=text)
    for name, what in (
        ("lanes", "rows and columns of the array, elements of a word"),
        ("words", "words of the memory"),
        ("row_units", "softmax, norm and token units"),
        ("max_tokens", "tokens of the longest sequence"),
        ("max_inputs", "inputs of the widest layer"),
        ("entries", "entries of the activation's table"),
        ("stages", "pipeline stages behind the array"),
    ):
        default = getattr(EngineConfig, name)
        layer.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, metavar="N", help=f"{what} ({default})"
        )
    layer.add_argument("--length", type=int, default=384, metavar="N", help="codes of the norm's longest row (384)")
    layer.add_argument("--rms", action="store_true", help="RMSNorm in place of LayerNorm")
    layer.add_argument("--decoder", action="store_true", help="with what causal language models need besides")
    layer.add_argument("-o", dest="output_file", type=Path, required=True, metavar="FILE.v", help="the Verilog file")
    layer.add_argument("--json", action="store_true", help="print the description that is written beside the Verilog")


def _make(arguments: argparse.Namespace) -> options.Made:
    require_range("--length", arguments.length, 2, 1 << 13)
    require_range("--max-tokens", arguments.max_tokens, 2, 1 << 12)
    exp, div, rsqrt = (PwlTable.load(getattr(arguments, name)) for name in TABLES)
    if exp.function != "exp":
        raise InputError(f"--exp must be a table of exp, but {arguments.exp} is one of {exp.function}")
    scale = max(exp.scales)
    exp_scale = power_scale(7, exp.slope_frac_bits, scale)
    lowered = lower_exp(exp, scale, 8, exp_scale)
    tokens, epsilon = arguments.max_tokens, (1 << 32) - 1
    inverse = Normaliser(div, div.scales[-1], total_bits_for(lowered, tokens), exp_scale, False)
    softmax = Softmax(lowered, exp_scale, inverse, tokens, **scales_for(8))
    zeros = (0,) * arguments.length
    root = Normaliser(rsqrt, rsqrt.scales[-1], spread_bits_for(len(zeros), epsilon), 0, False)
    norm = Norm(zeros, zeros, 0, epsilon, root, not arguments.rms)
    names = ("lanes", "words", "row_units", "max_tokens", "max_inputs", "entries", "stages")
    config = EngineConfig(
        softmax, norm, **{name: getattr(arguments, name) for name in names}, decoder=arguments.decoder
    )
    source = {name: {"table_sha256": table.digest} for name, table in zip(TABLES, (exp, div, rsqrt), strict=True)}
    return "layer", Engine(config), source
