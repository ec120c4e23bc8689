"""The network of `quant.zoo.linear_attention`: convolutions, HSWISH, and attention that is linear in the pixels."""

from typing import Any

from torch import nn

from sim.network.graph import Graph, GraphInput
from sim.network.operators.activation import Activation
from sim.network.operators.depthwise import Depthwise
from sim.network.operators.folded import Folded, window_of
from sim.network.operators.images import CHANNELS_FIRST, CHANNELS_LAST, Image, Permute, Tokens, Unfold
from sim.network.operators.linear import Linear
from sim.network.operators.linear_attention import LinearAttention
from sim.network.operators.requantise import Requantise
from sim.network.operators.residual import Add, Input
from sim.network.operators.split import Split
from sim.network.operators.upsample import Concat, Upsample

TOKENS = 1 << 14  # the most pixels that attention reads
BOUNDARY = "pixels are rounded to 16-bit codes; logits come out, whose upsampling to the image stays floating point"


def convert(model: Any) -> Graph:
    """Images (B, 1, H, W) to logits (B, classes, H / 2, W / 2). The batch norms are folded into the convolutions."""
    graph = Graph({"pixel_values": GraphInput(("batch", 1, "height", "width"))}, {}, {"linear-attention": BOUNDARY})
    x = graph.add("channels_last", Permute("channels_last", CHANNELS_LAST), "pixel_values")
    x = graph.add("input", Input("input"), x)
    x = graph.add("stem_unfold", Unfold("stem.unfold", window_of("stem.conv", model.stem.conv)), x)
    x = _activation(graph, "act", "act", _pointwise(graph, "stem", "stem", model.stem, x))
    total, first = "", ""
    for i, (stage, projection) in enumerate(zip(model.stages, model.projections, strict=True)):
        for k, block in enumerate(stage):
            name = f"stages.{i}.{k}"
            x = (_attention if hasattr(block, "qkv") else _mbconv)(graph, name, name, block, x)
        feature = _pointwise(graph, f"projections.{i}", f"projections.{i}", projection, x)
        if i == 0:
            total = first = feature
            continue
        large = graph.add(f"upsample.{i}", Upsample(f"projections.{i}.upsample"), feature, first)
        total = graph.add(f"add.{i}", Add(f"projections.{i}.residual"), total, large)
    x = _mbconv(graph, "fuse", "fuse", model.fuse, total)
    x = graph.add("classifier", Linear({"classifier": Folded(model.classifier)}), x)
    graph.add("channels_first", Permute("channels_first", CHANNELS_FIRST), x)
    return graph


def _pointwise(graph: Graph, key: str, name: str, layer: Any, x: str) -> str:
    """A convolution with its batch norm, on patches that are gathered if it sees more than one pixel."""
    return graph.add(key, Linear({f"{name}.conv": Folded(layer.conv, (f"{name}.norm", layer.norm))}), x)


def _activation(graph: Graph, key: str, name: str, x: str) -> str:
    return graph.add(key, Activation(name, "hswish"), x)


def _mbconv(graph: Graph, key: str, name: str, block: Any, x: str) -> str:
    inner = _pointwise(graph, f"{key}.expand", f"{name}.expand", block.expand, x)
    inner = _activation(graph, f"{key}.act1", f"{name}.act1", inner)
    part = f"{name}.depthwise"
    depthwise = Depthwise(f"{part}.conv", block.depthwise.conv, (f"{part}.norm", block.depthwise.norm))
    inner = graph.add(f"{key}.depthwise", depthwise, inner)
    inner = _activation(graph, f"{key}.act2", f"{name}.act2", inner)
    inner = _pointwise(graph, f"{key}.project", f"{name}.project", block.project, inner)
    return graph.add(f"{key}.add", Add(f"{name}.residual"), x, inner) if block.residual else inner


def _attention(graph: Graph, key: str, name: str, block: Any, x: str) -> str:
    qkv = graph.add(f"{key}.qkv", Linear({f"{name}.qkv": Folded(block.qkv)}), x)
    plain = graph.add(f"{key}.plain", Requantise(f"{name}.plain"), qkv)
    gathered = graph.add(f"{key}.gather", Depthwise(f"{name}.gather", block.gather), qkv)
    parts = [
        _heads(graph, f"{key}.heads.{part}", f"{name}.heads.{part}", block, tensor)
        for part, tensor in (("plain", plain), ("gathered", gathered))
    ]
    both = graph.add(f"{key}.concat", Concat(f"{name}.concat"), *parts)
    out = _pointwise(graph, f"{key}.project", f"{name}.project", block.project, both)
    out = graph.add(f"{key}.image", Image(f"{name}.image"), out, x)
    return graph.add(f"{key}.add", Add(f"{name}.residual"), x, out)


def _heads(graph: Graph, key: str, name: str, block: nn.Module, qkv: str) -> str:
    tokens = graph.add(f"{key}.tokens", Tokens(f"{name}.tokens"), qkv)
    split = graph.add_several(f"{key}.split", Split(f"{name}.split", 3), (tokens,), 3)
    return graph.add(f"{key}.attend", LinearAttention(f"{name}.attention", block.heads, TOKENS), *split)  # pyright: ignore[reportArgumentType]
