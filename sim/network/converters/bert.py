"""BERT and what has its layout in transformers, up to the last hidden state; pooling stays outside.

RoBERTa, XLM-RoBERTa and CamemBERT are alike; DistilBERT has other names; Electra projects its embeddings to the width
of the layers; MPNet has a bias of the scores by distance.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sim.network.converters.activations import function_of
from sim.network.converters.transformer_layer import LayerModules, add_layer
from sim.network.graph import Graph, GraphInput
from sim.network.operators.boundary import KeyMask, Positions, Zeros
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.position_bias import PositionBias
from sim.network.operators.residual import Embedding
from sim.reference import InputError

BOUNDARY = "token, position and type indices in, last_hidden_state out; pooling and heads stay floating point"
REQUIRED = {
    "is_decoder": False, "add_cross_attention": False, "position_embedding_type": "absolute",
}  # fmt: skip
IDS = ("batch", "tokens")


@dataclass(frozen=True)
class Paths:
    """The attributes of a model's parts."""

    layers: str
    attention: str
    query: str
    key: str
    value: str
    out: str
    norm1: str
    up: str
    activation: str
    down: str
    norm2: str
    heads: str
    function: str


BERT = Paths(
    "encoder.layer", "attention.self", "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "intermediate.intermediate_act_fn",
    "output.dense", "output.LayerNorm", "num_attention_heads", "hidden_act",
)  # fmt: skip
DISTILBERT = Paths(
    "transformer.layer", "attention", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
    "sa_layer_norm", "ffn.lin1", "ffn.activation", "ffn.lin2", "output_layer_norm", "n_heads", "activation",
)  # fmt: skip
MPNET = Paths(
    "encoder.layer", "attention.attn", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
    "attention.LayerNorm", "intermediate.dense", "intermediate.intermediate_act_fn", "output.dense",
    "output.LayerNorm", "num_attention_heads", "hidden_act",
)  # fmt: skip
MPNET_PADDING = 1  # whatever the configuration says


def convert_bert(model: Any) -> Graph:
    """A `BertModel` or `ElectraModel`."""
    return _convert(model, BERT)


def convert_distilbert(model: Any) -> Graph:
    """A `DistilBertModel`, which has no token types."""
    return _convert(model, DISTILBERT)


def convert_roberta(model: Any) -> Graph:
    """A `RobertaModel`, `XLMRobertaModel` or `CamembertModel`, whose positions start after the padding index."""
    return _convert(model, BERT, model.config.pad_token_id)


def convert_mpnet(model: Any) -> Graph:
    """An `MPNetModel`."""
    return _convert(model, MPNET, MPNET_PADDING)


def _convert(model: Any, paths: Paths, padding: int | None = None) -> Graph:
    config = model.config
    for key, allowed in REQUIRED.items():
        value = getattr(config, key, allowed)
        if value != allowed:
            raise InputError(f"config: {key} must be {allowed!r} for the integer network, not {value!r}")
    function = function_of(getattr(config, paths.function))
    longest = config.max_position_embeddings - (0 if padding is None else padding + 1)
    embeddings = dict(model.get_submodule("embeddings").named_children())
    typed = "token_type_embeddings" in embeddings
    optional = ["attention_mask", "position_ids", *(["token_type_ids"] if typed else [])]
    inputs = {"input_ids": GraphInput(IDS)} | {name: GraphInput(IDS, required=False) for name in optional}
    graph = Graph(inputs, {"tokens": longest}, {"bert": BOUNDARY}, ("pooler",))
    indices = [
        "input_ids",
        graph.add("positions", Positions("positions", longest, padding), "input_ids", "position_ids"),
    ]
    if typed:
        indices.append(graph.add("types", Zeros("types"), "input_ids", "token_type_ids"))
    valid = graph.add("mask", KeyMask("mask"), "attention_mask")
    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")[: len(indices)]
    tables = {f"embeddings.{name}": embeddings[name] for name in names}
    x = graph.add("embedding", Embedding("embeddings", tables), *indices)  # pyright: ignore[reportArgumentType]
    x = graph.add("norm", Norm("embeddings.LayerNorm", embeddings["LayerNorm"]), x)  # pyright: ignore[reportArgumentType]
    if hasattr(model, "embeddings_project"):
        x = graph.add("project", Linear({"embeddings_project": model.embeddings_project}), x)
    for i, block in enumerate(model.get_submodule(paths.layers).children()):
        parts = _parts(block, f"{paths.layers}.{i}.", paths, getattr(config, paths.heads), longest, function)
        if paths is MPNET:
            parts = replace(parts, bias=_bias(f"{parts.attention}.bias", model.encoder, longest))
        x = add_layer(graph, f"layers.{i}", parts, x, valid)
    return graph


def _bias(name: str, encoder: Any, longest: int) -> PositionBias:
    """That of one layer; all share one table."""
    return PositionBias(name, longest, encoder.relative_attention_bias, encoder.relative_position_bucket)


def _parts(block: nn.Module, prefix: str, paths: Paths, heads: int, longest: int, function: str) -> LayerModules:
    def part(path: str) -> tuple[str, nn.Module]:
        return prefix + path, block.get_submodule(path)

    return LayerModules(
        qkv=dict(map(part, (paths.query, paths.key, paths.value))),
        attention=prefix + paths.attention,
        heads=heads,
        row_length=longest,
        out=dict([part(paths.out)]),
        norm1=part(paths.norm1),
        up=dict([part(paths.up)]),
        activation=(prefix + paths.activation, function),
        down=dict([part(paths.down)]),
        norm2=part(paths.norm2),
    )
