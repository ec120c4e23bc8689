"""One design through the whole flow: synthesis, vectors at gate level, toggles, power, breakdown."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.cache import CACHE, remember
from cost_model.designs.design import Design
from cost_model.netlist.breakdown import Part, kept_wires, parts
from cost_model.netlist.netlist import Netlist
from cost_model.netlist.rowwise_breakdown import row_parts
from cost_model.netlist.synthesis import Flow, Synthesis, synthesise
from cost_model.power.bit_parallel import flowing
from cost_model.power.gate_level import SIMULATORS, Activity, GateLevel, Verified
from cost_model.power.power import Power, PowerParameters, power
from sim.reference import InputError

BIT_PARALLEL = "bit-parallel"  # `cost_model.power.bit_parallel`: quick, flowing only
ENGINES = (*SIMULATORS, BIT_PARALLEL)


@dataclass(frozen=True)
class Measured:
    """A design's area and power with their sources.

    Parameters
    ----------
    design : Design
        The unit and its vectors.
    synthesis : Synthesis
        Its netlist, with the area in the library's unit.
    power : Power
        Its energy per cycle in J, or in NAND2 inputs charged if the library gives no energies.
    parts : tuple of Part
        Area and energy by component; empty without a breakdown.
    """

    design: Design
    synthesis: Synthesis
    power: Power
    parts: tuple[Part, ...] = ()

    @property
    def area(self) -> float:
        """In the library's unit."""
        return self.synthesis.area

    def row(self, clock_hz: float | None) -> dict[str, Any]:
        """The record as JSON values; watts at `clock_hz` if the library gives energies, else the switching proxy."""
        physical = self.power.physical and clock_hz is not None
        return {
            "unit": self.design.unit,
            "format": self.design.format,
            "stages": self.design.stages,
            "library": self.synthesis.netlist.library.name,
            "multiplier": self.synthesis.flow.multiplier,
            "area": self.area,
            "area_unit": self.synthesis.area_unit,
            "power_w": self.power.watts(clock_hz) if physical and clock_hz else None,
            "energy_per_cycle_j": self.power.energy if self.power.physical else None,
            "leakage_w": self.power.leakage_w if self.power.physical else None,
            "switching_proxy": None if self.power.physical else self.power.energy,
            "clock_hz": clock_hz if physical else None,
            "memories": [dict(name=m.name, words=m.words, bits=m.bits) for m in self.design.memories],
            "memory_bits": sum(memory.size for memory in self.design.memories),
            "memories_in_area": self.design.memories_inside,
            "parts": [dict(component=p.component, area=float(p.area), energy=p.energy) for p in self.parts],
            "source": self.synthesis.source | self.power.source | {"bitwright": metadata.version("bitwright")},
        }


def measure(
    design: Design,
    flow: Flow,
    parameters: PowerParameters | None = None,
    simulator: str = "verilator",
    breakdown: bool = False,
    cache: Path = CACHE,
) -> Measured:
    """Synthesise a design, check every vector on the netlist, and count toggles.

    Memories that stay beside the netlist are in neither area nor power.

    Parameters
    ----------
    design : Design
        The unit and its vectors.
    flow : Flow
        The library and how to map to it.
    parameters : PowerParameters, optional
        Assumptions of power; by default those of the primary figures.
    simulator : str
        One of `ENGINES`.
    breakdown : bool
        Whether to split area and energy by component.
    cache : Path
        The folder for netlists and toggles.

    Returns
    -------
    Measured
        Area in the library's unit, and energy per cycle in J if the library gives energies.

    Raises
    ------
    GateLevelError
        If a result of the netlist differs from the vectors; there are no figures then.
    InputError
        If the simulator cannot run the unit.
    """
    if design.in_rows and simulator == BIT_PARALLEL:
        raise InputError(f"--simulator must be {' or '.join(SIMULATORS)} for a rowwise unit, not {BIT_PARALLEL}")
    flow = replace(flow, memories=design.beside)
    synthesis = synthesise(design.device.verilog, design.device.module, flow, cache)
    spent = _power(design, synthesis.netlist, parameters, simulator, cache)
    found: tuple[Part, ...] = ()
    if breakdown and design.in_rows:
        found = tuple(row_parts(synthesis.netlist, spent.by_instance, spent.energy))
    elif breakdown:
        wires = kept_wires(design.device.verilog)
        kept = synthesise(design.device.verilog, design.device.module, replace(flow, keep=wires), cache).netlist
        energies = _power(design, kept, parameters, simulator, cache).by_instance
        found = tuple(parts(synthesis.netlist, kept, energies, spent.energy))
    return Measured(design, synthesis, spent, found)


def _power(design: Design, netlist: Netlist, parameters: PowerParameters | None, simulator: str, cache: Path) -> Power:
    return power(netlist, *activity(design, netlist, simulator, cache), parameters)


def activity(design: Design, netlist: Netlist, simulator: str, cache: Path = CACHE) -> tuple[Activity, Verified]:
    """The toggles of a design's work on its netlist, which gave every expected result first."""
    if simulator == BIT_PARALLEL:
        return _flowing(design, netlist, cache)
    gates = GateLevel(netlist, design.device, simulator, cache, design.beside)
    verified = gates.verify([design.work, *design.checks], design.stalls)
    return gates.activity(design.work), verified


def _flowing(design: Design, netlist: Netlist, cache: Path) -> tuple[Activity, Verified]:
    """The bit-parallel evaluation, from the cache if it has these vectors on this netlist."""
    sets = [design.work, *design.checks]
    arrays = [[vectors.name, sorted((k, hash_of(a)) for k, a in vectors.arrays.items())] for vectors in sets]

    def compute() -> str:
        found, verified = flowing(netlist, design.device, design.work, design.checks, design.stalls)
        return json.dumps([asdict(found), asdict(verified)])

    found, verified = json.loads(remember(cache, "toggles", [netlist.sha256, design.device.latency, arrays], compute))
    found["toggles"] = {int(net): count for net, count in found["toggles"].items()}
    return Activity(**found), Verified(**verified)


def hash_of(array: np.ndarray) -> str:
    """The SHA-256 of an array's values."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
