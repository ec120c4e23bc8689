"""A converted network as a program of the engine (`sim.reference.engine`), made from its graph.

Each operator becomes one instruction or a few. Attention runs head by head, so that the scores of one head at a time
lie in memory. A tensor has its place from the operator that gives it to the last one that reads it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from rtl.layer.config import EngineConfig
from sim.network.graph import Network, Node
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.base import Operator
from sim.network.operators.causal import TokenContext, TokenScores
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.packed_linear import PackedLinear
from sim.network.operators.product import Product
from sim.network.operators.recording import require_fitted
from sim.network.operators.residual import Add, Embedding, Input
from sim.network.operators.rope import Rope
from sim.network.operators.split import Split
from sim.network.program_builder import Place, Program
from sim.network.program_decoder import DecoderBuilder
from sim.reference import InputError
from sim.reference import engine as hardware
from sim.reference.engine import NARROW_BITS, Instruction, Walk


class NetworkBuilder(DecoderBuilder):
    """The instructions of each operator."""

    def linear(self, node: Node) -> None:
        operator: Linear = node.step  # pyright: ignore[reportAssignmentType]
        given = self.places[node.inputs[0]]
        source = operator.source
        assert source is not None
        if source.bits != NARROW_BITS:
            raise InputError(f"{operator.name}: activations must have {NARROW_BITS} bits, not {source.bits}")
        codes, scratch = given, None
        if source.kind != "direct":
            codes = given if self.ends[node.inputs[0]] <= self.now else self._place(given.channels, given.order)
            scratch = None if codes is given else codes
        if source.kind == "token":
            self._rowwise(node.key, given, codes, lambda a, o, first: hardware.Quantise(o, a, given.channels, first))
        elif source.kind == "static":
            walk = given.walk(self.lanes)
            multipliers = source.multiplier, 0
            add = hardware.Add(codes.walk(self.lanes), walk, walk, multipliers, source.shift, narrow=True)
            self._emit(add, node.key, codes)
        for k, layer in enumerate(operator.packed_layers):
            name = operator.names[k]
            place = self._result(node, len(layer.codes), k, self._order_for(node.outputs[k]))
            self._emit(self._multiply(name, layer, codes, place), node.key, place, output=node.outputs[k])
        if scratch is not None:
            self.memory.free(scratch.base)

    def _order_for(self, name: str) -> np.ndarray | None:
        """The order of channels for what reads a tensor: an activation takes them by the scale exponent.

        The other factor of an activation's product has its order.
        """
        for node in self.nodes:
            if name in node.inputs and isinstance(node.step, Product):
                others = [self.known[other] for other in node.inputs if other != name and other in self.known]
                return next((self._order_for(o.inputs[0]) for o in others if isinstance(o.step, Activation)), None)
            if name in node.inputs and isinstance(node.step, Activation) and node.step.scales is not None:
                return np.argsort(node.step.scales.numpy(), kind="stable")
        return None

    def _multiply(self, name: str, layer: PackedLinear, a: Place, o: Place) -> Instruction:
        if not layer.plain or layer.offset:
            raise InputError(f"{name}: the engine takes weights with one scale for each channel and no zero points")
        weights = layer.codes.cpu().numpy().astype(np.int64)
        rows = slice(None) if o.order is None else o.order
        weights = weights[rows] if a.order is None else weights[rows][:, a.order]
        tensors = (layer.bias, layer.multiplier, layer.shift)
        bias, multiplier, shift = (hardware.tiled(t.cpu().numpy()[rows][None], self.lanes) for t in tensors)
        return hardware.Multiply(
            o.walk(self.lanes),
            self._activations(a, o.tiles(self.lanes)),
            _beats(weights, self.lanes),
            bias,
            multiplier,
            shift,
            channels=o.channels,
            scaled=layer.token,
            narrow=self._is_narrow(name, layer.out_bits),
        )

    def split(self, node: Node) -> None:
        given = self.places.pop(node.inputs[0])
        channels = given.channels // len(node.outputs)
        tiles = self._whole_tiles(node.key, channels)
        parts = self.memory.split(given.base, [tiles * given.rows] * len(node.outputs))
        for name, base in zip(node.outputs, parts, strict=True):
            self.places[name] = Place(base, given.rows, channels)

    def keep_scores(self, node: Node) -> None:
        q, k = (self.places[name] for name in node.inputs[:2])
        self.scores[node.outputs[0]] = node.step, q, k  # pyright: ignore[reportArgumentType]

    def keep_softmax(self, node: Node) -> None:
        self.softmax[node.outputs[0]] = node, self.known[node.inputs[0]]

    def attention(self, node: Node) -> None:
        softmax_node, scores_node = self.softmax.pop(node.inputs[0])
        scores, q, k = self.scores.pop(scores_node.outputs[0])
        softmax: Softmax = softmax_node.step  # pyright: ignore[reportAssignmentType]
        context: Context = node.step  # pyright: ignore[reportAssignmentType]
        spec = self._softmax_of(softmax)
        if spec.probability_bits != NARROW_BITS:
            raise InputError(f"{softmax.name}: probabilities must have 8 bits, not {spec.probability_bits}")
        v = self.places[node.inputs[1]]
        tokens, heads = self.program.tokens, scores.heads
        width = q.channels // heads
        tiles = self._whole_tiles(scores_node.key, width)
        result = self._result(node, v.channels)
        scratch = self._place(tokens)  # a row's scores are all read before its first probability is written
        for head in range(heads):
            first = head * tiles
            one = self._scores(scores, head, q.part(first, width), k.part(first, width), scratch)
            self._emit(one, scores_node.key, scratch, output=scores_node.outputs[0], head=head)
            self._rowwise(
                softmax_node.key,
                scratch,
                scratch,
                lambda a, o, _: hardware.Probabilities(o, a, tokens, spec, self.program.valid),
                output=softmax_node.outputs[0],
                head=head,
            )
            part = result.part(first, width)
            one = self._context(context, head, scratch, v.part(first, width), part)
            self._emit(one, node.key, result, output=node.outputs[0], head=head, last=head == heads - 1)
        self.memory.free(scratch.base)

    def _scores(self, operator: Scores, head: int, q: Place, k: Place, o: Place) -> Instruction:
        """The channels of a tile's keys lie side by side, so that the array takes a tile's words as columns."""
        lanes, tiles = self.lanes, o.tiles(self.lanes)
        m, shift = (np.full((tiles, lanes), int(t[head])) for t in (operator.multiplier, operator.shift))
        keys = Walk(k.base, (lanes, k.tiles(lanes), tiles), (1, k.rows, lanes))
        a, bias = self._activations(q, tiles), np.zeros((tiles, lanes), dtype=np.int64)
        return hardware.Multiply(o.walk(lanes), a, keys, bias, m, shift, o.channels, transposed=True)

    def _context(self, operator: Context, head: int, p: Place, v: Place, o: Place) -> Instruction:
        """A word of values is one row of weights."""
        lanes, tiles = self.lanes, v.tiles(self.lanes)
        channels = slice(head * v.channels, (head + 1) * v.channels)
        m, shift = (t[channels].numpy().reshape(tiles, lanes) for t in (operator.multiplier, operator.shift))
        values = Walk(v.base + lanes - 1, (lanes, p.tiles(lanes), tiles), (-1, lanes, v.rows))
        a, bias = self._activations(p, tiles), np.zeros((tiles, lanes), dtype=np.int64)
        narrow = self._is_narrow(operator.name, operator.outputs[0].bits)
        return hardware.Multiply(o.walk(lanes), a, values, bias, m, shift, o.channels, narrow=narrow)

    def norm(self, node: Node) -> None:
        operator: Norm = node.step  # pyright: ignore[reportAssignmentType]
        spec = operator.specification
        assert spec is not None
        require_fitted(operator.name, spec.rsqrt.lowered)
        if spec.out_bits != hardware.ELEMENT_BITS:
            raise InputError(f"{operator.name}: the norm's codes must have 16 bits, not {spec.out_bits}")
        given = self.places[node.inputs[0]]
        place = self._over(node)
        make = lambda a, o, _: hardware.Normalise(o, a, given.channels, spec)  # noqa: E731
        self._rowwise(node.key, given, place, make, output=node.outputs[0])

    def activation(self, node: Node) -> None:
        operator: Activation = node.step  # pyright: ignore[reportAssignmentType]
        if operator.scales is None:
            raise InputError(f"{operator.name}: the engine has no unit for {operator.function}")
        given = self.places[node.inputs[0]]
        assert given.order is not None
        scales = operator.scales.numpy()[given.order]
        place = self._over(node)
        steps = [
            (operator.tables[s], *piece)
            for s in sorted(set(scales.tolist()))
            for piece in _pieces(int((scales < s).sum()), int((scales <= s).sum()), self.lanes)
        ]
        for k, (table, tile, count, mask) in enumerate(steps):
            require_fitted(operator.name, table)
            a, o = (Walk(p.base + tile * p.rows, (p.rows, count, 1), (1, p.rows, 0)) for p in (given, place))
            last = k == len(steps) - 1
            self._emit(hardware.Map(o, a, table, mask), node.key, place, output=node.outputs[0], last=last)

    def add(self, node: Node) -> None:
        operator: Add = node.step  # pyright: ignore[reportAssignmentType]
        a, b = (self.places[name] for name in node.inputs)
        place = self._over(node)
        o, first, second = (p.walk(self.lanes) for p in (place, a, b))
        add = hardware.Add(o, first, second, operator.multipliers, operator.shift)
        self._emit(add, node.key, place, output=node.outputs[0])


OUTSIDE = (Embedding, Input)  # and steps that only move values
HANDLERS: dict[type, Callable[[NetworkBuilder, Node], None]] = {
    Linear: NetworkBuilder.linear,
    Split: NetworkBuilder.split,
    Scores: NetworkBuilder.keep_scores,
    Softmax: NetworkBuilder.keep_softmax,
    Context: NetworkBuilder.attention,
    Norm: NetworkBuilder.norm,
    Activation: NetworkBuilder.activation,
    Add: NetworkBuilder.add,
    Rope: NetworkBuilder.rope,
    TokenScores: NetworkBuilder.keep_scores,
    TokenContext: NetworkBuilder.causal_attention,
    Product: NetworkBuilder.product,
}


def program_of(
    network: Network, config: EngineConfig, tokens: int, valid: int | None = None, layers: tuple[int, int] | None = None
) -> Program:
    """The program of a network, or of `layers` (first, last), both included, for `tokens` tokens.

    Without `layers` it is everything behind the embedding. Raises InputError for an operator that no unit computes, a
    tensor that the memory cannot hold, or layers that the network does not have.
    """
    if not 1 <= tokens <= config.max_tokens:
        raise InputError(f"tokens must be in 1..{config.max_tokens}, not {tokens}")
    nodes = network.graph.nodes
    computes = [isinstance(node.step, Operator) and not isinstance(node.step, OUTSIDE) for node in nodes]
    outside = [k for k, inside in enumerate(computes) if not inside]
    first, last = max(outside, default=-1) + 1, len(nodes)
    if layers is not None:
        inside = [k for k, node in enumerate(nodes) if _layer_of(node.key) in range(layers[0], layers[1] + 1)]
        count = max((_layer_of(node.key) for node in nodes), default=-1) + 1
        if not 0 <= layers[0] <= layers[1] < count:
            raise InputError(f"layers must be in 0..{count - 1}, not {layers[0]}..{layers[1]}")
        first, last = inside[0], inside[-1] + 1
    return NetworkBuilder(network, config, tokens, tokens if valid is None else valid).build(first, last, HANDLERS)


def results_of(network: Network, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The codes of every tensor of the integer network for one sample: (N_heads, M, N) or (M, N), by name."""
    found: dict[str, np.ndarray] = {}

    def watch(node: Node, _: tuple[Any, ...], results: tuple[Any, ...]) -> None:
        for name, value in zip(node.outputs, results, strict=True):
            if isinstance(value, torch.Tensor) and not value.is_floating_point():
                found[name] = value[0].numpy().astype(np.int64)

    with torch.no_grad():
        network.run(batch, watch)
    return found


def _beats(weights: np.ndarray, lanes: int) -> np.ndarray:
    """Weights (N, K) as the array takes them: for each output tile, each input tile, its rows from the last one on."""
    n, k = (-(-size // lanes) for size in weights.shape)
    whole = np.zeros((n * lanes, k * lanes), dtype=np.int64)
    whole[: weights.shape[0], : weights.shape[1]] = weights
    return whole.reshape(n, lanes, k, lanes)[..., ::-1].transpose(0, 2, 3, 1).reshape(-1, lanes)


def _pieces(first: int, end: int, lanes: int) -> list[tuple[int, int, np.ndarray]]:
    """Channels `first` to `end` - 1 as (tile, count of tiles, lanes that belong to them)."""
    found: list[tuple[int, int, np.ndarray]] = []
    while first < end:
        tile, offset = divmod(first, lanes)
        count = (end - first) // lanes if not offset else 0
        used = lanes if count else min(lanes, offset + end - first)
        mask = np.arange(lanes)
        found.append((tile, max(count, 1), (mask >= offset) & (mask < used)))
        first = (tile + max(count, 1)) * lanes if count or used == lanes else end
    return found


def _layer_of(key: str) -> int:
    """The number of the layer that a node belongs to; -1 outside the layers."""
    part = key.split(".")
    return int(part[1]) if part[0] == "layers" and len(part) > 1 and part[1].isdigit() else -1
