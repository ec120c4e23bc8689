"""Static timing by OpenSTA, and the fewest pipeline stages that meet a period: what "equal clock" means.

Every unit has the same conditions: an ideal clock; inputs that arrive at the clock edge from a buffer of middle
strength; outputs with a load of 6 fF that are due at the next edge. Wires are those of the netlist if it has any
(`cost_model.layout`), else what the library's own wire load model assumes: IHP's has one, others assume none. OpenSTA
is a system package (`apt-get install opensta`) and optional: `data/stages.json` has the stage counts that it gave, with
their slack and library.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE, remember
from cost_model.cells.identifiers import require_identifier
from cost_model.netlist.netlist import Netlist
from cost_model.netlist.spef import spef
from cost_model.netlist.synthesis import OUTPUT_LOAD_F, Flow, synthesise
from sim.common.files import read_text
from sim.cosim.dut import Device
from sim.reference import InputError

STAGES = Path(__file__).parents[1] / "data" / "stages.json"


@dataclass(frozen=True)
class Timing:
    """The worst slack of a netlist in s, and the ends of that path."""

    slack_s: float
    start: str
    end: str
    tool: str


@lru_cache(maxsize=1)
def tool() -> str | None:
    """The path of OpenSTA; None if it is not installed."""
    return shutil.which("sta") or shutil.which("opensta")


def analyse(netlist: Netlist, flow: Flow, cache: Path = CACHE) -> Timing:
    """The worst setup slack at the flow's period. Raises `InputError` if OpenSTA or delays are missing."""
    program = tool()
    if program is None:
        raise InputError("OpenSTA is missing: apt-get install opensta")
    if flow.period_s is None:
        raise InputError(f"library {flow.library.name}: timing needs a library with delays")
    script = _script(netlist.top, flow, bool(netlist.wires))
    identity = [netlist.sha256, flow.library.sha256, script, *([spef(netlist)] if netlist.wires else [])]
    return Timing(**json.loads(remember(cache, "timing", identity, lambda: _run(program, netlist, flow, script))))


def _run(program: str, netlist: Netlist, flow: Flow, script: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"unit.v": structure(netlist), "unit.spef": spef(netlist), "run.tcl": script}
        for file, text in {**flow.cell_files, **files}.items():
            (folder / file).write_text(text)
        run = subprocess.run([program, "-exit", "run.tcl"], cwd=folder, capture_output=True, text=True, check=False)
    slack = re.search(r"^worst slack (-?[\d.]+)", run.stdout, re.MULTILINE)
    if not slack or "Error" in run.stdout + run.stderr:
        raise InputError(f"OpenSTA gives no slack: {(run.stdout + run.stderr).strip()[-300:]}")
    ends = [re.search(rf"^{end}: (\S+)", run.stdout, re.MULTILINE) for end in ("Startpoint", "Endpoint")]
    version = re.search(r"OpenSTA (\S+)", run.stdout)
    return json.dumps(
        {
            "slack_s": float(slack[1]) * 1e-9,
            "start": ends[0][1] if ends[0] else "",
            "end": ends[1][1] if ends[1] else "",
            "tool": f"OpenSTA {version[1] if version else 'unknown'}",
        }
    )


def _script(top: str, flow: Flow, wires: bool = False) -> str:
    """The script for OpenSTA. Every name in it is an identifier, in which Tcl substitutes nothing."""
    buffer = require_identifier(flow.library.buffer, f"library {flow.library.name}: the buffer before the inputs")
    return _SCRIPT.format(
        libraries="\n".join(f"read_liberty {name}" for name in flow.cell_files),
        top=require_identifier(top, "a module's name"),
        wires="read_spef unit.spef\n" if wires else "",
        period=(flow.period_s or 0.0) * 1e9,
        buffer=buffer,
        load=OUTPUT_LOAD_F * 1e12,
    )


def structure(netlist: Netlist) -> str:
    """The netlist as cells and wires, for a tool that reads the library itself."""

    def net(bit: int | str) -> str:
        return f"n{bit}" if isinstance(bit, int) else f"1'b{bit if bit in ('0', '1') else '0'}"

    ports, joins = [], []
    for port, (direction, bits) in netlist.ports.items():
        ports.append(f"{direction} {f'[{len(bits) - 1}:0] ' if len(bits) > 1 else ''}{port}")
        for k, bit in enumerate(bits):
            at = f"{port}[{k}]" if len(bits) > 1 else port
            joins.append(f"  assign {at} = {net(bit)};" if direction == "output" else f"  assign {net(bit)} = {at};")
    cells = [
        f"  {i.cell.name} u{k} ({', '.join(f'.{pin}({net(bit)})' for pin, bit in i.nets.items())});"
        for k, i in enumerate(netlist.instances)
    ]
    return "\n".join([f"module {netlist.top}({', '.join(ports)});", *joins, *cells, "endmodule", ""])


def fewest_stages(
    make: Callable[[int], Device], flow: Flow, start: int, deepest: int, cache: Path = CACHE
) -> tuple[int, Timing]:
    """The fewest stages that meet the flow's period, searched for from `start`, and their timing.

    `make` returns the unit with a number of stages. Raises `InputError` if even `deepest` stages are too slow.
    """

    def slack(stages: int) -> Timing:
        unit = make(stages)
        return analyse(synthesise(unit.verilog, unit.module, flow, cache).netlist, flow, cache)

    stages, timing = start, slack(start)
    if timing.slack_s >= 0:
        while stages > 1 and (fewer := slack(stages - 1)).slack_s >= 0:
            stages, timing = stages - 1, fewer
        return stages, timing
    while timing.slack_s < 0:
        stages += 1
        if stages > deepest:
            raise InputError(f"period of {(flow.period_s or 0) * 1e9:g} ns must be longer: {deepest} stages miss it")
        timing = slack(stages)
    return stages, timing


def recorded_for(flow: Flow) -> bool:
    """Whether `data/stages.json` is for the flow's library and period."""
    content = json.loads(read_text(STAGES))
    return flow.library.sha256 == content["library_sha256"] and flow.period_s == content["period_s"]


def missed_period(netlist: Netlist, flow: Flow, cache: Path = CACHE) -> str | None:
    """A warning if the netlist is known to miss the flow's period, else None.

    OpenSTA decides. Without it, the longest path with the cells' mean delays is a lower estimate, and only a path that
    exceeds the period gives a warning.
    """
    if flow.period_s is None:
        return None
    if tool() is not None:
        needed, source = flow.period_s - analyse(netlist, flow, cache).slack_s, "OpenSTA"
    else:
        needed, source = longest_path(netlist), "the cells' mean delays; OpenSTA is not installed"
    if needed <= flow.period_s:
        return None
    return (
        f"warning: the unit misses {flow.period_s * 1e9:g} ns: it needs about {needed * 1e9:.3g} ns ({source}); "
        "power at that clock is of a unit that would not work"
    )


def longest_path(netlist: Netlist) -> float:
    """The longest path between registers and ports by `Pin.delays`, in s: no slews, no setup times."""
    arrival: dict[int, float] = {}
    gates: dict[int, tuple[float, list[int]]] = {}
    for instance in netlist.instances:
        for pin, net in instance.driven.items():
            delay = max(instance.cell.pins[pin].delays(netlist.load_f(net)))
            if instance.cell.state:
                arrival[net] = delay
            else:
                gates[net] = (delay, list(instance.read.values()))
    for net in TopologicalSorter({net: read for net, (_, read) in gates.items()}).static_order():
        if net in gates:
            delay, read = gates[net]
            arrival[net] = delay + max((arrival.get(source, 0.0) for source in read), default=0.0)
    return max(arrival.values(), default=0.0)


def recorded(unit: str, number: str, entries: int, multiplier: str = "tree") -> dict[str, Any]:
    """The record of `data/stages.json` for a unit. Raises `InputError` if there is none."""
    for record in json.loads(read_text(STAGES))["records"]:
        wanted = {"unit": unit, "format": number, "entries": entries, "multiplier": multiplier}
        if all(record[key] == value for key, value in wanted.items()):
            return record
    raise InputError(f"no stage count is recorded for {unit} {number} with {entries} entries, multiplier {multiplier}")


# Without its own units OpenSTA takes and gives those of the first library read: ASAP7's are ps and fF.
_SCRIPT = """\
{libraries}
set_cmd_units -time ns -capacitance pF
read_verilog unit.v
link_design {top}
{wires}create_clock -name clk -period {period:g} [get_ports clk]
set inputs [list]
foreach port [all_inputs] {{
  if {{[get_property $port full_name] != "clk"}} {{ lappend inputs $port }}
}}
set_input_delay 0 -clock clk $inputs
set_driving_cell -lib_cell {buffer} $inputs
set_output_delay 0 -clock clk [all_outputs]
set_load -pin_load {load:g} [all_outputs]
report_checks -path_delay max
report_worst_slack
exit
"""
