"""A packed model on hardware: bytes, multiply-accumulates, cycles and energy, site by site.

Cycles are exact (`sim.reference.array_cycles`, `row_cycles`). They are those of each site on an array configured for
it, and are added up without overlap and without waiting for memory. Energy is the dynamic energy of what a site uses.
Processing elements in cycles that do work, the shifting in of weights, array columns, requantisers, table units and
Hadamard units are estimated by the analytical model; softmax and norms are as measured (`data/row_units.json`). Each
product is priced on processing elements of its own widths; leakage is that of one machine with the widest of them.
"""

import re
from collections.abc import Sequence
from typing import Any

from cost_model.analytical.estimate import coefficients
from cost_model.network.coverage import joined
from cost_model.network.hardware import hardware, of_type
from cost_model.network.machine import Machine
from cost_model.network.row_units import row_units, too_long, too_slow
from cost_model.network.site_costs import BASELINES, Row, row_of
from cost_model.network.sites import Gemm, InRows, Site

TRAFFIC = "memories and the traffic to them"
NEVER = (
    f"{TRAFFIC}: weights, activations, accumulators, row memories",
    "wires, glitches and clock distribution; idle elements' clock (see the busy share)",
)


def report(sites: Sequence[Site], machine: Machine) -> dict[str, Any]:
    """The records of the sites, their totals, the hardware that they need, and the source of each figure."""
    rows = [row_of(site, machine) for site in sites]
    totals: dict[str, Any] = {key: _sum(rows, key) for key in ("bytes", "weights", "macs", "cycles", "energy")}
    both = [row for row in rows if row["floating_energy"] is not None]
    totals["energy_beside_floating"] = _sum(both, "energy")
    totals["floating_energy"] = (
        {name: sum(row["floating_energy"][name] for row in both) for name in BASELINES} if both else None
    )
    seconds = None if totals["cycles"] is None else totals["cycles"] / machine.clock_hz
    parts = hardware(sites, machine)
    leakage = _sum(parts, "leakage_w")
    totals |= {
        "seconds": seconds,
        "leakage_w": leakage,
        "leakage_energy": None if leakage is None or seconds is None else leakage * seconds,
        "area_ge": _sum(parts, "area_ge"),
    }
    return {
        "rows": rows,
        "totals": totals,
        "hardware": parts,
        "energy_unit": "J" if machine.physical else "NAND2 inputs charged",
        "too_slow": too_slow(of_type(sites, InRows), machine),
        "too_long": too_long(of_type(sites, InRows), machine),
        "notes": notes(of_type(sites, Gemm)),
        "not_counted": [*not_counted(rows), *NEVER],
        "source": source(machine),
    }


def not_counted(rows: Sequence[Row]) -> list[str]:
    """A line for each reason why figures are missing, with the names of the sites."""
    reasons = dict.fromkeys(row["not_counted"] for row in rows if row["not_counted"])
    names = {why: joined(row["site"] for row in rows if row["not_counted"] == why) for why in reasons}
    return [f"{why} ({sites})" for why, sites in names.items()]


def notes(products: Sequence[Gemm]) -> list[str]:
    """What the figures of products assume: the array that holds weights of 5 to 7 bits, and every expert's tokens."""
    held = dict.fromkeys((p.stored_bits, p.weight_bits) for p in products if p.stored_bits != p.weight_bits)
    lines = [
        f"weights of {stored} bits are priced as the array that holds them, of {array}: "
        + joined(p.name for p in products if (p.stored_bits, p.weight_bits) == (stored, array))
        for stored, array in held
    ]
    experts = [p.name for p in products if re.search(r"experts?\.\d+\.", p.name)]
    if experts:
        lines.append(f"each expert is priced for every token, though a router sends it a few: {joined(experts)}")
    return lines


def source(machine: Machine) -> dict[str, Any]:
    """The sources of the figures."""
    about, library = coefficients()["about"], coefficients()["libraries"][machine.library]
    return {
        "model": "cost_model/data/coefficients.json",
        "tool": about["tool"],
        "library": machine.library,
        "library_sha256": library["library_sha256"],
        "clock_hz": machine.clock_hz,
        "lanes": "composed of the model's components, not calibrated as lanes: "
        "cost_model.analytical.array_column says how far off",
        "cycles": "sim.reference.array_cycles, sim.reference.row_cycles; of each site on an array configured for it",
        "row_units": {key: row["source"] for key, row in row_units(machine.library).items()},
    }


def _sum(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return sum(values) if values else None
