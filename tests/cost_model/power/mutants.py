"""Mutants of a mapped netlist: one cell that is another or has an input stuck, and a proof that one is no fault."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cost_model.netlist.netlist import Bit, Instance, Netlist, expression, required, state_pins
from rtl.formal.prove import outcome, yosys
from rtl.pwl import PwlConfig


def mutants(netlist: Netlist, seed: int, count: int) -> Iterator[tuple[str, Netlist]]:
    """(what was changed, the netlist) of `count` different mutants; clock pins are left out."""
    rng = np.random.default_rng(seed)
    made: set[str] = set()
    while len(made) < count:
        k = int(rng.integers(len(netlist.instances)))
        right = netlist.instances[k]
        others = [
            cell for cell in netlist.library.cells.values()
            if cell.name != right.cell.name and not cell.state and not right.cell.state
            and [p.name for p in cell.pins.values()] == [p.name for p in right.cell.pins.values()]
        ]  # fmt: skip
        what = int(rng.integers(4))
        if what and others:
            cell = others[rng.integers(len(others))]
            label, wrong = f"{right.name}: {cell.name} for {right.cell.name}", Instance(right.name, cell, right.nets)
        else:
            clocks = str(right.cell.state.get("clocked_on", "")) if right.cell.state else ""
            pins = [p.name for p in right.cell.inputs if p.name not in clocks]
            pin, value = pins[rng.integers(len(pins))], str(rng.integers(2))
            label = f"{right.name}: {pin} of {right.cell.name} stuck at {value}"
            wrong = Instance(right.name, right.cell, {**right.nets, pin: value})
        if label not in made:
            made.add(label)
            yield label, replace(netlist, instances=(*netlist.instances[:k], wrong, *netlist.instances[k + 1 :]))


def equivalent(right: Netlist, wrong: Netlist, config: PwlConfig, folder: Path) -> bool:
    """Whether no output and no next state of a unit differs, in any state with a sorted table and for all its shifts.

    Proved by Yosys' SAT solver. The netlists have the same flip-flops.
    """
    inputs = {bit for flow, bits in right.ports.values() if flow == "input" for bit in bits if isinstance(bit, int)}
    states = {net for i in right.instances if i.cell.state for net in i.driven.values()}
    lines = [f"  input n{net};" for net in sorted(inputs | states)]
    compared = []
    for side, netlist in (("r", right), ("w", wrong)):

        def named(bit: Bit, side: str = side) -> str:
            return f"1'b{bit}" if isinstance(bit, str) else f"n{bit}" if bit in inputs | states else f"{side}{bit}"

        for i in netlist.instances:
            pins = {pin: named(bit) for pin, bit in i.nets.items()}
            if i.cell.state:
                [net] = i.driven.values()
                after = expression(required(i.cell, "next_state"), pins | state_pins(i.cell, f"n{net}"))
                lines.append(f"  wire {side}{net}_next = {after};")
                compared += [f"{net}_next"] * (side == "r")
            else:
                for pin, net in i.driven.items():
                    lines.append(f"  wire {side}{net} = {expression(i.cell.pins[pin].function, pins)};")
    outputs = [bit for flow, bits in right.ports.values() if flow == "output" for bit in bits]
    compared += [str(bit) for bit in outputs if isinstance(bit, int) and bit not in states]
    words = [_word(right, f"threshold_{k}") for k in range(config.entries - 1)]
    allowed = [f"$signed({a}) <= $signed({b})" for a, b in pairwise(words)]
    for name in config.shift_ports:
        bits = ", ".join(f"n{bit}" for bit in reversed(right.ports[name][1]))
        allowed.append(f"{{{bits}}} <= {config.largest(name)}")
    same = " && ".join(f"r{net} == w{net}" for net in compared)
    ports = ", ".join(f"n{net}" for net in sorted(inputs | states))
    body = "\n".join([*lines, f"  always @* assume({' && '.join(allowed)});", f"  always @* assert({same});"])
    (folder / "compared.v").write_text(f"module compared({ports});\n{body}\nendmodule\n")
    commands = ["read_verilog -sv -formal compared.v", "proc", "chformal -lower", "opt -full"]
    (folder / "compare.ys").write_text("\n".join([*commands, "sat -seq 1 -prove-asserts -set-assumes\n"]))
    return outcome(yosys(folder, "compare.ys", 600)) == "proved"


def _word(netlist: Netlist, name: str) -> str:
    """The flip-flops that hold a word, top bit first."""
    bits = {public: net for net, names in netlist.names.items() for public in names}
    width = sum(public.startswith(f"{name}[") for public in bits)
    return "{" + ", ".join(f"n{bits[f'{name}[{k}]']}" for k in reversed(range(width))) + "}"
