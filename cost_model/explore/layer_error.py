"""A cheap guess of a point's error, layer by layer, that orders candidates and is in no result.

The error of a class of layers in a number format is the squared error of their outputs over the square of the outputs,
on a few of the subject's texts, each layer by itself with inputs in floating point. A point's is the sum over its
classes: errors of tables and of what layers do together are left out.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cost_model.explore.front import nondominated
from cost_model.explore.network_space import LAYERS, LayerFormat, NetworkPoint, NetworkSpace
from cost_model.explore.network_subjects import Subject, prepared
from quant import Settings
from quant.primitives.quantisers import ActivationQuantiser, quantise_weight
from sim.common import frames
from sim.network.graph import Node
from sim.network.operators.base import set_mode
from sim.network.operators.linear import Linear

DRAWN = 8  # candidates for each place of a first generation


class Guess(NamedTuple):
    """Of a point: the sum of its layers' errors, and over all weights that of bits times input bits."""

    error: float
    bit_products: float


class _Layer(NamedTuple):
    weight: Tensor
    inputs: Tensor


def guess(subject: Subject, point: NetworkPoint) -> Guess:
    """What is guessed of a point. Each class and format is computed once in a process."""
    found = [_class_error(subject, name, getattr(point, name)) for name in LAYERS]
    return Guess(sum(g.error for g in found), sum(g.bit_products for g in found))


def first_generation(subject: Subject, space: NetworkSpace, count: int, seed: int) -> list[NetworkPoint]:
    """Points of a space to start a search with: of `DRAWN` times as many random ones those that fewest others beat.

    A point beats another by a smaller guess of the error and of its products of bits.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, NetworkPoint] = {}
    for _ in range(DRAWN * count):
        chosen = {name: axis[int(rng.integers(len(axis)))] for name, axis in space.axes.items()}
        point = NetworkPoint(**chosen)
        drawn.setdefault(point.digest, point)
    points = list(drawn.values())
    values = np.array([guess(subject, point) for point in points])
    order: list[int] = []
    left = np.arange(len(points))
    while left.size and len(order) < count:
        front = nondominated(values[left])
        order += left[front].tolist()
        left = left[~front]
    return [points[k] for k in order[:count]]


def agreement(subject: Subject, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the guesses order the networks of measured rows: the rank correlation (Spearman's) with their errors."""
    points = {NetworkPoint.from_row(row).network.digest: row for row in rows if row["refused"] is None}
    measured = [row[f"error_{subject.unit}"] for row in points.values()]
    guessed = [guess(subject, NetworkPoint.from_row(row)).error for row in points.values()]
    return {"model": subject.name, "networks": len(points), "rank_correlation": _rank_correlation(measured, guessed)}


def _rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's: the correlation of ranks, equal values sharing theirs."""
    frame = frames.table([{"a": x, "b": y} for x, y in zip(a, b, strict=True)])
    return float(frame.corr(method="spearman").to_numpy()[0, 1])


@lru_cache(maxsize=256)
def _class_error(subject: Subject, name: str, text: str) -> Guess:
    number = LayerFormat.parse(text)
    settings = Settings(**number.settings)
    inputs = ActivationQuantiser(number.activation_bits)
    errors, weights = [], 0
    with torch.no_grad():
        for layer in _layers(subject)[name]:
            real = layer.inputs @ layer.weight.double().T
            rounded = inputs.fake(layer.inputs) @ quantise_weight(layer.weight, settings).dequantise(torch.float64).T
            errors.append(float((rounded - real).square().sum() / real.square().sum()))
            weights += layer.weight.numel()
    return Guess(float(np.mean(errors)), float(weights * number.weight_bits * number.activation_bits))


@lru_cache(maxsize=1)
def _layers(subject: Subject) -> dict[str, list[_Layer]]:
    """The matrices of each class with their inputs (tokens, in), float64."""
    calibration, _, examples = prepared(subject)
    found: dict[str, list[_Layer]] = {name: [] for name in LAYERS}

    def watch(node: Node, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> None:
        if not isinstance(node.step, Linear):
            return
        for key, layer in zip(node.step.names, node.step.layers, strict=False):
            for name in LAYERS:
                if re.fullmatch(subject.layout.layers[name], key):
                    matrix: Any = layer
                    found[name].append(_Layer(matrix.weight.detach(), arguments[0].flatten(0, -2).double()))

    set_mode(calibration.network, "real")
    with torch.no_grad():
        calibration.network.run(examples[0], watch)
    return found
