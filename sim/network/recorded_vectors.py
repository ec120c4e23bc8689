"""Real activations of every site of an integer network, as vectors for the units: rows, tables, normalisers, the array.

The inputs of each operator are recorded while the integer network runs; expected results come from `sim.reference`.
Each set is checked against the network's own results, so that PyTorch has the same integers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
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
from sim.network.operators.packed_linear import PackedLinear
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
    name: str,
    network: Network,
    batches: Sequence[Mapping[str, Tensor]],
    source: Mapping[str, Any],
    keys: Sequence[str] | None = None,
    two_pass: bool = False,
) -> list[VectorSet]:
    """Linear layers of a network through the array, with its table behind a layer that an activation follows.

    Such a layer has a set for the channels of each scale exponent, since an array has one table at a time.

    Parameters
    ----------
    name : str
        The sets are named NAME-KEY, less what all keys begin with, and where there are several the output of the
        operator and the scale exponent.
    network : Network
        A network from `sim.convert`, of any model.
    batches : Sequence[Mapping[str, Tensor]]
        The model's arguments.
    source : Mapping[str, Any]
        Where the vectors come from; each set adds its site.
    keys : Sequence[str] or None
        The keys of linear operators; None for all.
    two_pass : bool
        Whether 8-bit activations go through multipliers of 5 bits, in two passes.

    Raises
    ------
    InputError
        If a key is not that of a linear operator, or activations are per token, which is not the array's to scale.
    """
    linears = {node.key: node for node, operator in network.sites() if isinstance(operator, Linear)}
    chosen = list(linears) if keys is None else list(keys)
    for key in chosen:
        if key not in linears:
            raise InputError(f"{key} must be the key of a linear operator: {', '.join(linears)}")
    seen = record(network, batches)
    parts = [key.split(".")[:-1] for key in chosen]
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False))))
    sets: list[VectorSet] = []
    for key in chosen:
        node = linears[key]
        linear: Linear = network[key]
        label = "-".join([name, *key.split(".")[shared:]])
        for k, packed in enumerate(linear.packed_layers):
            layer, inputs = _grouped(linear, packed), _activations_of(linear, seen)
            where = {**source, "site": linear.names[k]}
            activation = _table_behind(network, node.outputs[k])
            one = label if len(linear.packed_layers) == 1 else f"{label}-{k}"
            if activation is None:
                config = _array_for(layer, out_bits=layer.out_bits, two_pass=two_pass)
                sets.append(array_set(one, config, layer, inputs, where))
                require_same(one, sets[-1].arrays["expected"], _results_of(linear, seen, k))
            else:
                sets += _scaled_sets(one, layer, inputs, where, activation, results(seen[activation.name]), two_pass)
    return sets


def _table_behind(network: Network, tensor: str) -> Activation | None:
    """The activation with tables that alone reads a tensor."""
    readers = [node.step for node in network.graph.nodes if tensor in node.inputs]
    if len(readers) == 1 and isinstance(readers[0], Activation) and readers[0].tables:
        return readers[0]
    return None


def _scaled_sets(
    name: str, layer: GroupedLinear, inputs: np.ndarray, source: Mapping[str, Any], activation: Activation,
    outputs: np.ndarray, two_pass: bool,
) -> list[VectorSet]:  # fmt: skip
    """A set for the channels of each scale exponent of an activation behind the layer."""
    assert activation.scales is not None
    sets: list[VectorSet] = []
    for scale, table in activation.tables.items():
        require_fitted(activation.name, table)
        chosen = np.flatnonzero(activation.scales.numpy() == scale)
        fields = {key: getattr(layer, key) for key in CHANNELS}
        part = replace(layer, **{key: value[chosen] for key, value in fields.items() if value is not None})
        shift = max(table.intercept_shift, 7)
        unit = PwlConfig(len(table.slopes), out_bits=table.out_bits, max_intercept_shift=shift)
        config = _array_for(layer, pwl=unit, stages=5, two_pass=two_pass)
        sets.append(array_set(f"{name}-s{scale}", config, part, inputs, {**source, "scale": scale}, table))
        require_same(sets[-1].name, sets[-1].arrays["expected"], outputs[:, chosen])
    return sets


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
    """The codes that the linear layer multiplies, (rows, inputs), int64."""
    parts = [linear.activations(arguments[0])[0] for arguments, _ in seen[linear.name]]
    return np.concatenate([part.flatten(0, -2).numpy() for part in parts]).astype(np.int64)


def _results_of(linear: Linear, seen: Seen, k: int) -> np.ndarray:
    """The codes of the operator's output k, (rows, channels), int64."""
    calls = seen[linear.name]
    return results([(arguments, found[k] if isinstance(found, tuple) else found) for arguments, found in calls])


def _grouped(linear: Linear, packed: PackedLinear) -> GroupedLinear:
    layer = packed.specification
    if not isinstance(layer, GroupedLinear):
        raise InputError(f"{linear.name}: activations per token are not the array's to scale; convert per tensor")
    return layer
