"""What an integer network needs beside the array, table units and units for softmax and norms, priced on the engine's.

Residual sums take an adder in each of the array's columns. A token quantiser finds each token's scale before a linear
layer, and behind it each result is multiplied with its token's magnitude. Both are composed of the analytical model's
components (`cost_model.analytical.engine_units`). The memories are those of `cost_model.network.memory`, the weights in
DRAM. None of this is in the totals of `cost_model.network.cost`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cost_model.analytical import engine_units
from cost_model.network.cost import TRAFFIC
from cost_model.network.hardware import of_type
from cost_model.network.machine import Machine
from cost_model.network.memory import Memories
from cost_model.network.row_units import row_cycles, row_units
from cost_model.network.sites import PER_TOKEN, SUM, Gemm, InRows, Site, Sum
from cost_model.network.traffic import traffic
from quant.formats.packed_index import PackedIndex
from rtl.residual import ResidualConfig
from rtl.rowwise.token import TokenConfig

COUNTED = (SUM, PER_TOKEN)  # of what a site lacks


def beside(index: PackedIndex, sites: Sequence[Site], machine: Machine, lengths: Mapping[str, int]) -> dict[str, Any]:
    """A row for each residual sum, and for each input and result of layers with a scale for each token; memories.

    A row has `cycles` of one unit that works alone, or of an adder in each column, and `energy`. A model that is not an
    integer network has no rows. `memories` is None without one, or if the library has no energies.
    """
    if "operators" not in index.content["details"]:
        return {"rows": [], "memories": None}
    layers = [site for site in of_type(sites, Gemm) if site.inputs_uncounted == PER_TOKEN]
    rows = [
        *(_sum(site, machine) for site in of_type(sites, Sum)),
        *(_scales(site, machine) for site in layers if site.inputs_scaled),
        *(_magnitudes(site, machine) for site in layers if site.activation_bits is not None),
    ]
    return {"rows": rows, "memories": _memories(index, sites, machine, lengths) if machine.physical else None}


def uncounted(lines: Sequence[str], found: Mapping[str, Any]) -> list[str]:
    """Of the lines that say what is not counted, those of which `beside` found nothing."""
    counted = (*(COUNTED if found["rows"] else ()), *((TRAFFIC,) if found["memories"] else ()))
    return [line for line in lines if not any(why in line for why in counted)]


def _row(site: str, unit: str, elements: int, cycles: int, energy: float) -> dict[str, Any]:
    return {"site": site, "unit": unit, "elements": elements, "cycles": cycles, "energy": energy}


def _sum(site: Sum, machine: Machine) -> dict[str, Any]:
    config = ResidualConfig()
    cost = engine_units.residual_adder(config, machine.library).total
    cycles = -(-site.elements // machine.columns) + config.stages
    return _row(site.name, "residual adder", site.elements, cycles, site.elements * machine.energy(cost))


def _scales(site: Gemm, machine: Machine) -> dict[str, Any]:
    config, elements = (
        TokenConfig(row_length=site.inputs, out_bits=site.activation_bits or 8),
        site.tokens * site.inputs,
    )
    cost = engine_units.token_quantiser(config, machine.library).total
    cycles = row_cycles(config.schedule, site.tokens, site.inputs)
    return _row(site.name, "token quantiser", elements, cycles, elements * machine.energy(cost))


def _magnitudes(site: Gemm, machine: Machine) -> dict[str, Any]:
    """In the pipeline behind the array, so that they take no cycles of their own."""
    results = site.jobs * site.tokens * site.outputs
    cost = engine_units.magnitude_column(machine.array_of(site).accumulator_bits, machine.library).total
    return _row(site.name, "magnitudes", results, 0, results * machine.energy(cost))


def _memories(
    index: PackedIndex, sites: Sequence[Site], machine: Machine, lengths: Mapping[str, int]
) -> dict[str, Any] | None:
    """Area and energy of the memories; None for a network without products for the array."""
    products = [site for site in of_type(sites, Gemm) if site.activation_bits is not None]
    if not products:
        return None
    moved, waiting = traffic(index, sites, machine, lengths)
    kinds = {site.kind for site in of_type(sites, InRows)}
    rows = sum(unit["memory_bits"] for kind, unit in row_units(machine.library).items() if kind in kinds)
    width = max(machine.array_of(site).accumulator_bits for site in products)
    stored = 8 * sum(sum(site.bytes.values()) for site in sites)
    held = Memories("dram", stored, waiting, rows, machine.depth * machine.columns * width)
    return {"bits": held.on_chip_bits, "area_um2": held.area_um2, **held.energy(moved)}
