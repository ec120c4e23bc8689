"""`python -m cost_model rows`: softmax, LayerNorm and RMSNorm, with their row memories beside them."""

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cost_model.cache import CACHE
from cost_model.cells import library
from cost_model.commands import options
from cost_model.designs.rowwise import LENGTHS, LIMITS, UNITS, row_design
from cost_model.measurement import measure
from cost_model.netlist import timing
from cost_model.netlist.synthesis import Flow
from sim.common.errors import require_range
from sim.common.text_table import format_table
from sim.cosim.simulators import SIMULATORS


def add(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("rows", help="softmax and the norms: area, power and memory bits")
    parser.set_defaults(do=_rows)
    parser.add_argument("--unit", nargs="+", choices=tuple(UNITS), default=list(UNITS), help="which (all)")
    parser.add_argument("--length", type=int, metavar="N", help="elements of the longest row (softmax 128, norms 384)")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the records as JSON")
    options.add_memories(parser)
    options.add_flow(parser)
    options.add_power(parser)
    options.add_common(parser, SIMULATORS)


def _rows(arguments: argparse.Namespace) -> int:
    clock, parameters = options.clock_hz(arguments), options.parameters(arguments)
    if arguments.length is not None:
        for unit in arguments.unit:
            require_range(f"--length of {unit}", arguments.length, *LIMITS[unit])
    records, flows = [], [Flow(library.GATE_EQUIVALENTS, None, arguments.multiplier)]
    if arguments.liberty is not None:
        flows.append(options.flow(arguments))
    for flow, unit in tqdm([(f, u) for f in flows for u in arguments.unit], unit="unit", disable=None):
        design = row_design(unit, arguments.length, arguments.memories == "flops")
        found = measure(design, flow, parameters, options.engine(arguments), True, arguments.cache)
        length = LENGTHS[unit] if arguments.length is None else arguments.length
        schedule = design.device.schedule
        assert schedule is not None
        records.append(
            found.row(clock)
            | {
                "stages": list(design.parameters["stages"]),
                "length": length,
                "latency": schedule.latency + schedule.passes * length,
                "slack_s": _slack(found.synthesis.netlist, flow, arguments.cache),
            }
        )
    options.deliver(arguments, records, _print)
    return 0


def _slack(netlist: Any, flow: Flow, cache: Path = CACHE) -> float | None:
    """The slack in s; None if the library has no delays or OpenSTA is not installed."""
    return None if flow.period_s is None or timing.tool() is None else timing.analyse(netlist, flow, cache).slack_s


def _print(records: list[dict[str, Any]]) -> None:
    columns = ["unit", "longest row", "library", "stages", "area", "unit", "mW", "proxy", "slack ns", "memory bits"]
    lines = []
    for record in records:
        watts, proxy, slack = record["power_w"], record["switching_proxy"], record["slack_s"]
        lines.append(
            [
                record["unit"],
                record["length"],
                record["library"][:16],
                "+".join(map(str, record["stages"])),
                round(record["area"]),
                record["area_unit"],
                None if watts is None else f"{watts * 1e3:.3g}",
                None if proxy is None else round(proxy),
                None if slack is None else f"{slack * 1e9:.2f}",
                record["memory_bits"],
            ]
        )
    print(format_table(columns, lines))
    where = "flip-flops in area and power" if records[0]["memories_in_area"] else "in neither area nor power"
    print(f"\nmemory bits: rings, gains and biases, {where}; a queue of 4 finished rows is flip-flops in the area.")
    print("proxy: NAND2 inputs charged per cycle, one element each; slack: OpenSTA, memories' ports at the clock edge.")
    print("every netlist gave all expected results first; `--json` has the parts, the vectors' number and the hashes.")
