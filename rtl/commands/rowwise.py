"""`python -m rtl softmax`, `layernorm` and `rmsnorm`: the units that see a whole row before its first result."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rtl.blocks.storage import STYLES
from rtl.commands import options
from rtl.rowwise.norm import NormConfig, NormUnit
from rtl.rowwise.softmax import SoftmaxConfig, SoftmaxUnit
from sim.common.errors import require_range
from sim.common.files import read_json
from sim.reference import InputError, Norm, Normaliser, PwlTable, Softmax
from sim.reference.norm import MAX_LENGTH, spread_bits_for
from sim.reference.softmax import lower_exp, scales_for, total_bits_for

PARAMETERS = ("gain", "bias", "epsilon", "shift")


def add(units: Any) -> None:
    """The subcommands, added to argparse's `units`."""
    softmax = units.add_parser("softmax", help="rows of scores to probabilities")
    softmax.set_defaults(make=_softmax)
    _add_table(softmax, "exp", "of the scores (the table's, where it has one)")
    softmax.add_argument(
        "--exp-scale", type=int, metavar="S", help="scale exponent of the powers (7 for 8-bit tables, else the finest)"
    )
    _add_table(softmax, "div", "of the reciprocal's codes (the table's)", option="--div-scale")
    for option, value, what in (
        ("row-length", 128, "scores of the longest row"),
        ("score-width", Softmax.score_bits, "scores, in bits"),
        ("probability-width", Softmax.probability_bits, "probabilities, 8 or 16 bits; rows above 128 need 16"),
    ):
        softmax.add_argument(f"--{option}", type=int, default=value, metavar="N", help=f"{what} ({value})")
    for option, what in (("inverse-scale", "1 / sum (14 or 22)"), ("probability-scale", "the probabilities (7 or 15)")):
        softmax.add_argument(f"--{option}", type=int, metavar="S", help=f"scale exponent of {what}")
    _add_common(softmax, SoftmaxConfig, ("EXP", "DIV", "OUT"))
    for name, text, centring in (("layernorm", "LayerNorm", True), ("rmsnorm", "RMSNorm", False)):
        norm = units.add_parser(name, help=f"{text} over rows of codes, with gain and bias")
        norm.set_defaults(make=partial(_norm, centring=centring))
        _add_table(norm, "rsqrt", "of the root's codes (the table's)", option="--rsqrt-scale")
        for option, value, what in (
            ("length", None, "codes of the longest row (those of --parameters, else 384)"),
            ("in-width", Norm.in_bits, f"input codes, 4..16 bits ({Norm.in_bits})"),
            ("out-width", Norm.out_bits, f"output codes, 4..16 bits ({Norm.out_bits})"),
            ("max-epsilon", None, "largest epsilon (2**32 - 1, or that of --parameters)"),
        ):
            norm.add_argument(f"--{option}", type=int, default=value, metavar="N", help=what)
        norm.add_argument(
            "--parameters", type=Path, metavar="JSON", help=f"{', '.join(PARAMETERS)}: to load, or to wire in"
        )
        _add_common(norm, NormConfig, ("ROW", "ELEMENT"))


def _add_table(parser: argparse.ArgumentParser, name: str, what: str, option: str = "--scale") -> None:
    parser.add_argument(f"--{name}", type=Path, metavar="JSON", required=True, help=f"the {name} table")
    parser.add_argument(option, type=int, metavar="S", help=f"scale exponent {what}")


def _add_common(parser: argparse.ArgumentParser, config: Any, depths: tuple[str, ...]) -> None:
    text = " ".join(map(str, config.stages))
    parser.add_argument("--storage", choices=STYLES, default="flops", help="where the tables are kept (flops)")
    parser.add_argument(
        "--rows", type=int, default=config.rows, metavar="N", help=f"rows inside at once ({config.rows})"
    )
    options.add_common(parser, config.stages, depths, f"pipeline stages of each part ({text})")


def _softmax(arguments: argparse.Namespace) -> options.Made:
    exp, div = PwlTable.load(arguments.exp), PwlTable.load(arguments.div)
    if exp.function != "exp":  # what the normalisers compute they check themselves
        raise InputError(f"--exp must be a table of exp, but {arguments.exp} is one of {exp.function}")
    scale = options.only_scale(arguments.scale, "--scale", exp, arguments.exp)
    div_scale = options.only_scale(arguments.div_scale, "--div-scale", div, arguments.div)
    fields = scales_for(arguments.probability_width)
    for name in ("inverse_scale", "probability_scale"):
        if getattr(arguments, name) is not None:
            fields[name] = getattr(arguments, name)
    lowered = lower_exp(exp, scale, arguments.probability_width, arguments.exp_scale)
    exp_scale = exp.slope_frac_bits + scale - (lowered.output_shift or 0)
    total_bits = total_bits_for(lowered, max(arguments.row_length, 1))
    reference = Softmax(
        lowered,
        exp_scale,
        Normaliser(div, div_scale, total_bits, exp_scale, False),
        arguments.row_length,
        score_bits=arguments.score_width,
        **fields,
    )
    config = SoftmaxConfig(reference, arguments.storage, tuple(arguments.stages), arguments.rows)
    source: dict[str, Any] = {
        "exp": {"table_sha256": exp.digest, "lowered": lowered.stored()},
        "div": {"table_sha256": div.digest, "lowered": reference.div.lowered.stored()},
    }
    if config.storage != "constants":
        source["words"] = [list(word) for word in config.words(reference)]
    component = SoftmaxUnit(config, latch_cell=f"{arguments.module}_latch")
    for line in reference.shortfalls():
        print(f"warning: {line}", file=sys.stderr)
    return "softmax", component, source


def _norm(arguments: argparse.Namespace, centring: bool) -> options.Made:
    table = PwlTable.load(arguments.rsqrt)
    scale = options.only_scale(arguments.rsqrt_scale, "--rsqrt-scale", table, arguments.rsqrt)
    wired = arguments.storage == "constants"
    given = None if arguments.parameters is None else read_parameters(arguments.parameters)
    if wired and given is None:
        raise InputError("--storage constants needs --parameters")
    if wired and (arguments.length, arguments.max_epsilon) != (None, None):
        raise InputError("--length and --max-epsilon must not be given if --parameters are wired in")

    def norm(gain: tuple[int, ...], bias: tuple[int, ...], epsilon: int, shift: int) -> Norm:
        bits = spread_bits_for(max(len(gain), 1), max(epsilon, 1), arguments.in_width)
        rsqrt = Normaliser(table, scale, bits, 0, False)
        return Norm(gain, bias, shift, epsilon, rsqrt, centring, arguments.in_width, arguments.out_width)

    own = None if given is None else norm(**given)
    if wired:
        assert own is not None
        reference = own
    else:
        length = arguments.length
        if length is None:
            length = 384 if own is None else own.length
        require_range("gain's length", length, 2, MAX_LENGTH)
        epsilon = (1 << 32) - 1 if arguments.max_epsilon is None else arguments.max_epsilon
        if own is not None and arguments.max_epsilon is None:
            epsilon = max(epsilon, own.epsilon)
        reference = norm((0,) * length, (0,) * length, epsilon, 0)
    config = NormConfig(reference, arguments.storage, tuple(arguments.stages), arguments.rows)
    source: dict[str, Any] = {"rsqrt": {"table_sha256": table.digest, "lowered": reference.rsqrt.lowered.stored()}}
    if own is not None:
        source |= {"epsilon": own.epsilon, "shift": own.shift}
        if not wired:
            source["words"] = [list(word) for word in config.words(own)]
    component = NormUnit(config, latch_cell=f"{arguments.module}_latch")
    return arguments.unit, component, source


def read_parameters(path: Path) -> dict[str, Any]:
    """Gain, bias, epsilon and shift from their JSON; every fault raises `InputError` with the file and the key."""
    content = read_json(path)
    if not isinstance(content, dict) or sorted(content) != sorted(PARAMETERS):
        raise InputError(f"{path}: must be an object of {', '.join(PARAMETERS)}")
    for key, value in content.items():
        items = value if isinstance(value, list) and key in ("gain", "bias") else [value]
        if not items or any(type(item) is not int for item in items) or (items is value) != (key in ("gain", "bias")):
            kind = "a list of integers" if key in ("gain", "bias") else "an integer"
            raise InputError(f"{path}: {key} must be {kind}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
