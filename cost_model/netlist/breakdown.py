"""A unit's area and energy by component: each cell of its netlist belongs to one component.

The unit is synthesised once more with the wires between its steps kept. A gate belongs to the first step whose result
depends on it; a register belongs to the table if only the table's write port can change it. Nothing is shared across
steps, so this netlist is a little larger than the unit's own. The difference is the part `shared`, so that the parts
add up to the unit exactly.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from cost_model.netlist.netlist import Instance, Netlist
from rtl.verilog_text import declared

# component: the wires that its steps make, in the order of the pipeline
STEPS: Mapping[str, tuple[str, ...]] = {
    "comparators": ("above", "key_a", "key_b"),
    "selection": ("slope", "intercept"),
    "multiplier": (
        *("addend", "product", "row_0", "row_1", "kept", "sticky", "scale"),
        *("weighted", "product_a", "product_b", "along_0", "along_1", "across_0", "across_1"),
    ),
    "product rounding": ("product_rounded",),
    "alignment": ("large", "small", "sum_sign", "subtract", "exponent", "fraction", "aligned", "below"),
    "adder": ("low", "acc", "total", "total_0", "total_1"),
    "normalisation": ("normal", "rest", "lifted"),
    "shifter": ("scaled", "scaled_0", "scaled_1"),
    "rounding": ("code", "code_0", "code_1", "rounded", "moved", "result"),
}
PARTS = ("table", *STEPS, "registers", "control")
SHARED = "shared"


@dataclass(frozen=True)
class Part:
    """One component: area in the library's unit, energy per cycle as `cost_model.power.power` gives it."""

    component: str
    area: Decimal
    energy: float


def kept_wires(verilog: str) -> tuple[str, ...]:
    """The step wires that a unit's Verilog has, to be kept in the second synthesis."""
    found = declared(verilog)
    return tuple(sorted(name for wires in STEPS.values() for name in wires if name in found))


def parts(whole: Netlist, kept: Netlist, energies: Mapping[str, float], whole_energy: float) -> list[Part]:
    """The parts of `whole`, with cells assigned in `kept`; `energies` are those of its instances, by name.

    The last part is `shared`.
    """
    areas: dict[str, Decimal] = defaultdict(Decimal)
    sums: dict[str, float] = defaultdict(float)
    owners = components(kept)
    for instance in kept.instances:
        component = owners[instance.name]
        areas[component] += instance.cell.area
        sums[component] += energies.get(instance.name, 0.0)
    rows = [Part(name, areas[name], sums[name]) for name in PARTS if areas[name]]
    shared = Part(SHARED, whole.area - kept.area, whole_energy - sum(sums.values()))
    return [*rows, shared]


def components(netlist: Netlist) -> dict[str, str]:
    """Instance name to component, for a netlist whose step wires were kept."""
    drivers = {net: instance for instance in netlist.instances for net in instance.driven.values()}
    owner = register_owners(netlist, register_sources(netlist, drivers))
    ends: dict[str, list[int]] = {name: [] for name in PARTS}
    for net, names in netlist.names.items():
        plain = {re.sub(r"\[\d+\]$", "", name) for name in names}
        for component, wires in STEPS.items():
            if plain & set(wires):
                ends[component].append(net)
                break
    stops = {net for component in STEPS for net in ends[component]}
    for instance in netlist.instances:
        if instance.cell.state:
            ends[owner[instance.name]] += list(instance.read.values())
    for name in PARTS:
        stack = list(ends[name])
        while stack:
            instance = drivers.get(stack.pop())
            if instance is None or instance.name in owner:
                continue
            owner[instance.name] = name
            stack += [net for net in instance.read.values() if net not in stops]
    return {i.name: owner.get(i.name, "control") for i in netlist.instances}


def register_sources(netlist: Netlist, drivers: Mapping[int, Instance]) -> dict[str, set[str]]:
    """For each flip-flop and latch, the ports and other registers that drive it through gates."""
    port_nets = {
        bit: name
        for name, (direction, bits) in netlist.ports.items()
        if direction == "input" and name not in ("clk", "rst")
        for bit in bits
    }
    sources: dict[str, set[str]] = {}
    for register in (instance for instance in netlist.instances if instance.cell.state):
        stack, seen, found = list(register.read.values()), set(), set()
        while stack:
            net = stack.pop()
            if net in seen:
                continue
            seen.add(net)
            if net in port_nets:
                found.add(port_nets[net])
            elif (driver := drivers.get(net)) is not None:
                if driver.cell.state:
                    found.add(driver.name)
                else:
                    stack += list(driver.read.values())
        sources[register.name] = found - {register.name}
    return sources


def register_owners(netlist: Netlist, sources: Mapping[str, set[str]]) -> dict[str, str]:
    """The component of each flip-flop and latch: the table, the handshake, or the pipeline."""
    registers = [instance for instance in netlist.instances if instance.cell.state]
    owner: dict[str, str] = {}
    table: set[str] = {name for name in netlist.ports if name.startswith("table__")}
    latched = any(register.cell.state["kind"] == "latch" for register in registers)
    for _ in range(4 if latched else 1):  # a latch is two registers behind the port
        for name, found in sources.items():
            if found and found <= table:
                owner[name] = "table"
        table |= {name for name, component in owner.items() if component == "table"}
    for register in registers:
        names = {name for net in register.driven.values() for name in netlist.names.get(net, ())}
        valid = any(re.match(r"(valid_\d+|o__valid)$", name) for name in names)
        owner.setdefault(register.name, "control" if valid else "registers")
    return owner
