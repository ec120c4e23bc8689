"""The area and energy of a rowwise unit by part: a cell belongs to the part whose registers depend on it.

Registers keep their names through synthesis, which give their part: a pass over the rows, the queues of finished rows,
the addresses of memories, or row memories in flip-flops. Registers that only the write port can change are tables. In a
pass, registers that lead to its queue are its work per row (totals, the reciprocal); the others are its work per
element. A gate belongs to the first part, in the order of `ORDER`, that it leads to. Nothing is synthesised again, and
the parts add up to the unit exactly.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal

from cost_model.netlist.breakdown import Part, register_owners, register_sources
from cost_model.netlist.memories import NAMES
from cost_model.netlist.netlist import Instance, Netlist

MEMORIES, TABLES, ROWS, ELEMENTS, QUEUES = "row memories", "tables", "per row", "per element", "row queues"
MEMORY_PORTS, CONTROL, INPUT_PINS = "memory ports", "flow control", "input pins"
ORDER = (
    MEMORIES, TABLES, f"pass 1, {ROWS}", f"pass 1, {ELEMENTS}", f"pass 2, {ROWS}", f"pass 2, {ELEMENTS}", QUEUES,
    MEMORY_PORTS, CONTROL,
)  # fmt: skip
NAMED = {
    MEMORIES: rf"(pass_\d\.)?({'|'.join(NAMES)})\[\d+\]",
    QUEUES: r"pass_\d\.queue\.",
    "pass 1": r"pass_0\.",
    "pass 2": r"pass_1\.",
    MEMORY_PORTS: "row_memory_",
}


def row_parts(netlist: Netlist, energies: Mapping[str, float], whole_energy: float) -> list[Part]:
    """The parts of a netlist, with the `energies` of its instances by name; the last part is driving its inputs."""
    areas: dict[str, Decimal] = defaultdict(Decimal)
    sums: dict[str, float] = defaultdict(float)
    owners = components(netlist)
    for instance in netlist.instances:
        areas[owners[instance.name]] += instance.cell.area
        sums[owners[instance.name]] += energies.get(instance.name, 0.0)
    rows = [Part(name, areas[name], sums[name]) for name in ORDER if areas[name]]
    return [*rows, Part(INPUT_PINS, Decimal(0), whole_energy - sum(sums.values()))]


def components(netlist: Netlist) -> dict[str, str]:
    """Instance name to part."""
    drivers = {net: instance for instance in netlist.instances for net in instance.driven.values()}
    owner = _registers(netlist, drivers)
    ends: dict[str, list[int]] = {name: [] for name in ORDER}
    for instance in netlist.instances:
        if instance.name in owner:
            ends[owner[instance.name]] += list(instance.read.values())
    for port, (direction, bits) in netlist.ports.items():
        if direction == "output" and port.startswith("row_memory_"):
            ends[MEMORY_PORTS] += [bit for bit in bits if isinstance(bit, int)]
    for name in ORDER:
        stack = ends[name]
        while stack:
            instance = drivers.get(stack.pop())
            if instance is not None and instance.name not in owner:
                owner[instance.name] = name
                stack += list(instance.read.values())
    return {i.name: owner.get(i.name, CONTROL) for i in netlist.instances}


def _registers(netlist: Netlist, drivers: Mapping[int, Instance]) -> dict[str, str]:
    """The part of each flip-flop and latch.

    Registers that only the table's port can change are the table's; those that a pass's queue depends on are its work
    per row.
    """
    sources = register_sources(netlist, drivers)
    owners = register_owners(netlist, sources)
    names = {
        i.name: [name for net in i.driven.values() for name in netlist.names.get(net, ())]
        for i in netlist.instances if i.cell.state
    }  # fmt: skip
    last = "pass 2" if any(name.startswith("pass_1.") for found in names.values() for name in found) else "pass 1"
    patterns = {**NAMED, last: rf"{NAMED[last]}|o__"}
    queues: dict[str, set[str]] = {"pass 1": set(), "pass 2": set()}  # the words that wait, or come
    for register, found in names.items():
        named = [part for part, text in patterns.items() if any(re.match(text, name) for name in found)]
        if owners[register] == "table" and MEMORIES not in named:
            owners[register] = TABLES
            continue
        owners[register] = named[0] if named else CONTROL
        for name in found:
            if match := re.match(r"pass_(\d)\.queue\.(storage|port|w_)", name):
                queues[f"pass {int(match[1]) + 1}"].add(register)
    for part, words in queues.items():
        before, stack = set(words), list(words)
        while stack:
            fresh = {name for name in sources[stack.pop()] if owners.get(name) == part} - before
            before |= fresh
            stack += fresh
        for register, owner in owners.items():
            if owner == part:
                owners[register] = f"{part}, {ROWS if register in before else ELEMENTS}"
    return owners
