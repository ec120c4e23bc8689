"""The units for softmax and the norms: their cycles, and area and energy as measured (`data/row_units.json`)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cost_model.analytical.estimate import coefficients
from cost_model.network.machine import Machine
from cost_model.network.sites import InRows
from ga_search.methods.secants import secant_table
from rtl.rowwise.norm import NormConfig
from rtl.rowwise.softmax import SoftmaxConfig
from sim.common.results import read_results
from sim.reference import Norm, Normaliser
from sim.reference.norm import spread_bits_for
from sim.reference.row_cycles import RowSchedule
from sim.vectors.rowwise import fitted_softmax

ROW_UNITS = Path(__file__).parents[1] / "data" / "row_units.json"


def row_cycles(schedule: RowSchedule, rows: int, length: int) -> int:
    """Cycles of rows of one length: in closed form if none of them waits, else extrapolated from when the waits repeat.

    A row waits for the row that is `schedule.rows` ahead. After a bounded number of rows, either this wait or the input
    of elements alone decides the time, and the increments repeat.
    """
    if schedule.unlimited is not None and length >= schedule.unlimited:
        return (rows + schedule.passes) * length + schedule.latency
    settled = schedule.rows * (schedule.passes * length + schedule.latency + 1)
    repeats = max(rows - settled, 0) // schedule.rows
    first = rows - repeats * schedule.rows
    cycles, next_cycles = (schedule.cycles([length] * count) for count in (first, first + schedule.rows))
    return cycles + repeats * (next_cycles - cycles)


@lru_cache(maxsize=8)
def schedule(kind: str) -> RowSchedule:
    """The timing of a rowwise unit at its default depth, which does not depend on tables and lengths."""
    if kind == "softmax":
        return SoftmaxConfig(fitted_softmax(secant_table("exp"), secant_table("div"), 4, 7, 128)).schedule
    rsqrt = Normaliser(secant_table("rsqrt"), 5, spread_bits_for(4, 1), 0, False)
    return NormConfig(Norm((1,) * 4, (0,) * 4, 0, 1, rsqrt)).schedule


@lru_cache(maxsize=8)
def row_units(library: str) -> Mapping[str, dict[str, Any]]:
    """What softmax and the norms take in a library, by unit, as `python -m cost_model rows` measured it; empty if it
    did not. Energy is that of a cycle, in which one element comes and one goes."""
    nand2 = coefficients()["libraries"][library]["nand2_area"]
    return {
        row["unit"]: {
            "length": row["length"],
            "memory_bits": 0 if row["memories_in_area"] else row["memory_bits"],
            "area_ge": row["area"] / nand2,
            "leakage_w": row["leakage_w"],
            "energy": row["switching_proxy"] if row["power_w"] is None else row["energy_per_cycle_j"],
            "needs_s": None if row["slack_s"] is None else row["source"]["period_s"] - row["slack_s"],
            "source": row["source"],
        }
        for row in read_results(ROW_UNITS)["rows"] if row["library"] == library
    }  # fmt: skip


def too_slow(sites: Sequence[InRows], machine: Machine) -> list[str]:
    """A message for each rowwise unit whose measured delay exceeds the clock's period."""
    needs = {kind: unit["needs_s"] for kind, unit in row_units(machine.library).items() if unit["needs_s"]}
    used = dict.fromkeys(site.kind for site in sites)
    return [
        f"{kind} needs {needs[kind] * 1e9:.1f} ns in {machine.library}, but a cycle has {1e9 / machine.clock_hz:g}"
        for kind in used if needs.get(kind, 0.0) * machine.clock_hz > 1
    ]  # fmt: skip


def too_long(sites: Sequence[InRows], machine: Machine) -> list[str]:
    """A message for each kind and length of rows that are longer than the measured units hold."""
    holds = {kind: unit["length"] for kind, unit in row_units(machine.library).items()}
    rows = dict.fromkeys((site.kind, site.length) for site in sites)
    return [
        f"{kind} has rows of {length}, but the unit that was measured for area and energy holds {holds[kind]}"
        for kind, length in rows if length > holds.get(kind, length)
    ]  # fmt: skip
