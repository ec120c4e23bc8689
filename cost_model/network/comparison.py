"""Packed models side by side: bytes, cycles and energy of their linear layers, beside the same layers in FP16.

The models are those of `python -m quant`. What is not quantised in one, such as embeddings and biases, counts as FP16.
FP16 has the cycles of an array of as many rows and columns: an element takes a product in each cycle there too.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cost_model.network.cost import report
from cost_model.network.floating_point import is_floating
from cost_model.network.machine import Machine
from cost_model.network.sites import Gemm, sites
from quant.formats.packed_index import PackedIndex
from sim.common.errors import InputError

FP16_BYTES = 2
SCALE_BITS = 24  # of an output channel: a multiplier of 16 bits and a shift


def comparison(folders: Sequence[str | Path], machine: Machine, tokens: int) -> list[dict[str, Any]]:
    """A row for each folder, after one for its layers in FP16 where a model is the first of its shapes.

    Raises InputError as `sites`, or if a model has no linear layers in integers.
    """
    rows: list[dict[str, Any]] = []
    shapes: list[list[tuple[int, int]]] = []
    for folder in folders:
        index = PackedIndex.load(folder)
        every = sites(index, folder, tokens)
        listed = [site for site in every if isinstance(site, Gemm) and site.activation_bits is not None]
        if not listed:
            raise InputError(f"{folder}: has no linear layers for the array")
        totals = report(listed, machine)["totals"]
        rest = FP16_BYTES * _values_beside(index)
        found = [(site.inputs, site.outputs) for site in listed]
        name = Path(folder).resolve().name
        if found not in shapes:
            shapes.append(found)
            full = FP16_BYTES * totals["weights"]
            rows.append(_row(name, "FP16", full, rest, totals, totals["floating_energy"]["FP16"]))
        size = totals["bytes"] - sum(site.bytes.get("bias", 0) for site in listed)
        rows.append(_row(name, widths(listed), size, rest, totals, totals["energy"]))
        computed = sum(site.inputs * site.outputs * bits(site) for site in listed) / totals["weights"]
        rows[-1]["computed_bits_per_weight"] = computed
    return rows


def _row(
    name: str, numbers: str, size: int, rest: int, totals: Mapping[str, Any], energy: float
) -> dict[str, Any]:  # fmt: skip
    weights, full = totals["weights"], FP16_BYTES * totals["weights"]
    return {
        "folder": name,
        "numbers": numbers,
        "weights": weights,
        "bytes": size,
        "bits_per_weight": 8 * size / weights,
        "times_smaller": full / size,
        "times_smaller_with_the_rest": (full + rest) / (size + rest),
        "cycles": totals["cycles"],
        "energy": energy,
        "times_less_energy": totals["floating_energy"]["FP16"] / energy,
    }


def widths(products: Sequence[Gemm]) -> str:
    """The widths of weights and activations, such as W4/8A8."""
    weights, activations = ({getattr(p, f"{name}_bits") for p in products} for name in ("stored", "activation"))
    return "W" + "A".join("/".join(map(str, sorted(each))) for each in (weights, activations))


def bits(product: Gemm) -> float:
    """Bits that a weight takes with its scales and zero points, by the widths; files round each row up to bytes."""
    found = product.stored_bits + SCALE_BITS / product.inputs
    if product.group is not None:
        zero = 0 if product.weight_signed else product.stored_bits
        found += math.ceil(product.inputs / product.group) * (product.multiplier_bits + zero) / product.inputs
    return found


def _values_beside(index: PackedIndex) -> int:
    """The floating-point values of a model: embeddings, norms, biases, a head."""
    layers = tuple(f"{name}." for name in index.content["weights"])
    return sum(
        math.prod(tensor.shape)
        for name, tensor in index.tensors.items()
        if is_floating(tensor.kind) and not name.startswith(layers)
    )
