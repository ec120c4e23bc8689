"""What each site of an integer network does: scale exponents, tables, clipping, its share of the output's error."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quant.primitives.observers import token_mask
from sim.network.encoder import Encoder
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Softmax
from sim.network.operators.base import Grid, Operator, set_mode
from sim.network.operators.linear import Linear, PackedLinear
from sim.network.operators.norm import Norm
from sim.network.operators.tables import ValueTable
from sim.reference import LoweredTable


@torch.no_grad()
def report(network: Encoder, data: Iterable[Mapping[str, Any]], shares: bool = True) -> list[dict[str, Any]]:
    """A row for each operator, JSON values, in the order in which the stream meets them.

    `clipped` is the share of the real network's values that saturate in the operator's output grid (softmax: scores
    too far below the maximum for the table). `error` is the relative mean squared error of the network's output where
    this operator alone computes in integers, `share` its part of their sum; both None without `shares`. The network
    is in the mode "integer" afterwards.
    """
    batches = list(data)
    operators = list(network.operators())
    try:
        set_mode(network, "real")
        clips = _clipping(network, operators, batches)
        errors = _errors(network, operators, batches) if shares else {}
    finally:
        set_mode(network, "integer")
    total = sum(errors.values())
    rows = []
    for operator in operators:
        error = errors.get(operator.name)
        rows.append(
            {
                "site": operator.name,
                "kind": operator.kind,
                **_formats(operator),
                "clipped": clips.get(operator.name),
                "error": error,
                "share": error / total if error is not None and total > 0 else None,
            }
        )
    return rows


def _formats(operator: Operator) -> dict[str, Any]:
    """Bits, scales, tables and the proved bound."""
    output = operator.outputs[-1]
    row: dict[str, Any] = {
        "input_bits": [grid.bits for grid in operator.inputs],
        "output_bits": output.bits,
        "output_scale": _largest(output),
        "scale_exponents": None,
        "tables": {},
        "bound_bits": None,
    }
    if isinstance(operator, Linear) and operator.packed:
        packed = [p for p in operator.packed if isinstance(p, PackedLinear)]
        row["bound_bits"] = max(max(-p.bound[0], p.bound[1]).bit_length() for p in packed) + 1
    elif isinstance(operator, Softmax) and operator.specification is not None:
        spec = operator.specification
        row["scale_exponents"] = {str(spec.exp.s): 1}
        row["tables"] = {"exp": _label(spec.exp), "div": _label(spec.div.lowered)}
    elif isinstance(operator, Norm) and operator.specification is not None:
        row["tables"] = {"rsqrt": _label(operator.specification.rsqrt.lowered)}
    elif isinstance(operator, Activation) and operator.scales is not None:
        found = operator.scales.tolist()
        row["scale_exponents"] = {str(s): found.count(s) for s in operator.tables}
        row["tables"] = {operator.function: _label(next(iter(operator.tables.values())))}
    return row


def _label(table: LoweredTable) -> str:
    return "exact" if isinstance(table, ValueTable) else f"{len(table.slopes)} entries"


def _largest(grid: Grid) -> float:
    return float(grid.scale.max())


def _clipping(network: Encoder, operators: list[Operator], batches: list[Mapping[str, Any]]) -> dict[str, float]:
    counts: dict[str, list[float]] = {}
    mask: Tensor | None = None

    def watch(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, Operator)
        if isinstance(module, Softmax):
            share = _too_far(module, *arguments)
        else:
            outputs = output if isinstance(output, tuple) else (output,)
            keep = None if mask is None or outputs[0].shape[:2] != mask.shape else mask
            values = [x if keep is None else x[keep] for x in outputs]
            share = sum(g.clipped(x) for g, x in zip(module.outputs, values, strict=True)) / len(outputs)
        counts.setdefault(module.name, []).append(share)

    handles = [operator.register_forward_hook(watch) for operator in operators]
    try:
        for batch in batches:
            mask = token_mask(batch)
            network.stream(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: math.fsum(found) / len(found) for name, found in counts.items()}


def _too_far(softmax: Softmax, scores: Tensor, valid: Tensor | None) -> float:
    assert softmax.specification is not None
    if valid is not None:
        scores = scores.masked_fill(~valid, -torch.inf)
    distance = (scores - scores.amax(-1, keepdim=True)) * 2.0**softmax.specification.exp.s
    counted = distance > -torch.inf
    return float((distance[counted] < -128.5).double().mean())


def _errors(network: Encoder, operators: list[Operator], batches: list[Mapping[str, Any]]) -> dict[str, float]:
    """Relative mean squared error of the output with one operator in integers, over the tokens that count."""
    masks = [token_mask(batch) for batch in batches]

    def outputs() -> list[Tensor]:
        found = [network.stream(**batch) for batch in batches]
        found = [x if network.batch_first else x.transpose(0, 1) for x in found]
        return [x if mask is None else x[mask] for x, mask in zip(found, masks, strict=True)]

    real = outputs()
    power = sum(float(x.square().sum()) for x in real)
    errors = {}
    for operator in operators:
        operator.mode = "fake"
        got = outputs()
        errors[operator.name] = sum(float((x - y).square().sum()) for x, y in zip(got, real, strict=True)) / power
        operator.mode = "real"
    return errors
