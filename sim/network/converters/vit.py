"""Vision transformers of transformers, ViT, DeiT and DINOv2, up to the last hidden state; pooling stays outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sim.network.converters.activations import function_of
from sim.network.converters.transformer_layer import LayerModules, add_layer
from sim.network.graph import Graph, GraphInput
from sim.network.operators.boundary import Positions
from sim.network.operators.folded import Folded, window_of
from sim.network.operators.images import CHANNELS_LAST, Permute, Tokens, Unfold
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Add, Input
from sim.network.operators.tokens import TokenEmbedding
from sim.reference import InputError

BOUNDARY = "pixels are rounded to 16-bit codes; last_hidden_state comes out; pooling and heads stay floating point"
PROJECTION = "embeddings.patch_embeddings.projection"


@dataclass(frozen=True)
class Paths:
    """The attributes of a model's parts."""

    layers: str
    norm1: str
    norm2: str
    scale1: str | None = None  # LayerScale behind attention and behind the feed-forward network
    scale2: str | None = None


VIT = Paths("layers", "layernorm_before", "layernorm_after")
DINOV2 = Paths("encoder.layer", "norm1", "norm2", "layer_scale1", "layer_scale2")


def convert_vit(model: Any) -> Graph:
    """A `ViTModel`."""
    return _convert(model, VIT, ("cls_token",))


def convert_deit(model: Any) -> Graph:
    """A `DeiTModel`, which has a distillation token too."""
    return _convert(model, VIT, ("cls_token", "distillation_token"))


def convert_dinov2(model: Any) -> Graph:
    """A `Dinov2Model`, whose LayerScales are folded into the linear layers before them."""
    if model.config.use_swiglu_ffn:
        raise InputError("config: use_swiglu_ffn must be False for the integer network, not True")
    return _convert(model, DINOV2, ("cls_token",))


def _convert(model: Any, paths: Paths, tokens: tuple[str, ...]) -> Graph:
    config, projection = model.config, model.get_submodule(PROJECTION)
    height, width = model.embeddings.patch_embeddings.image_size
    inputs = {"pixel_values": GraphInput(("batch", config.num_channels, height, width))}
    graph = Graph(inputs, {}, {"vit": BOUNDARY}, ("pooler",))
    positions, learned = model.embeddings.position_embeddings, [getattr(model.embeddings, name) for name in tokens]
    length = positions.shape[1]
    x = graph.add("channels_last", Permute("channels_last", CHANNELS_LAST), "pixel_values")
    x = graph.add("input", Input("input"), x)
    x = graph.add("patches", Unfold("patches", window_of(PROJECTION, projection)), x)
    x = graph.add("projection", Linear({PROJECTION: Folded(projection)}), x)
    x = graph.add("tokens", Tokens("tokens", len(learned)), x)
    indices = graph.add("positions", Positions("positions", length), x)
    embedding = graph.add("embedding", TokenEmbedding("embeddings.position_embeddings", positions, learned), indices)
    x = graph.add("add", Add("embeddings.residual"), x, embedding)
    for i, block in enumerate(model.get_submodule(paths.layers).children()):
        x = add_layer(graph, f"layers.{i}", _parts(f"{paths.layers}.{i}.", block, paths, config, length), x, None)
    graph.add("norm", Norm("layernorm", model.layernorm), x)
    return graph


def _parts(prefix: str, block: Any, paths: Paths, config: Any, length: int) -> LayerModules:
    def part(path: str) -> tuple[str, nn.Module]:
        return prefix + path, block.get_submodule(path)

    def before(scale: str | None, path: str) -> Mapping[str, nn.Module | Folded]:
        """A linear layer with the LayerScale behind it, if there is one."""
        name, layer = part(path)
        return {name: layer if scale is None else Folded(layer, part(scale))}

    return LayerModules(
        qkv=dict(part(f"attention.{name}_proj") for name in "qkv"),
        attention=f"{prefix}attention",
        heads=config.num_attention_heads,
        row_length=length,
        out=before(paths.scale1, "attention.o_proj"),
        norm1=part(paths.norm1),
        up=dict([part("mlp.fc1")]),
        activation=(f"{prefix}mlp.activation_fn", function_of(config.hidden_act)),
        down=before(paths.scale2, "mlp.fc2"),
        norm2=part(paths.norm2),
        norm_first=True,
    )
