"""A transformer layer as operators: attention and feed-forward network around the residual stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sim.network.graph import Graph
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.folded import Folded
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.position_bias import PositionBias
from sim.network.operators.residual import Add
from sim.network.operators.split import Split


@dataclass(frozen=True)
class LayerModules:
    """The modules of one layer of the model, and names for operators without a module.

    `qkv` maps three names to linear layers, or one name to the layer that computes all three; the other mappings have
    one name. `row_length` is the most scores in a row of softmax; `bias` adds to the scores.
    """

    qkv: Mapping[str, nn.Module | Folded]
    attention: str
    heads: int
    row_length: int
    out: Mapping[str, nn.Module | Folded]
    norm1: tuple[str, Any]
    up: Mapping[str, nn.Module | Folded]
    activation: tuple[str, str]
    down: Mapping[str, nn.Module | Folded]
    norm2: tuple[str, Any]
    norm_first: bool = False
    bias: PositionBias | None = None


def add_layer(graph: Graph, key: str, parts: LayerModules, x: str, valid: str | None) -> str:
    """Append a layer that reads the tensor `x` and the mask `valid`, if there is one; returns the output tensor."""
    out, down = Linear(parts.out), Linear(parts.down)
    add1, add2 = Add(f"{out.name}.residual"), Add(f"{down.name}.residual")
    if parts.norm_first:
        attended = _attend(graph, key, parts, out, graph.add(f"{key}.norm1", Norm(*parts.norm1), x), valid)
        x = graph.add(f"{key}.add1", add1, x, attended)
        fed = _feed(graph, key, parts, down, graph.add(f"{key}.norm2", Norm(*parts.norm2), x))
        return graph.add(f"{key}.add2", add2, x, fed)
    x = graph.add(f"{key}.add1", add1, x, _attend(graph, key, parts, out, x, valid))
    x = graph.add(f"{key}.norm1", Norm(*parts.norm1), x)
    x = graph.add(f"{key}.add2", add2, x, _feed(graph, key, parts, down, x))
    return graph.add(f"{key}.norm2", Norm(*parts.norm2), x)


def _attend(graph: Graph, key: str, parts: LayerModules, out: Linear, x: str, valid: str | None) -> str:
    q, k, v = _project(graph, f"{key}.qkv", Linear(parts.qkv), x)
    scores = graph.add(f"{key}.scores", Scores(f"{parts.attention}.scores", parts.heads), q, k)
    if parts.bias is not None:
        scores = graph.add(f"{key}.bias", parts.bias, scores)
    softmax = Softmax(f"{parts.attention}.softmax", parts.row_length)
    p = graph.add(f"{key}.softmax", softmax, scores, *([] if valid is None else [valid]))
    context = graph.add(f"{key}.context", Context(f"{parts.attention}.context", parts.heads), p, v)
    return graph.add(f"{key}.out", out, context)


def _project(graph: Graph, key: str, qkv: Linear, x: str) -> tuple[str, ...]:
    """Queries, keys and values, of three layers or of one."""
    if len(qkv.names) == 3:
        return graph.add_several(key, qkv, (x,), 3)
    return graph.add_several(f"{key}_split", Split(f"{qkv.name}.split", 3), (graph.add(key, qkv, x),), 3)


def _feed(graph: Graph, key: str, parts: LayerModules, down: Linear, x: str) -> str:
    up = graph.add(f"{key}.up", Linear(parts.up), x)
    return graph.add(f"{key}.down", down, graph.add(f"{key}.activation", Activation(*parts.activation), up))
