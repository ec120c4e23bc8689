"""A packed model on hardware: bytes, multiply-accumulates, cycles and energy, site by site.

Cycles are exact (`sim.reference.array_cycles`, `row_cycles`). They are those of each site on an array configured for
it, and are added up without overlap and without waiting for memory. Energy is the dynamic energy of what a site uses.
Processing elements in cycles that do work, the shifting in of weights, array columns, requantisers and table units are
estimated by the analytical model; softmax and norms are as measured (`data/row_units.json`). Each product is priced on
processing elements of its own widths; leakage is that of one machine with the widest of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cost_model.analytical.array_column import array_column
from cost_model.analytical.components import Cost
from cost_model.analytical.estimate import coefficients, estimate
from cost_model.designs.design import FLOAT_FORMATS
from cost_model.netlist import timing
from cost_model.network.sites import Gemm, InRows, Pwl, Site, Uncounted
from ga_search.methods.secants import secant_table
from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from rtl.requant import RequantConfig
from rtl.rowwise.norm import NormConfig
from rtl.rowwise.softmax import SoftmaxConfig
from sim.common.results import read_results
from sim.reference import InputError, Norm, Normaliser
from sim.reference.norm import spread_bits_for
from sim.reference.pwl import require_range
from sim.reference.row_cycles import RowSchedule
from sim.vectors.rowwise import fitted_softmax

ROW_UNITS = Path(__file__).parents[1] / "data" / "row_units.json"
INPUT_BITS = 16  # of inputs that are requantised before a product
BASELINES = ("FP32", "FP16")  # FP16 with its sum in FP32
Row = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """The hardware: an array, table units, one unit for softmax and one for norms.

    Parameters
    ----------
    rows, columns, depth : int
        The array's inputs, output channels, and accumulators per column.
    two_pass : bool
        The multipliers take 5-bit operands; activations of more than 4 bits take two passes.
    lanes : int
        Table units in parallel.
    library : str
        A library for which the analytical model has coefficients.
    clock_hz : float
        The clock, in Hz.

    Raises
    ------
    InputError
        If the library is unknown or a number is out of its range.
    """

    rows: int = 16
    columns: int = 16
    depth: int = 128
    two_pass: bool = False
    lanes: int = 1
    library: str = "gate_equivalents"
    clock_hz: float = 125e6

    def __post_init__(self) -> None:
        require_range("lanes", self.lanes, 1, 1 << 16)
        if self.library not in (known := coefficients()["libraries"]):
            raise InputError(f"library must be one of {', '.join(known)}, not {self.library!r}")
        if not 1e3 <= self.clock_hz <= 1e11:
            raise InputError(f"clock must be in 0.001..100000 MHz, not {self.clock_hz / 1e6:g}")
        self.array(8, True, 8, None, 0, 1)  # checks the array's parameters

    def array(
        self, weight_bits: int, weight_signed: bool, activation_bits: int, group: int | None, multiplier_bits: int,
        inputs: int,
    ) -> ArrayConfig:  # fmt: skip
        """The array for a product of these widths."""
        wide = activation_bits > 4
        return ArrayConfig(
            self.rows, self.columns, weight_bits, weight_signed, 8 if wide else 4, self.two_pass and wide, group,
            multiplier_bits, inputs, depth=self.depth,
        )  # fmt: skip

    def array_of(self, site: Gemm) -> ArrayConfig:
        """The array for a site whose activations it can take."""
        assert site.activation_bits is not None
        return self.array(
            site.weight_bits, site.weight_signed, site.activation_bits, site.group, site.multiplier_bits, site.inputs
        )

    @property
    def physical(self) -> bool:
        """Whether the library gives joules; if not, energies are the switching proxy, NAND2 inputs charged."""
        return coefficients()["libraries"][self.library]["physical"]

    def energy(self, cost: Cost) -> float:
        """The energy of one action in J, or the switching proxy."""
        return float(cost.energy_j if self.physical else cost.proxy)


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
        "too_slow": too_slow(sites, machine),
        "too_long": too_long(sites, machine),
        "not_counted": list(dict.fromkeys(row["not_counted"] for row in rows if row["not_counted"])) + list(NEVER),
        "source": source(machine),
    }


def too_slow(sites: Sequence[Site], machine: Machine) -> list[str]:
    """A message for each rowwise unit whose measured delay exceeds the clock's period."""
    needs = {kind: unit["needs_s"] for kind, unit in row_units(machine.library).items() if unit["needs_s"]}
    used = dict.fromkeys(site.kind for site in of_type(sites, InRows))
    return [
        f"{kind} needs {needs[kind] * 1e9:.1f} ns in {machine.library}, but a cycle has {1e9 / machine.clock_hz:g}"
        for kind in used if needs.get(kind, 0.0) * machine.clock_hz > 1
    ]  # fmt: skip


def too_long(sites: Sequence[Site], machine: Machine) -> list[str]:
    """A message for each kind and length of rows that are longer than the measured units hold."""
    holds = {kind: unit["length"] for kind, unit in row_units(machine.library).items()}
    rows = dict.fromkeys((site.kind, site.length) for site in of_type(sites, InRows))
    return [
        f"{kind} has rows of {length}, but the unit that was measured for area and energy holds {holds[kind]}"
        for kind, length in rows if length > holds.get(kind, length)
    ]  # fmt: skip


NEVER = (
    "memories and the traffic to them: weights, activations, accumulators, row memories",
    "wires, glitches and clock distribution; idle elements' clock (see the busy share)",
)


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


def row_of(site: Site, machine: Machine) -> Row:
    """The record of one site; unknown figures are None."""
    row: Row = {
        "site": site.name,
        "kind": site.kind,
        "shape": None,
        "jobs": None,
        "bits": None,
        "group": None,
        "passes": None,
        "bytes": sum(site.bytes.values()),
        "bytes_by_role": dict(site.bytes),
        "weights": None,
        "macs": None,
        "cycles": None,
        "busy": None,
        "energy": None,
        "energy_by_part": {},
        "floating_energy": None,
        "not_counted": None,
    }
    figures = FIGURES.get(type(site))
    return row if figures is None else row | figures(site, machine)


def _gemm(site: Gemm, machine: Machine) -> Row:
    shape: Row = {
        "shape": [site.tokens, site.inputs, site.outputs],
        "jobs": site.jobs,
        "bits": f"W{site.weight_bits}A{site.activation_bits or '?'}",
        "group": site.group,
        "weights": site.inputs * site.outputs if site.kind == "linear" else None,
        "macs": site.macs,
    }
    if site.activation_bits is None:
        why = "linear layers whose activations are not signed codes of at most 8 bits: not for the array"
        return shape | {"not_counted": why}
    config = machine.array_of(site)
    passes = 1 + config.two_pass
    sizes = (site.tokens, site.inputs, site.outputs, passes)
    cycles = (site.jobs - 1) * config.schedule.interval(*sizes) + config.schedule.cycles(*sizes)
    operands = config.operand_shape.width
    element = estimate("element", machine.library, rows=machine.rows, weight_bits=site.weight_bits,
                       activation_bits=operands).total  # fmt: skip
    results = site.jobs * site.tokens * site.outputs
    tiles = len(config.schedule.input_tiles(site.inputs))
    shifted = site.jobs * config.schedule.tiles(*sizes[:3]) * (machine.rows + 1) * machine.rows * machine.columns
    parts = {
        "elements": passes * site.macs * machine.energy(element),
        "weight loading": shifted * config.weight_bits * _moved_bit(machine),
        "lanes": results * tiles * machine.energy(array_column(config, machine.library).total),
        "requantisers": results * machine.energy(_requantiser(config.accumulator_bits, site.out_bits or 8, machine)),
    }
    if site.inputs_requantised:
        inputs = site.jobs * site.tokens * site.inputs
        parts["input requantisers"] = inputs * machine.energy(_requantiser(INPUT_BITS, site.activation_bits, machine))
    return shape | {
        "passes": passes,
        "cycles": cycles,
        "busy": passes * site.macs / (machine.rows * machine.columns * cycles),
        "energy": sum(parts.values()),
        "energy_by_part": parts,
        "floating_energy": _floating_products(site, machine),
        "not_counted": None if site.inputs_uncounted is None else f"{site.kind}: {site.inputs_uncounted}",
    }


def _moved_bit(machine: Machine) -> float:
    """The energy of moving one bit of weight into a register. In a tile, the next weight of each processing element is
    shifted once per row and put in use once. The registers' clock energy is in the processing elements' cycles.
    """
    fitted = coefficients()["libraries"][machine.library]
    return fitted["energy"]["register bits"] * fitted["activity"]["element"]


def _requantiser(in_bits: int, out_bits: int, machine: Machine) -> Cost:
    unit = RequantConfig(in_bits=in_bits, out_bits=max(out_bits, 4))
    return estimate(
        "requant", machine.library, in_bits=unit.in_bits, multiplier_bits=unit.multiplier_bits,
        max_shift=unit.max_shift, out_bits=unit.out_bits, stages=unit.stages,
    ).total  # fmt: skip


def _floating_products(site: Gemm, machine: Machine) -> dict[str, float]:
    """The energy of the same products in each floating-point format, at its recorded pipeline depth."""
    found = {}
    for name in BASELINES:
        stages = timing.recorded("element", name, 0)["stages"]
        wide = name == "FP16"
        unit = estimate("fp-element", machine.library, **_float_shape(name), wide_sum=wide, stages=stages)
        found[name] = site.macs * machine.energy(unit.total)
    return found


def _floating_tables(site: Pwl, machine: Machine) -> dict[str, float]:
    """The energy of the same table look-ups in each floating-point format."""
    found = {}
    for name in BASELINES:
        stages = timing.recorded("pwl", name, 8)["stages"]
        unit = estimate("fp-pwl", machine.library, entries=site.entries, **_float_shape(name), stages=stages)
        found[name] = sum(site.codes) * machine.energy(unit.total)
    return found


def _float_shape(name: str) -> dict[str, int]:
    of = FLOAT_FORMATS[name]
    return {"exponent_bits": of.exponent_bits, "fraction_bits": of.fraction_bits}


def _pwl(site: Pwl, machine: Machine) -> Row:
    """The record of table look-ups. Each table is loaded once, one word a cycle, and drained before the next."""
    stages = PwlConfig.stages
    loads = 3 * site.entries - 1
    cycles = sum(loads + -(-codes // machine.lanes) + stages for codes in site.codes)
    unit = estimate(
        "pwl", machine.library, entries=site.entries, in_bits=site.in_bits, coef_bits=site.coef_bits,
        out_bits=site.out_bits, stages=stages,
    ).total  # fmt: skip
    codes = sum(site.codes)
    return {
        "shape": [codes],
        "jobs": len(site.codes),
        "bits": f"{site.in_bits}>{site.out_bits}",
        "cycles": cycles,
        "busy": codes / (cycles * machine.lanes),
        "energy": codes * machine.energy(unit),
        "energy_by_part": {"table units": codes * machine.energy(unit)},
        "floating_energy": _floating_tables(site, machine),
    }


def _uncounted(site: Uncounted, machine: Machine) -> Row:
    return {"not_counted": f"{site.kind}: {site.why}"}


def _in_rows(site: InRows, machine: Machine) -> Row:
    elements = site.rows * site.length
    cycles = row_cycles(schedule(site.kind), site.rows, site.length)
    measured = row_units(machine.library).get(site.kind)
    energy = None if measured is None else elements * measured["energy"]
    return {
        "shape": [site.rows, site.length],
        "cycles": cycles,
        "busy": elements / cycles,
        "energy": energy,
        "energy_by_part": {} if energy is None else {"units for rows": energy},
        "not_counted": None if energy is not None else f"{site.kind}: no measured energy in this library",
    }


FIGURES: dict[type[Site], Callable[[Any, Machine], Row]] = {
    Gemm: _gemm,
    Pwl: _pwl,
    InRows: _in_rows,
    Uncounted: _uncounted,
}
S = TypeVar("S", bound=Site)


def of_type(sites: Sequence[Site], kind: type[S]) -> list[S]:
    """The sites of one type."""
    return [site for site in sites if isinstance(site, kind)]


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
def row_units(library: str) -> Mapping[str, Row]:
    """What softmax and the norms take in a library, by unit, as `python -m cost_model rows` measured it; empty if it
    did not. Energy is that of a cycle, in which one element comes and one goes."""
    nand2 = coefficients()["libraries"][library]["nand2_area"]
    return {
        row["unit"]: {
            "length": row["length"],
            "area_ge": row["area"] / nand2,
            "leakage_w": row["leakage_w"],
            "energy": row["switching_proxy"] if row["power_w"] is None else row["energy_per_cycle_j"],
            "needs_s": None if row["slack_s"] is None else row["source"]["period_s"] - row["slack_s"],
            "source": row["source"],
        }
        for row in read_results(ROW_UNITS)["rows"] if row["library"] == library
    }  # fmt: skip


def hardware(sites: Sequence[Site], machine: Machine) -> list[Row]:
    """The hardware that the sites need: the count, area and leakage of each unit, without memories."""
    parts: list[Row] = []

    def add(unit: str, count: int, area_ge: float, leakage_w: float | None, what: str) -> None:
        leakage = None if leakage_w is None else count * leakage_w
        parts.append({"unit": unit, "count": count, "what": what, "area_ge": count * area_ge, "leakage_w": leakage})

    def add_estimate(unit: str, count: int, cost: Cost, what: str) -> None:
        add(unit, count, float(cost.area_ge), float(cost.leakage_w) if machine.physical else None, what)

    products = [site for site in of_type(sites, Gemm) if site.activation_bits is not None]
    if products:
        configs = [machine.array_of(site) for site in products]
        weight, operand = max(c.weight_bits for c in configs), max(c.operand_shape.width for c in configs)
        element = estimate("element", machine.library, rows=machine.rows, weight_bits=weight, activation_bits=operand)
        add_estimate("element", machine.rows * machine.columns, element.total, f"W{weight}, {operand}-bit operands")
        lanes = [array_column(config, machine.library).total for config in configs]
        largest = lanes[int(np.argmax([float(cost.area_ge) for cost in lanes]))]
        add_estimate("lane", machine.columns, largest, "the largest of the sites'")
        bits = max(config.accumulator_bits for config in configs)
        out = max(site.out_bits or 8 for site in products)
        add_estimate("requantiser", machine.columns, _requantiser(bits, out, machine), f"{bits} to {out} bits")
        inputs = [site.activation_bits or 0 for site in products if site.inputs_requantised]
        if inputs:
            unit, what = _requantiser(INPUT_BITS, max(inputs), machine), f"{INPUT_BITS} to {max(inputs)} bits"
            add_estimate("input requantiser", machine.rows, unit, what)
    tables = of_type(sites, Pwl)
    if tables:
        shape = {k: max(getattr(t, k) for t in tables) for k in ("entries", "in_bits", "coef_bits", "out_bits")}
        unit = estimate("pwl", machine.library, **shape, stages=PwlConfig.stages).total
        add_estimate("table unit", machine.lanes, unit, f"{shape['entries']} entries")
    for kind in dict.fromkeys(site.kind for site in of_type(sites, InRows)):
        measured = row_units(machine.library).get(kind)
        if measured is not None:
            what = f"rows of up to {measured['length']}, as measured"
            add(kind, 1, measured["area_ge"], measured["leakage_w"], what)
    return parts


def _sum(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return sum(values) if values else None
