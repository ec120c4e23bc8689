"""Whether a fault of a unit's netlist can be seen: a proof that a running unit with the fault differs nowhere.

The netlist and its copy with the fault share their registers, which take the next state of the netlist without the
fault. The claim is that every output and every next state of the copy is the same. Proved for every state that a unit
can be in while it runs, the two never differ, cycle by cycle.

That state is any one, and then the unit runs for as many cycles as it has stages, unstalled, with or without a code in
each. From then on every rank holds what follows from a code, the table and the shifts, and nothing else: a stalled rank
holds what it held before. In the last cycle codes, stalls, resets and writes of the table are free. Assumed: thresholds
are sorted, shifts are in their ranges, and neither changes while a code is inside, as the unit's description asks. What
a rank holds without a code in it is never seen.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtl.formal.prove import outcome, yosys
from rtl.pwl import PwlConfig

PREPARE = """read_rtlil unit.il
copy unit faulty
{command}
techmap faulty
simplemap faulty
expose -dff -evert-dff unit faulty
write_json both.json
write_rtlil both.il
"""
DECIDE = """read_rtlil both.il
read_verilog both.v
hierarchy -check -top both
proc
flatten
opt_expr
opt_merge
opt_clean
sat -seq {last} {running} -prove differs 0 -prove-skip {stages}
"""
RUNNING = {"o__ready": 1, "table__en": 0, "rst": 0}


def equivalence(folder: Path, config: PwlConfig, command: str, timeout: int) -> str:
    """Decide whether a fault changes nothing.

    Parameters
    ----------
    folder : Path
        Has the netlist as `unit.il`, module `unit`, of plain gates and flip-flops named after the unit's words.
    config : PwlConfig
        The unit.
    command : str
        The `mutate` command of Yosys that makes the fault, without a control input.
    timeout : int
        Seconds for the solver.

    Returns
    -------
    str
        "proved", "refuted", "undecided" if time is up, or "unknown" if the fault is at a flip-flop's output or clock,
        for which there is no proof.
    """
    if re.search(r" -port [QC] ", command):
        return "unknown"
    (folder / "prepare.ys").write_text(PREPARE.format(command=command.replace("-module unit", "-module faulty")))
    yosys(folder, "prepare.ys")
    modules = json.loads((folder / "both.json").read_text())["modules"]
    (folder / "both.v").write_text(_both(modules["unit"]["ports"], config))
    last = config.stages + 1
    held = [(step, name, value) for step in range(1, last) for name, value in RUNNING.items()]
    held += [(step, "legal", 1) for step in range(2, last + 1)]
    running = " ".join(f"-set-at {step} {name} {value}" for step, name, value in held)
    text = DECIDE.format(running=running, stages=config.stages, last=last)
    (folder / "decide.ys").write_text(text)
    return outcome(yosys(folder, "decide.ys", timeout))


def _both(ports: Mapping[str, Mapping[str, Any]], config: PwlConfig) -> str:
    """A module `both` around the two netlists, whose registers became ports: NAME.q, NAME.d and the clock NAME.c."""
    number = {name: k for k, name in enumerate(ports)}
    held = [name for name in ports if name.endswith(".q")]
    made = [name for name in ports if ports[name]["direction"] == "output" and not name.endswith(".c")]
    shifts = [name for name in config.shift_ports if name in ports]
    inputs = [name for name in ports if ports[name]["direction"] == "input" and name not in (*held, "clk")]

    def declared(name: str, kind: str, called: str) -> str:
        return f"{kind} [{len(ports[name]['bits']) - 1}:0] {called}"

    inlets = "".join(f"{declared(name, 'input', name)}, " for name in inputs)
    lines = [f"module both(input clk, {inlets}output legal, output differs);"]
    for name in made:
        lines += [f"  {declared(name, 'wire', f'{side}{number[name]}')};" for side in "uf"]
    for name in held:
        q, d = f"q{number[name]}", f"u{number[name.removesuffix('q') + 'd']}"
        lines.append(f"  {declared(name, 'reg', q)}; always @(posedge clk) {q} <= {d};")
    common = [f"{_escaped(name)}({name})" for name in ("clk", *inputs)]
    common += [f"{_escaped(name)}(q{number[name]})" for name in held]
    for side, module in (("u", "unit"), ("f", "faulty")):
        own = [f"{_escaped(name)}({side}{number[name]})" for name in made]
        lines.append(f"  {module} {module}({', '.join([*common, *own])});")
    lines.append(f"  assign differs = {' | '.join(f'(u{number[name]} != f{number[name]})' for name in made)};")
    thresholds = range(config.entries - 1)
    for k in thresholds:
        bits = [f"q{number[f'threshold_{k}[{bit}].q']}" for bit in reversed(range(config.in_bits))]
        sign = "signed " if config.in_signed else ""
        lines.append(f"  wire {sign}[{config.in_bits - 1}:0] threshold_{k} = {{{', '.join(bits)}}};")
    rules = [f"threshold_{k} <= threshold_{k + 1}" for k in thresholds[:-1]]
    for name in shifts:
        least, most = config.ends(name)
        lines.append(f"  {declared(name, 'reg', f'last_{name}')}; always @(posedge clk) last_{name} <= {name};")
        rules += [f"{name} >= {least}", f"{name} <= {most}", f"{name} == last_{name}"]
    lines.append(f"  assign legal = {' & '.join(f'({rule})' for rule in ['1', *rules])};")
    return "\n".join([*lines, "endmodule", ""])


def _escaped(name: str) -> str:
    r"""A port's name in a connection; Yosys writes a name that begins with `$` as `\$`."""
    return f".{name if name.startswith(chr(92)) else chr(92) + name} "
