"""Llama of transformers and the models of its layout: Mistral and Qwen2.

RMSNorm, rotary positions, grouped-query attention, a gated feed-forward network. The graph ends with the last hidden
state; a head stays outside.
"""

from collections.abc import Sequence
from typing import Any

from sim.network.converters.activations import function_of
from sim.network.converters.decoder import Attention, attend, start
from sim.network.graph import Graph
from sim.network.operators.activation import Activation
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm, TransformersRMSNorm
from sim.network.operators.product import Product
from sim.network.operators.residual import Add, Embedding
from sim.network.operators.rope import Angles, Rope
from sim.reference import InputError

BOUNDARY = "token indices in, last_hidden_state out; the head of a language model stays floating point"


def convert(model: Any) -> Graph:
    """A `LlamaModel` or a model of its layout. Raises InputError for what it has besides."""
    config, rotary = model.config, model.rotary_emb
    if rotary.rope_type == "longrope":
        raise InputError(
            "config: rope_type must not be 'longrope', whose angles change with the length of the sequence"
        )
    function = function_of(config.hidden_act)
    graph, inputs, longest = start({"llama": BOUNDARY}, config.max_position_embeddings, _window(config))
    angles = Angles.of("angles", rotary.inv_freq, longest, rotary.attention_scaling)
    turns = graph.add_several("angles", angles, (inputs.positions,), 2)
    x = graph.add("embedding", Embedding("embed_tokens", {"embed_tokens": model.embed_tokens}), inputs.ids)
    for i, block in enumerate(model.layers):
        key, names = f"layers.{i}", f"layers.{i}."
        attention = block.self_attn
        normal = graph.add(f"{key}.norm1", _norm(f"{names}input_layernorm", block.input_layernorm), x)
        qkv = _project(graph, model, i, normal, turns)
        heads = config.num_attention_heads, config.num_key_value_heads
        parts = Attention(f"{names}self_attn", *heads, attention.scaling, longest)
        out = f"{names}self_attn.o_proj"
        attended = attend(graph, key, parts, qkv, inputs.valid, {out: attention.o_proj})
        x = graph.add(f"{key}.add1", Add(f"{out}.residual"), x, attended)
        x = _feed(graph, key, names, block, x, function)
    graph.add("norm", _norm("norm", model.norm), x)
    return graph


def _project(graph: Graph, model: Any, i: int, x: str, turns: Sequence[str]) -> tuple[str, str, str]:
    """Queries, keys and values of a layer; the first two rotated by the tensors `turns`."""
    key, names, config = f"layers.{i}", f"layers.{i}.self_attn.", model.config
    layers = {f"{names}{part}_proj": getattr(model.layers[i].self_attn, f"{part}_proj") for part in "qkv"}
    q, k, v = graph.add_several(f"{key}.qkv", Linear(layers), (x,), 3)
    source = {"rotary_emb": model.rotary_emb}
    turned = [
        graph.add(f"{key}.{part}_rope", Rope(f"{names}{part}_rope", heads, source), given, *turns)
        for part, heads, given in (("q", config.num_attention_heads, q), ("k", config.num_key_value_heads, k))
    ]
    return turned[0], turned[1], v


def _feed(graph: Graph, key: str, names: str, block: Any, x: str, function: str) -> str:
    """down(activation(gate(x)) * up(x)) and the residual addition."""
    normal = graph.add(f"{key}.norm2", _norm(f"{names}post_attention_layernorm", block.post_attention_layernorm), x)
    mlp = block.mlp
    layers = {f"{names}mlp.{part}_proj": getattr(mlp, f"{part}_proj") for part in ("gate", "up")}
    gate, up = graph.add_several(f"{key}.gate_up", Linear(layers), (normal,), 2)
    gate = graph.add(f"{key}.activation", Activation(f"{names}mlp.act_fn", function), gate)
    product = graph.add(f"{key}.product", Product(f"{names}mlp.product"), gate, up)
    down = f"{names}mlp.down_proj"
    fed = graph.add(f"{key}.down", Linear({down: mlp.down_proj}), product)
    return graph.add(f"{key}.add2", Add(f"{down}.residual"), x, fed)


def _norm(name: str, module: Any) -> Norm:
    """The norm of a module with a gain and an epsilon."""
    if not type(module).__name__.endswith("RMSNorm"):
        raise InputError(f"{name}: {type(module).__name__} has no integer operator")
    return Norm(name, TransformersRMSNorm(module))


def _window(config: Any) -> int | None:
    """The sliding window of every layer. Raises InputError if some layers have one and others do not."""
    kinds = set(getattr(config, "layer_types", None) or ())
    if len(kinds) > 1:
        raise InputError(
            f"config: layer_types must be all alike for the integer network, not {', '.join(sorted(kinds))}"
        )
    window = getattr(config, "sliding_window", None)
    return None if kinds == {"full_attention"} else window
