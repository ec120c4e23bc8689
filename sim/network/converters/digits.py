"""The digits network of `quant.zoo.digits`."""

import math
from typing import Any

from torch import nn

from sim.network.converters.transformer_layer import LayerModules, add_layer
from sim.network.graph import Graph, GraphInput
from sim.network.operators.boundary import Patches, Positions
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.pooling import Mean
from sim.network.operators.residual import Add, Embedding, Input

BOUNDARY = "pixels are rounded to 16-bit codes; logits come out"


def convert(model: Any) -> Graph:
    """Images (B, 8, 8) to logits (B, 10)."""
    patches, size = model.position.shape[0], math.isqrt(model.embed.in_features)
    side = math.isqrt(patches) * size
    graph = Graph({"images": GraphInput(("batch", side, side))}, {}, {"digits": BOUNDARY})
    x = graph.add("patches", Patches("patches", size), "images")
    indices = graph.add("indices", Positions("indices", patches), x)
    x = graph.add("input", Input("input"), x)
    x = graph.add("embed", Linear({"embed": model.embed}), x)
    table = nn.Embedding(*model.position.shape, device="meta")
    table.weight = model.position
    position = graph.add("position", Embedding("position", {"position": table}), indices)
    x = graph.add("add", Add("position.residual"), x, position)
    for i, block in enumerate(model.blocks.children()):
        x = add_layer(graph, f"layers.{i}", _parts(f"blocks.{i}", block, patches), x, None)
    x = graph.add("norm", Norm("norm", model.norm), x)
    x = graph.add("mean", Mean("mean", patches), x)
    graph.add("head", Linear({"head": model.head}), x)
    return graph


def _parts(name: str, block: Any, row_length: int) -> LayerModules:
    return LayerModules(
        qkv={f"{name}.qkv": block.qkv},
        attention=name,
        heads=block.heads,
        row_length=row_length,
        out={f"{name}.project": block.project},
        norm1=(f"{name}.norm1", block.norm1),
        up={f"{name}.up": block.up},
        activation=(f"{name}.gelu", "gelu"),
        down={f"{name}.down": block.down},
        norm2=(f"{name}.norm2", block.norm2),
        norm_first=True,
    )
