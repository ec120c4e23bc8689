"""A report on each site of an integer network: scale exponents, tables, clipping, share of the output's error."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from quant.primitives.observers import token_mask
from sim.network.graph import Network, Node
from sim.network.operators.base import set_mode


@torch.no_grad()
def report(network: Network, data: Iterable[Mapping[str, Any]], shares: bool = True) -> list[dict[str, Any]]:
    """Formats, clipping and error of every operator.

    Parameters
    ----------
    network : Network
        A network from `sim.convert`. It is in the mode "integer" afterwards.
    data : iterable of mapping
        Batches of the network's keyword arguments.
    shares : bool
        Whether to measure `error` and `share`, which takes one run of the data for each operator.

    Returns
    -------
    list of dict
        A record of JSON values for each operator, in the order of execution: `site` and `kind`, its formats, and

        - `clipped`, the fraction of the floating-point network's values that saturate in the operator's output grid
          (softmax: scores too far below the maximum for the table);
        - `error`, the relative mean squared error of the network's output if this operator alone computes in integers;
        - `share`, its fraction of the sum of all errors. Both are None without `shares`.
    """
    batches = list(data)
    try:
        set_mode(network, "real")
        clips = _clipping(network, batches)
        errors = _errors(network, batches) if shares else {}
    finally:
        set_mode(network, "integer")
    total = sum(errors.values())
    rows = []
    for operator in network.operators():
        error = errors.get(operator.name)
        rows.append(
            {
                "site": operator.name,
                "kind": operator.kind,
                **operator.formats(),
                "clipped": clips.get(operator.name),
                "error": error,
                "share": error / total if error is not None and total > 0 else None,
            }
        )
    return rows


def _clipping(network: Network, batches: list[Mapping[str, Any]]) -> dict[str, float]:
    counts: dict[str, list[float]] = {}
    operators = {node.key: operator for node, operator in network.sites()}
    mask: Tensor | None = None

    def watch(node: Node, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> None:
        if node.key in operators:
            operator = operators[node.key]
            counts.setdefault(operator.name, []).append(operator.clipped(arguments, results, mask))

    for batch in batches:
        mask = token_mask(batch)
        network.run(batch, watch)
    return {name: math.fsum(found) / len(found) for name, found in counts.items()}


def _errors(network: Network, batches: list[Mapping[str, Any]]) -> dict[str, float]:
    """Relative mean squared error of the output with one operator in integers, over the tokens that count."""
    masks = [token_mask(batch) for batch in batches]

    def outputs() -> list[Tensor]:
        found = [network.run(batch, until=network.last_key) for batch in batches]
        return [
            x if mask is None or mask.shape != x.shape[:2] else x[mask] for x, mask in zip(found, masks, strict=True)
        ]

    real = outputs()
    power = sum(float(x.square().sum()) for x in real)
    errors = {}
    for operator in network.operators():
        operator.mode = "fake"
        got = outputs()
        errors[operator.name] = sum(float((x - y).square().sum()) for x, y in zip(got, real, strict=True)) / power
        operator.mode = "real"
    return errors
