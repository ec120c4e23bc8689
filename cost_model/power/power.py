"""Power from toggles: each net's changes times the library's energies, plus the clock and leakage.

The primary figures assume zero delay, no wires, a free-running clock and no writes to the table. `PowerParameters`
changes these assumptions; only figures with its defaults are primary.
"""

from dataclasses import asdict, dataclass
from typing import Any

from cost_model.netlist.netlist import Netlist
from cost_model.power.gate_level import Activity, Verified
from sim.reference import InputError


@dataclass(frozen=True)
class PowerParameters:
    """Assumptions that the netlist does not determine.

    Parameters
    ----------
    wire_load_f : float
        Capacitance of wire per driven pin, in F.
    glitches : float
        Combinational toggles per settled toggle, at least 1.
    activity : float
        Share of cycles with a beat, 0..1. Data toggles scale with it, the clock does not.
    gated : float
        Share of the flip-flops' clock energy that clock gating saves, 0..1.
    """

    wire_load_f: float = 0.0
    glitches: float = 1.0
    activity: float = 1.0
    gated: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.wire_load_f <= 1e-12:
            raise InputError(f"wire load must be in 0..1e-12 F per pin, not {self.wire_load_f}")
        if not 1 <= self.glitches <= 100:
            raise InputError(f"glitches must be in 1..100, not {self.glitches}")
        for name in ("activity", "gated"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in 0..1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Power:
    """Energy per cycle by cause in J, and leakage in W (None if the library does not give it).

    For a library without energies, the switched capacitance in NAND2 inputs per cycle. `by_instance` is each cell's
    share of the energy, by instance name.
    """

    logic: float
    registers: float
    clock: float
    leakage_w: float | None
    physical: bool
    by_instance: dict[str, float]
    source: dict[str, Any]

    @property
    def energy(self) -> float:
        """Per cycle: J, or NAND2 inputs."""
        return self.logic + self.registers + self.clock

    @property
    def leakage_note(self) -> str:
        """A note on whether `watts` includes leakage."""
        return (
            "leakage included" if self.leakage_w is not None else "leakage not included: the library does not give it"
        )

    def watts(self, clock_hz: float) -> float:
        """Power at that clock, without leakage if that is not known. Raises `InputError` if there are no energies."""
        if not self.physical:
            raise InputError("a library without energies gives a switching proxy, not watts")
        return self.energy * clock_hz + (self.leakage_w or 0.0)


def power(netlist: Netlist, activity: Activity, verified: Verified, parameters: PowerParameters | None = None) -> Power:
    """The power of a netlist that has passed its vectors.

    Raises `InputError` if toggles or vectors are those of another netlist.
    """
    for what, digest in (("toggles", activity.netlist_sha256), ("verified vectors", verified.netlist_sha256)):
        if digest != netlist.sha256:
            raise InputError(f"the {what} belong to another netlist ({digest[:12]}, not {netlist.sha256[:12]})")
    p = parameters or PowerParameters()
    library = netlist.library
    clock = netlist.ports["clk"][1][0] if "clk" in netlist.ports else None
    rates = {net: count / activity.cycles * p.activity for net, count in activity.toggles.items()}
    if isinstance(clock, int):
        rates[clock] = 2.0

    sums = {"logic": 0.0, "registers": 0.0, "clock": 0.0}
    shares: dict[str, float] = {}
    for instance in netlist.instances:
        sequential = bool(instance.cell.state)
        glitches = 1.0 if sequential else p.glitches
        share = 0.0
        for pin, net in instance.driven.items():
            energy = instance.cell.pins[pin].energy + library.charging(netlist.load_f(net, p.wire_load_f))
            share += rates.get(net, 0.0) * glitches * energy
        sums["registers" if sequential else "logic"] += share
        for pin, net in instance.read.items():
            energy = rates.get(net, 0.0) * instance.cell.pins[pin].energy
            if net == clock:
                energy = (energy + rates[net] * library.charging(instance.cell.pins[pin].capacitance_f)) * (1 - p.gated)
            sums["clock" if net == clock else "registers" if sequential else "logic"] += energy
            share += energy
        shares[instance.name] = share
    if isinstance(clock, int):
        sums["clock"] += rates[clock] * library.charging(netlist.wires.get(clock, 0.0)) * (1 - p.gated)
    for direction, bits in netlist.ports.values():
        if direction == "input":
            inputs = [bit for bit in bits if isinstance(bit, int) and bit != clock]
            sums["logic"] += sum(
                rates.get(bit, 0.0) * library.charging(netlist.load_f(bit, p.wire_load_f)) for bit in inputs
            )
    source = {
        "toggles": activity.simulator,
        "vectors": activity.vectors,
        "cycles": activity.cycles,
        "verified_vectors": verified.vectors,
        "netlist_sha256": netlist.sha256,
        "parameters": asdict(p),
    }
    return Power(**sums, leakage_w=netlist.leakage_w, physical=library.has_energies, by_instance=shares, source=source)
