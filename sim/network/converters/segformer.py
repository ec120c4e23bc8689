"""SegFormer of transformers (arXiv 2105.15203): the encoder, and with the all-MLP head the network for segmentation.

The stream between the layers is an image (B, H, W, C). The upsampling inside the head is integer; that of the logits to
the image's size is the caller's, as in transformers.
"""

from typing import Any

from sim.network.converters.activations import function_of
from sim.network.graph import Graph, GraphInput
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.depthwise import Depthwise
from sim.network.operators.folded import Folded, window_of
from sim.network.operators.images import CHANNELS_FIRST, CHANNELS_LAST, Image, Permute, Tokens, Unfold
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Add, Input
from sim.network.operators.upsample import Concat, Upsample

ROW_LENGTH = 4096  # the most keys of an attention: an image of 2048 x 2048 pixels after strides and reduction by 32
ENCODER = "pixels are rounded to 16-bit codes; last_hidden_state comes out; heads stay floating point"
SEGMENTER = "pixels are rounded to 16-bit codes; logits come out, whose upsampling to the image stays floating point"


def convert_encoder(model: Any) -> Graph:
    """A `SegformerModel`."""
    graph = _graph(model.config, ENCODER)
    x = _stages(graph, "", model)[-1]
    if model.config.reshape_last_stage:
        graph.add("channels_first", Permute("channels_first", CHANNELS_FIRST), x)
    else:
        graph.add("tokens", Tokens("tokens"), x)
    return graph


def convert_segmenter(model: Any) -> Graph:
    """A `SegformerForSemanticSegmentation`: logits (B, classes, h, w) at the first stage's resolution."""
    graph, head = _graph(model.config, SEGMENTER), model.decode_head
    stages = _stages(graph, "segformer.", model.segformer)
    parts = []
    for i, (x, layer) in enumerate(zip(stages, head.linear_projections, strict=True)):
        name = f"decode_head.linear_projections.{i}"
        x = graph.add(f"head.{i}.project", Linear({f"{name}.proj": layer.proj}), x)
        parts.append(x if i == 0 else graph.add(f"head.{i}.upsample", Upsample(f"{name}.upsample"), x, stages[0]))
    x = graph.add("head.concat", Concat("decode_head.concat"), *reversed(parts))
    fuse = Folded(head.linear_fuse, ("decode_head.batch_norm", head.batch_norm))
    x = graph.add("head.fuse", Linear({"decode_head.linear_fuse": fuse}), x)
    x = graph.add("head.activation", Activation("decode_head.activation", "relu"), x)
    x = graph.add("head.classifier", Linear({"decode_head.classifier": Folded(head.classifier)}), x)
    graph.add("channels_first", Permute("channels_first", CHANNELS_FIRST), x)
    return graph


def _graph(config: Any, boundary: str) -> Graph:
    graph = Graph(
        {"pixel_values": GraphInput(("batch", config.num_channels, "height", "width"))}, {}, {"segformer": boundary}
    )
    x = graph.add("channels_last", Permute("channels_last", CHANNELS_LAST), "pixel_values")
    graph.add("input", Input("input"), x)
    return graph


def _stages(graph: Graph, prefix: str, model: Any) -> list[str]:
    """Append every stage; returns their outputs."""
    x, outputs, function = graph.output, [], function_of(model.config.hidden_act)
    for i, stage in enumerate(model.stages):
        name, embeddings = f"{prefix}stages.{i}", stage.patch_embeddings
        x = _convolution(graph, f"{i}.patches", f"{name}.patch_embeddings.proj", embeddings.proj, x)
        x = graph.add(f"{i}.norm", Norm(f"{name}.patch_embeddings.layer_norm", embeddings.layer_norm), x)
        for k, block in enumerate(stage.blocks):
            x = _layer(graph, f"{i}.layers.{k}", f"{name}.blocks.{k}", block, function, x)
        x = graph.add(f"{i}.final", Norm(f"{name}.layer_norm", stage.layer_norm), x)
        outputs.append(x)
    return outputs


def _convolution(graph: Graph, key: str, name: str, layer: Any, x: str) -> str:
    """A convolution as the matrix product of gathered codes."""
    x = graph.add(f"{key}_unfold", Unfold(f"{name}.unfold", window_of(name, layer)), x)
    return graph.add(key, Linear({name: Folded(layer)}), x)


def _layer(graph: Graph, key: str, name: str, block: Any, function: str, x: str) -> str:
    attended = _attention(graph, key, f"{name}.attention", block, name, x)
    x = graph.add(f"{key}.add1", Add(f"{name}.attention.residual"), x, attended)
    fed = _norm(graph, f"{key}.norm2", name, block, "layernorm_after", x)
    fed = _feed(graph, key, f"{name}.mlp", block.mlp, function, fed)
    return graph.add(f"{key}.add2", Add(f"{name}.mlp.residual"), x, fed)


def _norm(graph: Graph, key: str, name: str, block: Any, part: str, x: str) -> str:
    return graph.add(key, Norm(f"{name}.{part}", getattr(block, part)), x)


def _attention(graph: Graph, key: str, name: str, block: Any, outer: str, x: str) -> str:
    """Attention whose keys and values come from an image that a strided convolution made smaller."""
    attention, image = block.attention, x
    x = _norm(graph, f"{key}.norm1", outer, block, "layernorm_before", x)
    layers = {part: {f"{name}.{part}_proj": getattr(attention, f"{part}_proj")} for part in "qkvo"}
    if attention.sequence_reduction_ratio > 1:
        reduction, inner = attention.sequence_reduction, f"{name}.sequence_reduction"
        small = _convolution(graph, f"{key}.reduction", f"{inner}.sequence_reduction", reduction.sequence_reduction, x)
        small = graph.add(f"{key}.reduction_norm", Norm(f"{inner}.layer_norm", reduction.layer_norm), small)
        q = graph.add(f"{key}.q", Linear(layers["q"]), x)
        k, v = graph.add_several(f"{key}.kv", Linear(layers["k"] | layers["v"]), (small,), 2)
    else:
        q, k, v = graph.add_several(f"{key}.qkv", Linear(layers["q"] | layers["k"] | layers["v"]), (x,), 3)
    q, k, v = (
        graph.add(f"{key}.{part}_tokens", Tokens(f"{name}.{part}_tokens"), tensor)
        for part, tensor in (("q", q), ("k", k), ("v", v))
    )
    heads = attention.num_attention_heads
    scores = graph.add(f"{key}.scores", Scores(f"{name}.scores", heads), q, k)
    p = graph.add(f"{key}.softmax", Softmax(f"{name}.softmax", ROW_LENGTH), scores)
    context = graph.add(f"{key}.context", Context(f"{name}.context", heads), p, v)
    out = graph.add(f"{key}.out", Linear(layers["o"]), context)
    return graph.add(f"{key}.image", Image(f"{name}.image"), out, image)


def _feed(graph: Graph, key: str, name: str, mlp: Any, function: str, x: str) -> str:
    """The feed-forward network, with a depthwise convolution in the middle."""
    x = graph.add(f"{key}.up", Linear({f"{name}.fc1": mlp.fc1}), x)
    x = graph.add(f"{key}.depthwise", Depthwise(f"{name}.dwconv.dwconv", mlp.dwconv.dwconv), x)
    x = graph.add(f"{key}.activation", Activation(f"{name}.activation_fn", function), x)
    return graph.add(f"{key}.down", Linear({f"{name}.fc2": mlp.fc2}), x)
