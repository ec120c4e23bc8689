"""What a unit costs without synthesis: the sum of its components, for one point or a million in one call.

Coefficients belong to a library and are in `data/coefficients.json` with how they were found; points far from the
declared space (`cost_model.space`) are extrapolated.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.components import (
    Adder,
    Array,
    ComparatorBank,
    Component,
    Cost,
    Fixed,
    FloatAdder,
    FloatMultiplier,
    FloatRegisters,
    LeadingOne,
    Multiplier,
    PipelineRegisters,
    ProcessingElement,
    Rounding,
    Selection,
    Shifter,
    TableStorage,
    levels,
    register_bits,
)
from sim.reference import InputError
from sim.reference.files import read_text

COEFFICIENTS = Path(__file__).parent / "data" / "coefficients.json"
SHIFT_INTERCEPT, SHIFT_OUTPUT = 8, 16  # distances of the reference unit's shifters


@dataclass(frozen=True)
class Estimate:
    """A unit's cost by component; `total` is their sum."""

    parts: dict[str, Cost]

    @property
    def total(self) -> Cost:
        first, *rest = self.parts.values()
        for cost in rest:
            first = first + cost
        return first


def components(kind: str, **parameters: Array) -> dict[str, Component]:
    """The components of a unit of a kind, by name. Raises `InputError` for an unknown kind or parameter."""
    if kind not in _KINDS:
        raise InputError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
    try:
        return _KINDS[kind](**parameters)
    except TypeError as error:
        raise InputError(f"{kind}: {str(error).removeprefix('_').replace('()', '')}") from None


def estimate(kind: str, library: str = "gate_equivalents", **parameters: Array) -> Estimate:
    """What units of `kind` cost in a library that coefficients are known for; each parameter a number or an array."""
    known = coefficients()
    if library not in known["libraries"]:
        raise InputError(f"library must be one of {', '.join(known['libraries'])}, not {library!r}")
    fitted = known["libraries"][library]
    return Estimate({name: price(part, fitted) for name, part in components(kind, **parameters).items()})


def price(component: Component, fitted: Mapping[str, Any]) -> Cost:
    """A component's cost with a library's coefficients."""
    area = component.quantity(fitted["area"])
    energy = component.quantity(fitted["energy"])
    nothing = np.full(np.shape(area), np.nan)
    if not fitted["physical"]:
        return Cost(area, nothing, nothing, energy, nothing)
    leakage = area * fitted["leakage_per_area"]
    return Cost(area / fitted["nand2_area"], area * 1e-12, energy, nothing, leakage)


@lru_cache(maxsize=1)
def coefficients() -> dict[str, Any]:
    """The file's content."""
    return json.loads(read_text(COEFFICIENTS))


def _pwl(
    entries: Array, in_bits: Array, stages: Array, coef_bits: Array = None, out_bits: Array = None,
    storage: Array = "flops",
) -> dict[str, Component]:  # fmt: skip
    coef_bits = in_bits if coef_bits is None else coef_bits
    out_bits = in_bits if out_bits is None else out_bits
    entries, in_bits, coef_bits, out_bits = (np.asarray(a, np.float64) for a in (entries, in_bits, coef_bits, out_bits))
    acc = np.maximum(in_bits + coef_bits, coef_bits + SHIFT_INTERCEPT - 1) + 1
    delays = [
        2 * levels(in_bits),
        2 * levels(entries),
        2 * levels(np.minimum(in_bits, coef_bits)) + in_bits + coef_bits,
        acc + levels(SHIFT_INTERCEPT),
        levels(np.minimum(SHIFT_OUTPUT, acc + 1)),
        out_bits,
    ]
    live = [
        in_bits + entries - 1,
        in_bits + 2 * coef_bits,
        in_bits + 2 * coef_bits,
        acc,
        acc + 1,
        out_bits,
    ]
    return {
        "table storage": TableStorage(entries, in_bits, coef_bits, np.asarray(storage) == "latches"),
        "comparator bank": ComparatorBank(entries - 1, in_bits),
        "selection": Selection(entries, 2 * coef_bits),
        "multiplier": Multiplier(in_bits, coef_bits),
        "intercept shifter": Shifter(coef_bits, SHIFT_INTERCEPT),
        "adder": Adder(acc),
        "output shifter": Shifter(acc, SHIFT_OUTPUT),
        "rounding": Rounding(acc, out_bits),
        "pipeline registers": PipelineRegisters(register_bits(delays, live, stages), stages),
        "fixed": Fixed("pwl", acc),
    }


def _fp_pwl(
    entries: Array, exponent_bits: Array, fraction_bits: Array, stages: Array, storage: Array = "flops"
) -> dict[str, Component]:
    entries, exponent, fraction = (np.asarray(a, np.float64) for a in (entries, exponent_bits, fraction_bits))
    bits = 1 + exponent + fraction
    return {
        "table storage": TableStorage(entries, bits, bits, np.asarray(storage) == "latches"),
        "comparator bank": ComparatorBank(entries - 1, bits),
        "selection": Selection(entries, 2 * bits),
        "float multiplier": FloatMultiplier(exponent, fraction),
        "float adder": FloatAdder(exponent, fraction),
        "pipeline registers": FloatRegisters(bits, stages),
        "waiting selection": PipelineRegisters((entries - 1) * np.asarray(stages) / 2, 0),
        "fixed": Fixed("fp-pwl", bits),
    }


def _element(rows: Array, weight_bits: Array, activation_bits: Array) -> dict[str, Component]:
    rows, weight, activation = (np.asarray(a, np.float64) for a in (rows, weight_bits, activation_bits))
    total = weight + activation + levels(rows)
    return {
        "processing element": ProcessingElement(weight, activation, total),
        "handshake": PipelineRegisters(0 * total, 1),
        "fixed": Fixed("element", total),
    }


def _fp_element(
    exponent_bits: Array, fraction_bits: Array, stages: Array, wide_sum: Array = False
) -> dict[str, Component]:
    exponent, fraction = (np.asarray(a, np.float64) for a in (exponent_bits, fraction_bits))
    wide = np.asarray(wide_sum, bool)
    sum_exponent, sum_fraction = np.where(wide, 8, exponent), np.where(wide, 23, fraction)
    bits = 1 + exponent + fraction
    return {
        "float multiplier": FloatMultiplier(exponent, fraction, 1 - wide),
        "float adder": FloatAdder(sum_exponent, sum_fraction),
        "pipeline registers": FloatRegisters(1 + sum_exponent + sum_fraction, stages),
        "weights and activation": PipelineRegisters(3 * bits + 2, 0),
        "fixed": Fixed("fp-element", bits),
    }


def _requant(
    in_bits: Array, multiplier_bits: Array, max_shift: Array, out_bits: Array, stages: Array
) -> dict[str, Component]:
    wide, multiplier, out = (np.asarray(a, np.float64) for a in (in_bits, multiplier_bits, out_bits))
    distances = np.asarray(max_shift, np.float64) + 1
    product = wide + multiplier
    delays = [2 * levels(np.minimum(wide, multiplier)) + product, levels(distances), out + 6, 2]
    live = [product + levels(distances), product + 1, out + 3, out]
    return {
        "multiplier": Multiplier(wide, multiplier),
        "shifter": Shifter(product, distances),
        "rounding": Rounding(product, out),
        "adder": Adder(2 * out),
        "pipeline registers": PipelineRegisters(register_bits(delays, live, stages), stages),
        "fixed": Fixed("requant", product),
    }


def _normaliser(function: Array, entries: Array, input_bits: Array, stages: Array) -> dict[str, Component]:
    entries, width = (np.asarray(a, np.float64) for a in (entries, input_bits))
    step = np.where(np.asarray(function) == "div", 1, 2)
    groups = np.ceil((width - 1) / step)
    return {
        "leading one": LeadingOne(width, groups, 8),
        "table storage": TableStorage(entries, 8, 8),
        "comparator bank": ComparatorBank(entries - 1, 8),
        "selection": Selection(entries, 16),
        "multiplier": Multiplier(8, 8),
        "adder": Adder(np.full(np.shape(width), 17.0)),
        "shifter": Shifter(17, groups),
        "rounding": Rounding(17, np.full(np.shape(width), 8.0)),
        "pipeline registers": PipelineRegisters(np.asarray(stages) * (groups + 20), stages),
        "fixed": Fixed("normaliser", width),
    }


_KINDS: dict[str, Callable[..., dict[str, Component]]] = {
    "pwl": _pwl,
    "fp-pwl": _fp_pwl,
    "element": _element,
    "fp-element": _fp_element,
    "requant": _requant,
    "normaliser": _normaliser,
}
