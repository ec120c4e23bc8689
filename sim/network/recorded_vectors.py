"""Real activations of every site of an integer network, as vectors for the units: rows, tables, normalisers, the array.

The inputs of each operator are recorded while the integer network runs; expected results come from `sim.reference`.
Each set is checked against the network's own results, so that PyTorch has the same integers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from sim.network.graph import Network, Node
from sim.network.operators.activation import Activation
from sim.network.operators.base import Operator
from sim.network.operators.linear import Linear
from sim.network.operators.recording import Seen, require_fitted, require_same, results
from sim.network.operators.registry import OPERATORS
from sim.reference import InputError
from sim.reference.gemm import GroupedLinear
from sim.vectors.array import array_set
from sim.vectors.vector_set import VectorSet

ARRAY_SIDE, MAX_INPUTS = 16, 2048  # of the array that layers go through; longer layers make it larger
CHANNELS = ("weights", "bias", "multiplier", "shift", "zero_points", "group_multipliers")  # a row for each output


@torch.no_grad()
def record(network: Network, batches: Sequence[Mapping[str, Tensor]]) -> Seen:
    """What every operator takes and gives when the integer network runs on `batches`, by its name."""
    seen: Seen = {}
    operators = {node.key: operator for node, operator in network.sites()}

    def watch(node: Node, arguments: tuple[Any, ...], found: tuple[Any, ...]) -> None:
        if node.key in operators:
            result = found if len(found) > 1 else next(iter(found))
            seen.setdefault(operators[node.key].name, []).append((arguments, result))

    for batch in batches:
        network.run(batch, watch)
    return seen


def network_sets(
    name: str, network: Network, batches: Sequence[Mapping[str, Tensor]], source: Mapping[str, Any]
) -> list[VectorSet]:
    """The sets of all operators that have a unit, with a load for each site: rows, and their inner tables.

    The network must have tables everywhere, because the units cannot hold the control.
    """
    seen = record(network, batches)
    sets: list[VectorSet] = []
    for kind, cls in OPERATORS.items():
        chosen: list[Any] = [operator for operator in network.operators() if operator.kind == kind]
        if chosen and issubclass(cls, Operator):
            sets += cls.vector_sets(name, chosen, seen, source)
    return sets


def layer_sets(
    name: str, network: Network, batches: Sequence[Mapping[str, Tensor]], source: Mapping[str, Any], index: int = 0
) -> list[VectorSet]:
    """The feed-forward network of one layer through the array, its activation's table behind the first part.

    A set for the channels of each scale exponent, since an array has one table at a time, and one for the second
    linear layer. Raises InputError if activations are per token, which is not the array's to scale.
    """
    seen = record(network, batches)
    up: Linear = network[f"layers.{index}.up"]
    activation: Activation = network[f"layers.{index}.activation"]
    down: Linear = network[f"layers.{index}.down"]
    sets: list[VectorSet] = []
    first, inputs = _grouped(up), _activations_of(up, seen)
    final = results(seen[activation.name])
    assert activation.scales is not None
    for scale, table in activation.tables.items():
        require_fitted(activation.name, table)
        chosen = np.flatnonzero(activation.scales.numpy() == scale)
        fields = {key: getattr(first, key) for key in CHANNELS}
        part = replace(first, **{key: value[chosen] for key, value in fields.items() if value is not None})
        unit = PwlConfig(len(table.slopes), max_intercept_shift=max(table.intercept_shift, 7))
        config = _array_for(first, pwl=unit, stages=5)
        where = {**source, "site": up.name, "scale": scale}
        made = array_set(f"{name}-up-s{scale}", config, part, inputs, where, table)
        require_same(made.name, made.arrays["expected"], final[:, chosen])
        sets.append(made)
    second = _grouped(down)
    config = _array_for(second, out_bits=second.out_bits)
    made = array_set(f"{name}-down", config, second, _activations_of(down, seen), {**source, "site": down.name})
    require_same(made.name, made.arrays["expected"], results(seen[down.name]))
    return [*sets, made]


def _array_for(layer: GroupedLinear, **changes: Any) -> ArrayConfig:
    """An array that takes the layer's weights, groups and activations."""
    multipliers = layer.group_multipliers
    return ArrayConfig(
        ARRAY_SIDE,
        ARRAY_SIDE,
        layer.weight_bits,
        layer.weight_signed,
        layer.activation_bits,
        group=layer.group,
        group_multiplier_bits=0 if multipliers is None else int(multipliers.max()).bit_length(),
        max_inputs=max(MAX_INPUTS, layer.inputs),
        **changes,
    )


def _activations_of(linear: Linear, seen: Seen) -> np.ndarray:
    """The int8 codes that the linear layer multiplies, (rows, inputs), int64."""
    parts = [linear.activations(arguments[0])[0] for arguments, _ in seen[linear.name]]
    return np.concatenate([part.flatten(0, -2).numpy() for part in parts]).astype(np.int64)


def _grouped(linear: Linear) -> GroupedLinear:
    layer = linear.packed_layers[0].specification
    if not isinstance(layer, GroupedLinear):
        raise InputError(f"{linear.name}: activations per token are not the array's to scale; convert per tensor")
    return layer
