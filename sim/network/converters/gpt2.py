"""GPT-2 of transformers: learned positions, LayerNorm first, linear layers as `Conv1D`.

The graph ends with the last hidden state; a head stays outside.
"""

from typing import Any

from sim.network.converters.activations import function_of
from sim.network.converters.decoder import Attention, attend, start
from sim.network.graph import Graph
from sim.network.operators.activation import Activation
from sim.network.operators.folded import Folded
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.residual import Add, Embedding
from sim.network.operators.split import Split
from sim.reference import InputError

BOUNDARY = "token and position indices in, last_hidden_state out; the head of a language model stays floating point"


def convert(model: Any) -> Graph:
    """A `GPT2Model`. Raises InputError for what it has besides."""
    config = model.config
    function = function_of(config.activation_function)
    if config.add_cross_attention:
        raise InputError("config: add_cross_attention must be False for the integer network, not True")
    graph, inputs, longest = start({"gpt2": BOUNDARY}, config.max_position_embeddings, None)
    tables = {name: getattr(model, name) for name in ("wte", "wpe")}
    x = graph.add("embedding", Embedding("embeddings", tables), inputs.ids, inputs.positions)
    for i, block in enumerate(model.h):
        key, names = f"layers.{i}", f"h.{i}."
        attention = block.attn
        normal = graph.add(f"{key}.norm1", Norm(f"{names}ln_1", block.ln_1), x)
        fused = graph.add(f"{key}.qkv", _linear(f"{names}attn.c_attn", attention.c_attn), normal)
        split = Split(f"{names}attn.c_attn.split", 3)
        qkv = graph.add_several(f"{key}.qkv_split", split, (fused,), 3)
        heads = config.num_attention_heads
        parts = Attention(f"{names}attn", heads, heads, attention.scaling, longest)
        out = f"{names}attn.c_proj"
        attended = attend(graph, key, parts, qkv, inputs.valid, {out: Folded(attention.c_proj)})
        x = graph.add(f"{key}.add1", Add(f"{out}.residual"), x, attended)
        normal = graph.add(f"{key}.norm2", Norm(f"{names}ln_2", block.ln_2), x)
        up = graph.add(f"{key}.up", _linear(f"{names}mlp.c_fc", block.mlp.c_fc), normal)
        activated = graph.add(f"{key}.activation", Activation(f"{names}mlp.act", function), up)
        fed = graph.add(f"{key}.down", _linear(f"{names}mlp.c_proj", block.mlp.c_proj), activated)
        x = graph.add(f"{key}.add2", Add(f"{names}mlp.c_proj.residual"), x, fed)
    graph.add("norm", Norm("ln_f", model.ln_f), x)
    return graph


def _linear(name: str, module: Any) -> Linear:
    return Linear({name: Folded(module)})
