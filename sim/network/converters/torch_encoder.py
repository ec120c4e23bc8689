"""`nn.TransformerEncoder`, whose input is real activations."""

from typing import Any

from torch import nn
from torch.nn import functional

from sim.network.converters.transformer_layer import LayerModules, add_layer
from sim.network.graph import Graph, GraphInput
from sim.network.operators.boundary import TorchMask, Transpose
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Input
from sim.reference import InputError

ROW_LENGTH = 4096  # nn.TransformerEncoder does not know its longest input
BOUNDARY = "the input is rounded to 16-bit codes; the encoder's output comes out"
FUNCTIONS = {
    functional.relu: "relu", nn.ReLU: "relu", functional.gelu: "gelu", nn.GELU: "gelu", functional.silu: "silu",
    nn.SiLU: "silu", functional.hardswish: "hswish", nn.Hardswish: "hswish",
}  # fmt: skip


def convert(model: nn.TransformerEncoder) -> Graph:
    """The layers, and the final norm if there is one. Raises InputError if a part has no integer operator."""
    layers: list[Any] = list(model.layers)
    for i, block in enumerate(layers):
        _require_layer(f"layers.{i}", block)
    batch_first = all(block.self_attn.batch_first for block in layers)
    axes = ("batch", "tokens") if batch_first else ("tokens", "batch")
    graph = Graph(
        {
            "src": GraphInput((*axes, layers[0].self_attn.embed_dim)),
            "src_key_padding_mask": GraphInput(("batch", "tokens"), required=False),
            "mask": GraphInput(("tokens", "tokens"), required=False),
        },
        {"tokens": ROW_LENGTH},
        {"torch": BOUNDARY},
    )
    valid = graph.add("valid", TorchMask("valid"), "src_key_padding_mask", "mask")
    x = "src" if batch_first else graph.add("batch_first", Transpose("batch_first"), "src")
    x = graph.add("input", Input("input"), x)
    for i, block in enumerate(layers):
        x = add_layer(graph, f"layers.{i}", _parts(f"layers.{i}", block), x, valid)
    if model.norm is not None:
        x = graph.add("final", Norm("norm", model.norm), x)  # pyright: ignore[reportArgumentType]
    if not batch_first:
        graph.add("batch_second", Transpose("batch_second"), x)
    return graph


def _require_layer(name: str, block: nn.Module) -> None:
    if not isinstance(block, nn.TransformerEncoderLayer):
        raise InputError(f"{name}: {type(block).__name__} has no integer operator (nn.TransformerEncoderLayer has)")
    attention = block.self_attn
    if attention.bias_k is not None or attention.add_zero_attn or not attention._qkv_same_embed_dim:
        raise InputError(f"{name}.self_attn: bias_k, add_zero_attn, kdim and vdim have no integer operator")


def _parts(name: str, block: Any) -> LayerModules:
    return LayerModules(
        qkv=_fused(f"{name}.self_attn", block.self_attn),
        attention=f"{name}.self_attn",
        heads=block.self_attn.num_heads,
        row_length=ROW_LENGTH,
        out={f"{name}.self_attn.out_proj": block.self_attn.out_proj},
        norm1=(f"{name}.norm1", block.norm1),
        up={f"{name}.linear1": block.linear1},
        activation=(f"{name}.activation", _function(f"{name}.activation", block.activation)),
        down={f"{name}.linear2": block.linear2},
        norm2=(f"{name}.norm2", block.norm2),
        norm_first=block.norm_first,
    )


def _fused(name: str, attention: nn.MultiheadAttention) -> dict[str, nn.Linear]:
    """The three projections, which `nn.MultiheadAttention` keeps in one parameter."""
    assert attention.in_proj_weight is not None
    weights = attention.in_proj_weight.detach().chunk(3)
    biases = [None] * 3 if attention.in_proj_bias is None else attention.in_proj_bias.detach().chunk(3)
    layers = {}
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
        layer.weight = nn.Parameter(weight.clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.clone())
        layers[f"{name}.{part}"] = layer
    return layers


def _function(name: str, activation: Any) -> str:
    """The table function of an activation, a function or a module."""
    found = FUNCTIONS.get(type(activation)) or FUNCTIONS.get(activation)
    if found is None:
        label = getattr(activation, "__name__", type(activation).__name__)
        raise InputError(f"{name}: {label} has no integer operator (relu, gelu, silu and hardswish have)")
    return "gelu-tanh" if getattr(activation, "approximate", "none") == "tanh" else found
