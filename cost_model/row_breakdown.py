"""Where the area and energy of a unit for rows go: a cell belongs to the part of the unit whose registers it serves.

Registers keep their names through synthesis, and with them the part that they are in: a pass over the rows, the queues
of finished rows, the addresses of memories, or row memories where these are flip-flops; tables are what nothing but
their write port can change. A gate belongs to the first part, in the order of `ORDER`, that it leads to. Nothing is
synthesised again, and the parts add up to the unit exactly.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal

from cost_model.breakdown import Part, register_owners
from cost_model.memories import NAMES
from cost_model.netlist import Instance, Netlist

MEMORIES, TABLES, FIRST, SECOND, QUEUES, MEMORY_PORTS, CONTROL, INPUT_PINS = ORDER = (
    "row memories", "tables", "pass 1", "pass 2", "row queues", "memory ports", "flow control", "input pins"
)  # fmt: skip
NAMED = {
    MEMORIES: rf"(pass_\d\.)?({'|'.join(NAMES)})\[\d+\]",
    QUEUES: r"pass_\d\.queue\.",
    FIRST: r"pass_0\.",
    SECOND: r"pass_1\.",
    MEMORY_PORTS: "row_memory_",
}


def row_parts(netlist: Netlist, energies: Mapping[str, float], whole_energy: float) -> list[Part]:
    """The parts of a netlist whose instances' `energies` are by name; the last is what it takes to drive its inputs."""
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
    """The part of each flip-flop and latch; what nothing but the table's port can change is a table's."""
    owners = register_owners(netlist, drivers)
    names = {
        i.name: [name for net in i.driven.values() for name in netlist.names.get(net, ())]
        for i in netlist.instances if i.cell.state
    }  # fmt: skip
    last = SECOND if any(name.startswith("pass_1.") for found in names.values() for name in found) else FIRST
    patterns = {**NAMED, last: rf"{NAMED[last]}|o__"}
    for register, found in names.items():
        named = [part for part, text in patterns.items() if any(re.match(text, name) for name in found)]
        if owners[register] != "table" or MEMORIES in named:
            owners[register] = named[0] if named else CONTROL
        else:
            owners[register] = TABLES
    return owners
