"""The hardware that a model's sites need."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from cost_model.analytical.array_column import array_column
from cost_model.analytical.butterflies import butterflies
from cost_model.analytical.components import Cost
from cost_model.network.machine import INPUT_BITS, Machine, requantiser, unit_cost
from cost_model.network.row_units import row_units
from cost_model.network.sites import Gemm, InRows, Pwl, Site, Transform
from rtl.hadamard import HadamardConfig
from rtl.pwl import PwlConfig

S = TypeVar("S", bound=Site)


def of_type(sites: Sequence[Site], kind: type[S]) -> list[S]:
    """The sites of one type."""
    return [site for site in sites if isinstance(site, kind)]


def hardware(sites: Sequence[Site], machine: Machine) -> list[dict[str, Any]]:
    """The hardware that the sites need: the count, area and leakage of each unit, without memories."""
    parts: list[dict[str, Any]] = []

    def add(unit: str, count: int, area_ge: float, leakage_w: float | None, what: str) -> None:
        leakage = None if leakage_w is None else count * leakage_w
        parts.append({"unit": unit, "count": count, "what": what, "area_ge": count * area_ge, "leakage_w": leakage})

    def add_estimate(unit: str, count: int, cost: Cost, what: str) -> None:
        add(unit, count, float(cost.area_ge), float(cost.leakage_w) if machine.physical else None, what)

    products = [site for site in of_type(sites, Gemm) if site.activation_bits is not None]
    if products:
        configs = [machine.array_of(site) for site in products]
        weight, operand = max(c.weight_bits for c in configs), max(c.operand_shape.width for c in configs)
        element = unit_cost("element", machine.library, rows=machine.rows, weight_bits=weight, activation_bits=operand)
        add_estimate("element", machine.rows * machine.columns, element, f"W{weight}, {operand}-bit operands")
        lanes = [array_column(config, machine.library).total for config in configs]
        largest = lanes[int(np.argmax([float(cost.area_ge) for cost in lanes]))]
        add_estimate("lane", machine.columns, largest, "the largest of the sites'")
        bits = max(config.accumulator_bits for config in configs)
        out = max(site.out_bits or 8 for site in products)
        add_estimate("requantiser", machine.columns, requantiser(bits, out, machine), f"{bits} to {out} bits")
        inputs = [site.activation_bits or 0 for site in products if site.inputs_requantised]
        if inputs:
            unit, what = requantiser(INPUT_BITS, max(inputs), machine), f"{INPUT_BITS} to {max(inputs)} bits"
            add_estimate("input requantiser", machine.rows, unit, what)
    tables = of_type(sites, Pwl)
    if tables:
        shape = {k: max(getattr(t, k) for t in tables) for k in ("entries", "in_bits", "coef_bits", "out_bits")}
        unit = unit_cost("pwl", machine.library, **shape, stages=PwlConfig.stages)
        add_estimate("table unit", machine.lanes, unit, f"{shape['entries']} entries")
    for block, bits in dict.fromkeys((site.block, site.in_bits) for site in of_type(sites, Transform)):
        unit = butterflies(HadamardConfig(block, bits), machine.library).total
        add_estimate("hadamard", 1, unit, f"blocks of {block}")
    for kind in dict.fromkeys(site.kind for site in of_type(sites, InRows)):
        measured = row_units(machine.library).get(kind)
        if measured is not None:
            what = f"rows of up to {measured['length']}, as measured"
            add(kind, 1, measured["area_ge"], measured["leakage_w"], what)
    return parts
