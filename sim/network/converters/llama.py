"""Llama of transformers and the models of its layout (Mistral, Qwen2), with or without a head for language modelling.

RMSNorm, rotary positions, grouped-query attention, a gated feed-forward network. The graph ends with the last hidden
state; the head stays outside.
"""

from typing import Any

from torch import nn

from sim.network.converters.bert import ACTIVATIONS
from sim.network.converters.decoder import Attention, attend, inner, start
from sim.network.graph import Graph
from sim.network.operators.activation import Activation
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.product import Product
from sim.network.operators.residual import Add, Embedding
from sim.network.operators.rope import Angles, Rope
from sim.reference import InputError

BOUNDARY = "token indices in, last_hidden_state out; the head of a language model stays floating point"


def convert(model: Any) -> Graph:
    """A `LlamaModel` or `LlamaForCausalLM`, or one of its layout. Raises InputError for what it has besides."""
    base, prefix, outside = inner(model, "model")
    config = base.config
    function = config.hidden_act
    if function not in ACTIVATIONS:
        raise InputError(f"config: hidden_act must be one of {', '.join(ACTIVATIONS)}, not {function!r}")
    graph, inputs, longest = start({"llama": BOUNDARY}, outside, config.max_position_embeddings, _window(config))
    rotary = base.rotary_emb
    angles = Angles.of("angles", rotary.inv_freq, longest, rotary.attention_scaling)
    turns = graph.add_several("angles", angles, (inputs.positions,), 2)
    name = f"{prefix}embed_tokens"
    x = graph.add("embedding", Embedding(name, {name: base.embed_tokens}), inputs.ids)
    source = {f"{prefix}rotary_emb": rotary}
    for i, block in enumerate(base.layers):
        names = f"{prefix}layers.{i}."
        attention = block.self_attn
        rope = _Turned(turns, config.num_attention_heads, config.num_key_value_heads, source)
        normal = graph.add(f"layers.{i}.norm1", _norm(f"{names}input_layernorm", block.input_layernorm), x)
        qkv = rope.project(graph, f"layers.{i}", f"{names}self_attn.", attention, normal)
        parts = Attention(f"{names}self_attn", rope.heads, rope.key_heads, attention.scaling, longest)
        out = f"{names}self_attn.o_proj"
        attended = attend(graph, f"layers.{i}", parts, qkv, inputs.valid, {out: attention.o_proj})
        x = graph.add(f"layers.{i}.add1", Add(f"{out}.residual"), x, attended)
        x = _feed(graph, f"layers.{i}", names, block, x, ACTIVATIONS[function])
    graph.add("norm", _norm(f"{prefix}norm", base.norm), x)
    return graph


class _Turned:
    """The projections of a layer, its queries and keys rotated by the tensors `turns`."""

    def __init__(self, turns: tuple[str, ...], heads: int, key_heads: int, source: dict[str, nn.Module]) -> None:
        self.turns, self.heads, self.key_heads, self.source = turns, heads, key_heads, source

    def project(self, graph: Graph, key: str, names: str, attention: Any, x: str) -> tuple[str, str, str]:
        layers = {f"{names}{part}_proj": getattr(attention, f"{part}_proj") for part in "qkv"}
        q, k, v = graph.add_several(f"{key}.qkv", Linear(layers), (x,), 3)
        turned = [
            graph.add(f"{key}.{part}_rope", Rope(f"{names}{part}_rope", heads, self.source), given, *self.turns)
            for part, heads, given in (("q", self.heads, q), ("k", self.key_heads, k))
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
    """The norm as PyTorch's, on the same gain."""
    if not type(module).__name__.endswith("RMSNorm"):
        raise InputError(f"{name}: {type(module).__name__} has no integer operator")
    norm = nn.RMSNorm(module.weight.shape[0], module.variance_epsilon, device="meta")
    norm.weight = module.weight
    return Norm(name, norm)


def _window(config: Any) -> int | None:
    """The sliding window of every layer. Raises InputError if some layers have one and others do not."""
    kinds = set(getattr(config, "layer_types", None) or ())
    if len(kinds) > 1:
        raise InputError(
            f"config: layer_types must be all alike for the integer network, not {', '.join(sorted(kinds))}"
        )
    window = getattr(config, "sliding_window", None)
    return None if kinds == {"full_attention"} else window
