"""Real activations of every site of an integer network, as vectors for the units: rows, tables, normalisers, the array.

What each operator was given is recorded while the integer network runs; what the unit must answer comes from
`sim.reference`. Each set is checked against what the network itself went on with, so PyTorch has the same integers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from sim.network.encoder import Encoder
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Softmax
from sim.network.operators.linear import Linear, PackedLinear
from sim.network.operators.norm import Norm
from sim.network.operators.tables import ValueTable
from sim.reference import InputError, Normaliser
from sim.reference.gemm import GroupedLinear
from sim.reference.softmax import INVERSE_BITS
from sim.vectors.array import array_set
from sim.vectors.normaliser import normaliser_set
from sim.vectors.pwl import pwl_set
from sim.vectors.random_rows import Rows
from sim.vectors.rowwise import norm_set, softmax_set
from sim.vectors.vector_set import VectorSet

Seen = dict[str, list[tuple[tuple[Any, ...], Any]]]  # operator -> arguments and result, batch by batch
LAYER_ARRAY = dict(rows=16, columns=16, weight_bits=8, group_multiplier_bits=0, max_inputs=2048)


@torch.no_grad()
def record(network: Encoder, batches: Sequence[Mapping[str, Tensor]]) -> Seen:
    """What every operator takes and gives when the integer network runs on `batches`."""
    seen: Seen = {}

    def watch(operator: Any, arguments: tuple[Any, ...], result: Any) -> None:
        seen.setdefault(operator.name, []).append((arguments, result))

    handles = [operator.register_forward_hook(watch) for operator in network.operators()]
    try:
        for batch in batches:
            network.codes(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def network_sets(
    name: str, network: Encoder, batches: Sequence[Mapping[str, Tensor]], source: Mapping[str, Any]
) -> list[VectorSet]:
    """One set for each kind of site, a load for each site: softmax and norms as rows, and the tables inside them.

    The network must have tables everywhere, since the units do not hold the control.
    """
    seen = record(network, batches)
    operators = list(network.operators())
    sets = _softmax(name, [op for op in operators if isinstance(op, Softmax)], seen, source)
    for unit, centring in (("layernorm", True), ("rmsnorm", False)):
        norms = [op for op in operators if isinstance(op, Norm) and op.centring == centring]
        sets += _norms(f"{name}-{unit}", norms, seen, source) if norms else []
    sets += _activations(name, [op for op in operators if isinstance(op, Activation)], seen, source)
    return sets


def layer_sets(
    name: str, network: Encoder, batches: Sequence[Mapping[str, Tensor]], source: Mapping[str, Any], index: int = 0
) -> list[VectorSet]:
    """The feed-forward network of one layer through the array, its activation's table behind the first part.

    A set for the channels of each scale exponent, since an array has one table at a time, and one for the second
    linear layer. Raises `InputError` where activations are per token, which is not the array's to scale.
    """
    seen = record(network, batches)
    layer = network.blocks[index]
    sets: list[VectorSet] = []
    first, activation = _grouped(layer.up), layer.activation
    inputs = _activations_of(layer.up, seen)
    final = _results(seen[activation.name])
    assert activation.scales is not None
    for scale, table in activation.tables.items():
        _require_table(activation.name, table)
        chosen = np.flatnonzero(activation.scales.numpy() == scale)
        part = replace(
            first,
            **{key: getattr(first, key)[chosen] for key in ("weights", "bias", "multiplier", "shift")},
        )
        unit = PwlConfig(len(table.slopes), max_intercept_shift=max(table.intercept_shift, 7))
        config = ArrayConfig(**LAYER_ARRAY, pwl=unit, stages=5)  # pyright: ignore[reportArgumentType]
        where = {**source, "site": layer.up.name, "scale": scale}
        made = array_set(f"{name}-up-s{scale}", config, part, inputs, where, table)
        _require_same(made.name, made.arrays["expected"], final[:, chosen])
        sets.append(made)
    second = _grouped(layer.down)
    config = ArrayConfig(**LAYER_ARRAY, out_bits=second.out_bits)  # pyright: ignore[reportArgumentType]
    made = array_set(
        f"{name}-down", config, second, _activations_of(layer.down, seen), {**source, "site": layer.down.name}
    )
    _require_same(made.name, made.arrays["expected"], _results(seen[layer.down.name]))
    return [*sets, made]


def _softmax(name: str, operators: Sequence[Softmax], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
    loads, distances, totals = [], [], []
    units: list[Normaliser] = []
    longest = max(arguments[0].shape[-1] for op in operators for arguments, _ in seen[op.name])
    for operator in operators:
        spec = operator.specification
        assert spec is not None
        _require_table(operator.name, spec.exp)
        # the unit is made for the rows there are, not for the longest that the model could take
        bits = replace(spec.div, input_bits=max((longest * 127).bit_length(), 2))
        short = replace(spec, row_length=longest, div=bits)
        units.append(short.div)
        pieces = []
        for (scores, valid), result in seen[operator.name]:
            codes = scores.numpy().astype(np.int64)
            mask = None if valid is None else np.broadcast_to(valid.numpy(), codes.shape)
            trace = short.trace(codes, mask)
            _require_same(operator.name, trace.probability, result.numpy())
            pieces.append((codes, mask))
            kept = slice(None) if mask is None else mask
            distances.append((spec.exp, trace.distance[kept].ravel()))
            totals.append(trace.total.ravel())
        loads.append((short, _joined(pieces)))
    where = {**source, "sites": [op.name for op in operators]}
    tables = [(table, codes) for table, codes in distances]
    return [
        softmax_set(f"{name}-softmax", loads, where),
        pwl_set(f"{name}-exp", tables, where),
        normaliser_set(f"{name}-div", units[0], np.concatenate(totals), where, 14, out_bits=INVERSE_BITS),
    ]


def _norms(name: str, operators: Sequence[Norm], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
    loads, spreads = [], []
    for operator in operators:
        spec = operator.specification
        assert spec is not None
        _require_table(operator.name, spec.rsqrt.lowered)
        for (codes,), result in seen[operator.name]:
            trace = spec.trace(codes.numpy())
            _require_same(operator.name, trace.output, result.numpy())
            spreads.append((spec.rsqrt, trace.spread.ravel()))
        loads.append((spec, _joined([(codes.numpy().astype(np.int64), None) for (codes,), _ in seen[operator.name]])))
    widest = max((spec for spec, _ in loads), key=lambda spec: spec.epsilon)
    unit = max((normaliser for normaliser, _ in spreads), key=lambda normaliser: normaliser.input_bits)
    where = {**source, "sites": [op.name for op in operators]}
    return [
        norm_set(name, loads, where, widest),
        normaliser_set(f"{name}-rsqrt", unit, np.concatenate([v for _, v in spreads]), where),
    ]


def _activations(name: str, operators: Sequence[Activation], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
    by_function: dict[str, list[Any]] = {}
    for operator in operators:
        if operator.scales is None:
            continue
        codes = np.concatenate([arguments[0].flatten(0, -2).numpy() for arguments, _ in seen[operator.name]])
        given = _results(seen[operator.name])
        for scale, table in operator.tables.items():
            _require_table(operator.name, table)
            chosen = operator.scales.numpy() == scale
            _require_same(operator.name, table.output(codes[:, chosen]), given[:, chosen])
            load = table, codes[:, chosen].ravel().astype(np.int64)
            by_function.setdefault(operator.function, []).append(load)
    where = {**source, "sites": [op.name for op in operators]}
    return [pwl_set(f"{name}-{function}", loads, where) for function, loads in by_function.items()]


def _joined(pieces: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> Rows:
    """The rows of several batches, one after the other."""
    rows = [Rows.of_batch(codes, mask) for codes, mask in pieces]
    masked = any(part.valid is not None for part in rows)
    flags = [np.ones(len(p.codes), dtype=bool) if p.valid is None else p.valid for p in rows]
    return Rows(
        np.concatenate([part.lengths for part in rows]),
        np.concatenate([part.codes for part in rows]),
        np.concatenate(flags) if masked else None,
    )


def _results(calls: Sequence[tuple[tuple[Any, ...], Any]]) -> np.ndarray:
    """The results of all calls as (rows, channels), int64."""
    return np.concatenate([result.flatten(0, -2).numpy() for _, result in calls]).astype(np.int64)


def _activations_of(linear: Linear, seen: Seen) -> np.ndarray:
    """The int8 codes that the linear layer multiplies, (rows, inputs), int64."""
    parts = [linear.activations(arguments[0])[0] for arguments, _ in seen[linear.name]]
    return np.concatenate([part.flatten(0, -2).numpy() for part in parts]).astype(np.int64)


def _grouped(linear: Linear) -> GroupedLinear:
    packed = linear.packed[0]
    assert isinstance(packed, PackedLinear)
    layer = packed.specification
    if not isinstance(layer, GroupedLinear):
        raise InputError(f"{linear.name}: activations per token are not the array's to scale; convert per tensor")
    return layer


def _require_table(site: str, table: Any) -> None:
    if isinstance(table, ValueTable):
        raise InputError(f"{site}: no unit holds the control; convert with tables")


def _require_same(name: str, specification: np.ndarray, network: np.ndarray) -> None:
    if not np.array_equal(specification, network):
        raise AssertionError(f"{name}: PyTorch and sim.reference differ")
