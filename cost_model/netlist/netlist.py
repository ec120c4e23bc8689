"""A mapped netlist: its cells, area, loads and hash, and the same netlist as Verilog for simulators.

Every net except ports is called n<number>, so that toggles from any simulator can be assigned to nets.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from cost_model.cells.identifiers import require_identifier
from cost_model.cells.library import Cell, Library
from sim.reference import InputError

LONGEST_FUNCTION = 400  # tokens; nesting is bounded with it
Bit = int | str  # a net's number, or the constant "0", "1"


@dataclass(frozen=True)
class Instance:
    """One cell: its instance name, the library's cell, and the net on each connected pin."""

    name: str
    cell: Cell
    nets: Mapping[str, Bit]

    @property
    def driven(self) -> dict[str, int]:
        """Output pin to net."""
        return {p.name: net for p in self.cell.outputs if isinstance(net := self.nets.get(p.name), int)}

    @property
    def read(self) -> dict[str, int]:
        """Input pin to net, constants left out."""
        return {p.name: net for p in self.cell.inputs if isinstance(net := self.nets.get(p.name), int)}


@dataclass(frozen=True)
class Netlist:
    """A flat netlist of library cells.

    `ports` gives (direction, nets with the lowest first), `names` the public names of a net. If `delayed`, its Verilog
    has the library's delays. `wires` gives the capacitance in F of each net's wires, where they are known. Neither
    changes the hash.
    """

    top: str
    library: Library
    ports: Mapping[str, tuple[str, tuple[Bit, ...]]]
    instances: tuple[Instance, ...]
    names: Mapping[int, tuple[str, ...]]
    delayed: bool = False
    wires: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], top: str, library: Library) -> "Netlist":
        """Read the content of yosys' JSON.

        Raises `InputError` if the top is hierarchical or empty, a cell is missing in the library or has no area there,
        or a port's name is not an identifier.
        """
        require_identifier(top, "a module's name")
        modules = content["modules"]
        if top not in modules:
            raise InputError(f"netlist: must hold the module {top}, not {', '.join(modules) or 'nothing'}")
        module = modules[top]
        instances = []
        for name, cell in module["cells"].items():
            kind = cell["type"]
            if kind in ("$scopeinfo",):
                continue
            if kind in modules and kind not in library.cells:
                raise InputError(f"netlist: must be flat, but {top} instantiates the module {kind}")
            if kind.startswith("$"):
                raise InputError(f"library {library.name}: no cell for {kind}, which the unit needs")
            nets = {pin: bits[0] for pin, bits in cell["connections"].items() if bits}
            instances.append(Instance(name, library.cell(kind), nets))
        if not instances:
            raise InputError(f"netlist: {top} must hold cells, but it is empty")
        ports = {
            require_identifier(name, f"the name of a port of {top}"): (port["direction"], tuple(port["bits"]))
            for name, port in module["ports"].items()
        }
        names: dict[int, list[str]] = defaultdict(list)
        for name, row in module["netnames"].items():
            if not row.get("hide_name"):
                for k, bit in enumerate(row["bits"]):
                    if isinstance(bit, int):
                        names[bit].append(f"{name}[{k}]" if len(row["bits"]) > 1 else name)
        netlist = cls(top, library, ports, tuple(instances), {bit: tuple(sorted(n)) for bit, n in names.items()})
        netlist._require_drivers()
        return netlist

    def _require_drivers(self) -> None:
        driven = {bit for direction, bits in self.ports.values() if direction == "input" for bit in bits}
        read = {bit for direction, bits in self.ports.values() if direction == "output" for bit in bits}
        for instance in self.instances:
            driven |= set(instance.driven.values())
            read |= set(instance.read.values())
        loose = sorted(bit for bit in read - driven if isinstance(bit, int))
        if loose:
            raise InputError(f"netlist: {len(loose)} nets of {self.top} are read but driven by nothing")

    def loop(self) -> list[int]:
        """The nets of a combinational loop; empty if there is none."""
        before = {net: set(i.read.values()) for i in self.instances if not i.cell.state for net in i.driven.values()}
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            return error.args[1]
        return []

    @cached_property
    def area(self) -> Decimal:
        """The sum of the cells' areas, in the library's unit, exact."""
        return sum((i.cell.area for i in self.instances), Decimal(0))

    @cached_property
    def leakage_w(self) -> float | None:
        """The sum of the cells' mean leakage; None if the library does not give that of a cell."""
        leakages = [i.cell.leakage_w for i in self.instances]
        return None if None in leakages else sum(value for value in leakages if value is not None)

    @cached_property
    def sinks(self) -> dict[int, list[tuple[Instance, str]]]:
        """The (instance, input pin) pairs that each net drives."""
        found: dict[int, list[tuple[Instance, str]]] = defaultdict(list)
        for instance in self.instances:
            for pin, net in instance.read.items():
                found[net].append((instance, pin))
        return found

    @cached_property
    def sha256(self) -> str:
        """The hash of cells and connections, by which toggles and vectors are matched to a netlist."""
        rows = [[i.name, i.cell.name, sorted(i.nets.items())] for i in self.instances]
        content = [self.top, self.library.sha256, {k: list(v) for k, v in self.ports.items()}, rows]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def load_f(self, net: int, wire_load_f: float = 0.0) -> float:
        """The load of a net in F: the pins on it, its wires, and a further wire of `wire_load_f` to each pin."""
        pins = self.sinks.get(net, [])
        load = sum(i.cell.pins[pin].capacitance_f for i, pin in pins) + wire_load_f * len(pins)
        return load + self.wires.get(net, 0.0)

    def verilog(self, name: str) -> str:
        """A module `name` with the unit's ports, each gate an assignment, each flip-flop and latch a process.

        At zero delay every net except the clock changes at most once a cycle. If `delayed`, each cell has the library's
        inertial delays to 1 and to 0 at its load, in ps: a shorter pulse does not pass. Registers start at 0 as in
        Verilator; the regression of the unit's Verilog shows that results do not depend on that.
        """
        head = "`timescale 1ps/1ps\n" if self.delayed else ""
        return head + "".join(self._lines(name))

    def _delay(self, instance: Instance, pin: str) -> str:
        rise, fall = instance.cell.pins[pin].delays(self.load_f(instance.driven[pin]))
        return f"#({max(round(rise * 1e12), 1)}, {max(round(fall * 1e12), 1)}) "

    def _lines(self, name: str) -> list[str]:
        ports = []
        joins = []
        for port, (direction, bits) in self.ports.items():
            width = f"[{len(bits) - 1}:0] " if len(bits) > 1 else ""
            ports.append(f"  {direction} {width}{port}")
            for k, bit in enumerate(bits):
                at = f"{port}[{k}]" if len(bits) > 1 else port
                if direction == "output":
                    joins.append(f"  assign {at} = {_net(bit)};\n")
                elif isinstance(bit, int):
                    joins.append(f"  assign n{bit} = {at};\n")
        kept: set[int] = set()
        bodies = []
        nets = {bit for _, bits in self.ports.values() for bit in bits if isinstance(bit, int)}
        for instance in self.instances:
            nets |= set(instance.read.values()) | set(instance.driven.values())
            waits = {pin: self._delay(instance, pin) for pin in instance.driven} if self.delayed else {}
            body, registers = _behaviour(instance, waits)
            kept |= registers
            bodies.append(body)
        wires = "".join(f"  wire n{bit};\n" for bit in sorted(nets - kept))
        registers = "".join(f"  reg n{bit} = 0;\n" for bit in sorted(kept))
        return [f"module {name}(\n", ",\n".join(ports), "\n);\n", wires, registers, *joins, *bodies, "endmodule\n"]


def _net(bit: Bit) -> str:
    return f"n{bit}" if isinstance(bit, int) else f"1'b{bit if bit in ('0', '1') else '0'}"


def _behaviour(instance: Instance, delays: Mapping[str, str]) -> tuple[str, set[int]]:
    """The Verilog of one cell, its outputs with their `delays` if there are any, and the nets that are registers."""
    cell, driven = instance.cell, instance.driven
    pins = {name: _net(bit) for name, bit in instance.nets.items()}
    if not cell.state:
        lines = [
            f"  assign {delays.get(p, '')}{pins[p]} = {expression(cell.pins[p].function, pins)};\n" for p in driven
        ]
        return "".join(lines), set()
    if not driven:
        return "", set()
    inverted = {pin: cell.inverted(pin) for pin in driven}
    direct = [pin for pin in driven if not inverted[pin]] if not delays else []
    state = pins[direct[0]] if direct else f"state_{next(iter(driven.values()))}"
    text = "" if direct else f"  reg {state} = 0;\n"
    pins |= state_pins(cell, state)
    if cell.state["kind"] == "ff":
        clocks = _edge_of(expression(required(cell, "clocked_on"), pins))
        clear, preset = (cell.state.get(key, "") for key in ("clear", "preset"))
        resets = [(expression(e, pins), v) for e, v in ((clear, 0), (preset, 1)) if e]
        live = [(e, v) for e, v in resets if not _never(e)]
        edges = "".join(f" or {_edge_of(e)}" for e, _ in live)
        body = f"{state} <= {expression(required(cell, 'next_state'), pins)};"
        for condition, value in live:
            body = f"if ({condition}) {state} <= 1'b{value}; else {body}"
        text += f"  always @({clocks}{edges}) {body}\n"
    else:
        enable, data = (expression(required(cell, key), pins) for key in ("enable", "data_in"))
        text += f"  always @* if ({enable}) {state} = {data};\n"
    for pin, net in driven.items():
        if pin not in direct[:1]:
            text += f"  assign {delays.get(pin, '')}n{net} = {'~' if inverted[pin] else ''}{state};\n"
    return text, {driven[direct[0]]} if direct else set()


def required(cell: Cell, key: str) -> str:
    """An attribute of a flip-flop's or latch's state. Raises `InputError` if it has none."""
    if not cell.state.get(key):
        raise InputError(f"cell {cell.name}: its {cell.state['kind']} group must have {key}")
    return cell.state[key]


def state_pins(cell: Cell, state: str) -> dict[str, str]:
    """The names of a cell's state and its complement in its functions, for `expression`."""
    names = {cell.state["variable"]: state, cell.state["inverse"]: f"(~{state})"}
    return {name: value for name, value in names.items() if name}


def _edge_of(text: str) -> str:
    """posedge or negedge of a pin or its complement."""
    match = re.fullmatch(r"\(*(~?)\(*(\w+)\)*", text.replace(" ", ""))
    if not match:
        raise InputError(f"a clock, clear or preset must be a pin or its complement, not {text!r}")
    return f"{'negedge' if match[1] else 'posedge'} {match[2]}"


def _never(text: str) -> bool:
    """Whether a condition of constants is always 0: an asynchronous reset that is tied off."""
    return text.replace("(", "").replace(")", "") in ("~1'b1", "1'b0")


_SYMBOL = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<constant>[01])|(?P<mark>[!'&*|+^()~]))")


def expression(function: str, pins: Mapping[str, str]) -> str:
    """A Liberty function in Verilog, with `pins` for its names: ! and ' negate, & * and a space are AND, | and + OR.

    Raises `InputError` if it is not a function, or reads a name that is not among `pins`.
    """
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(function.rstrip()):
        match = _SYMBOL.match(function, position)
        if not match or not match.lastgroup or len(tokens) == LONGEST_FUNCTION:
            raise InputError(f"function {function[:80]!r} is not one of Liberty")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    position = 0

    def peek() -> str:
        return tokens[position][1] if position < len(tokens) else ""

    def level_or() -> str:
        nonlocal position
        parts = [level_xor()]
        while peek() in ("|", "+"):
            position += 1
            parts.append(level_xor())
        return parts[0] if len(parts) == 1 else f"({' | '.join(parts)})"

    def level_xor() -> str:
        nonlocal position
        parts = [level_and()]
        while peek() == "^":
            position += 1
            parts.append(level_and())
        return parts[0] if len(parts) == 1 else f"({' ^ '.join(parts)})"

    def level_and() -> str:
        nonlocal position
        parts = [factor()]
        while position < len(tokens) and peek() not in ("|", "+", "^", ")"):
            if peek() in ("&", "*"):
                position += 1
            parts.append(factor())
        return parts[0] if len(parts) == 1 else f"({' & '.join(parts)})"

    def factor() -> str:
        nonlocal position
        if position >= len(tokens):
            raise InputError(f"function {function[:80]!r} is not one of Liberty")
        kind, value = tokens[position]
        position += 1
        if value in ("!", "~"):
            result = f"(~{factor()})"
        elif value == "(":
            result = level_or()
            if peek() != ")":
                raise InputError(f"function {function[:80]!r} is not one of Liberty")
            position += 1
        elif kind == "name":
            if value not in pins:
                raise InputError(f"function {function[:80]!r} reads {value}, which is not connected")
            result = pins[value]
        elif kind == "constant":
            result = f"1'b{value}"
        else:
            raise InputError(f"function {function[:80]!r} is not one of Liberty")
        while peek() == "'":
            position += 1
            result = f"(~{result})"
        return result

    result = level_or()
    if position != len(tokens):
        raise InputError(f"function {function[:80]!r} is not one of Liberty")
    return result
