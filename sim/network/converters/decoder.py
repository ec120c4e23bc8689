"""The parts that every causal language model shares: its inputs and causal attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from sim.network.graph import Graph, GraphInput
from sim.network.operators.attention import Softmax
from sim.network.operators.causal import CACHE, CachedPositions, CausalMask, TokenContext, TokenScores
from sim.network.operators.folded import Folded
from sim.network.operators.linear import Linear
from sim.reference.softmax import MAX_ROW_LENGTH

IDS = ("batch", "tokens")


@dataclass(frozen=True)
class Attention:
    """Names and numbers of a layer's attention; `factor` multiplies the product of queries and keys."""

    name: str
    heads: int
    key_heads: int
    factor: float
    row_length: int


@dataclass(frozen=True)
class Inputs:
    """The tensors that the layers of a decoder read: token indices, their positions and the causal mask."""

    ids: str
    positions: str
    valid: str


def start(boundary: Mapping[str, str], longest: int, window: int | None) -> tuple[Graph, Inputs, int]:
    """A graph with a decoder's inputs, and the most tokens that a row of softmax can have."""
    longest = min(longest, MAX_ROW_LENGTH)
    optional = {name: GraphInput(IDS, required=False) for name in ("attention_mask", "position_ids")}
    inputs = {"input_ids": GraphInput(IDS), **optional, CACHE: GraphInput((), required=False)}
    graph = Graph(inputs, {"tokens": longest}, boundary)
    positions = graph.add("positions", CachedPositions("positions", longest), "input_ids", "position_ids", CACHE)
    valid = graph.add("mask", CausalMask("mask", window), "input_ids", "attention_mask", CACHE)
    return graph, Inputs("input_ids", positions, valid), longest


def attend(
    graph: Graph, key: str, parts: Attention, qkv: Sequence[str], valid: str, out: Mapping[str, nn.Module | Folded]
) -> str:
    """Causal attention of queries, keys and values, and its last linear layer; returns the output tensor."""
    q, k, v = qkv
    name, shape = parts.name, (parts.heads, parts.key_heads)
    scores = graph.add(f"{key}.scores", TokenScores(f"{name}.scores", *shape, parts.factor), q, k, CACHE)
    p = graph.add(f"{key}.softmax", Softmax(f"{name}.softmax", parts.row_length), scores, valid)
    context = graph.add(f"{key}.context", TokenContext(f"{name}.context", *shape), p, v, CACHE)
    return graph.add(f"{key}.out", Linear(out), context)
