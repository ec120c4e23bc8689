"""The figures of one site: shape, cycles, and energy by part, beside the energy of the same in floating point."""

from collections.abc import Callable
from typing import Any

from cost_model.analytical.array_column import array_column
from cost_model.analytical.butterflies import butterflies
from cost_model.analytical.estimate import coefficients
from cost_model.designs.design import FLOAT_FORMATS
from cost_model.netlist import timing
from cost_model.network.machine import INPUT_BITS, Machine, requantiser, unit_cost
from cost_model.network.row_units import row_cycles, row_units, schedule
from cost_model.network.sites import Floating, Gemm, InRows, Pwl, Site, Sum, Transform, Uncounted
from rtl.hadamard import HadamardConfig
from rtl.pwl import PwlConfig

BASELINES = ("FP32", "FP16")  # FP16 with its sum in FP32
Row = dict[str, Any]


def row_of(site: Site, machine: Machine) -> Row:
    """The record of one site; unknown figures are None."""
    row: Row = {
        "site": site.name,
        "kind": site.kind,
        "shape": None,
        "jobs": None,
        "bits": None,
        "stored_bits": None,
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
        "stored_bits": site.stored_bits,
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
    element = unit_cost("element", machine.library, rows=machine.rows, weight_bits=site.weight_bits,
                        activation_bits=operands)  # fmt: skip
    results = site.jobs * site.tokens * site.outputs
    tiles = len(config.schedule.input_tiles(site.inputs))
    shifted = site.jobs * config.schedule.tiles(*sizes[:3]) * (machine.rows + 1) * machine.rows * machine.columns
    parts = {
        "elements": passes * site.macs * machine.energy(element),
        "weight loading": shifted * config.weight_bits * moved_bit(machine.library),
        "lanes": results * tiles * machine.energy(array_column(config, machine.library).total),
        "requantisers": results * machine.energy(requantiser(config.accumulator_bits, site.out_bits or 8, machine)),
    }
    if site.inputs_requantised:
        inputs = site.jobs * site.tokens * site.inputs
        parts["input requantisers"] = inputs * machine.energy(requantiser(INPUT_BITS, site.activation_bits, machine))
    return shape | {
        "passes": passes,
        "cycles": cycles,
        "busy": passes * site.macs / (machine.rows * machine.columns * cycles),
        "energy": sum(parts.values()),
        "energy_by_part": parts,
        "floating_energy": _floating_products(site, machine),
        "not_counted": None if site.inputs_uncounted is None else f"{site.kind}: {site.inputs_uncounted}",
    }


def moved_bit(library: str) -> float:
    """The energy of moving one bit of weight into a register. In a tile, the next weight of each processing element is
    shifted once per row and put in use once. The registers' clock energy is in the processing elements' cycles.
    """
    fitted = coefficients()["libraries"][library]
    return fitted["energy"]["register bits"] * fitted["activity"]["element"]


def _floating_products(site: Gemm, machine: Machine) -> dict[str, float]:
    """The energy of the same products in each floating-point format, at its recorded pipeline depth."""
    found = {}
    for name in BASELINES:
        stages = timing.recorded("element", name, 0)["stages"]
        wide = name == "FP16"
        unit = unit_cost("fp-element", machine.library, **_float_shape(name), wide_sum=wide, stages=stages)
        found[name] = site.macs * machine.energy(unit)
    return found


def _floating_tables(site: Pwl, machine: Machine) -> dict[str, float]:
    """The energy of the same table look-ups in each floating-point format."""
    found = {}
    for name in BASELINES:
        stages = timing.recorded("pwl", name, 8)["stages"]
        unit = unit_cost("fp-pwl", machine.library, entries=site.entries, **_float_shape(name), stages=stages)
        found[name] = sum(site.codes) * machine.energy(unit)
    return found


def _float_shape(name: str) -> dict[str, int]:
    of = FLOAT_FORMATS[name]
    return {"exponent_bits": of.exponent_bits, "fraction_bits": of.fraction_bits}


def _pwl(site: Pwl, machine: Machine) -> Row:
    """The record of table look-ups. Each table is loaded once, one word a cycle, and drained before the next."""
    stages = PwlConfig.stages
    loads = 3 * site.entries - 1
    cycles = sum(loads + -(-codes // machine.lanes) + stages for codes in site.codes)
    unit = unit_cost(
        "pwl", machine.library, entries=site.entries, in_bits=site.in_bits, coef_bits=site.coef_bits,
        out_bits=site.out_bits, stages=stages,
    )  # fmt: skip
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


def _transform(site: Transform, machine: Machine) -> Row:
    config = HadamardConfig(site.block, site.in_bits)
    elements = site.rows * site.length
    cycles = elements + config.latency
    energy = elements * machine.energy(butterflies(config, machine.library).total)
    return {
        "shape": [site.rows, site.length],
        "bits": f"{site.in_bits}>{config.out_bits}",
        "group": site.block,
        "cycles": cycles,
        "busy": elements / cycles,
        "energy": energy,
        "energy_by_part": {"butterflies": energy},
    }


def _uncounted(site: Uncounted, machine: Machine) -> Row:
    return {"macs": site.macs or None, "not_counted": f"{site.kind}: {site.why}"}


def _floating(site: Floating, machine: Machine) -> Row:
    return {"not_counted": f"{site.kind}: in floating point"}


FIGURES: dict[type[Site], Callable[[Any, Machine], Row]] = {
    Gemm: _gemm,
    Pwl: _pwl,
    InRows: _in_rows,
    Transform: _transform,
    Uncounted: _uncounted,
    Sum: _uncounted,
    Floating: _floating,
}
