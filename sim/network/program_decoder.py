"""The instructions of a decoder's operators: rotation, causal attention with grouped heads, and the gate's product."""

from typing import Any

import numpy as np

from sim.network.graph import Node
from sim.network.operators.attention import Softmax
from sim.network.operators.causal import CausalMask, TokenContext, TokenScores
from sim.network.operators.product import Product
from sim.network.operators.rope import Rope
from sim.network.program_builder import Builder, Place, RowInstruction
from sim.reference import InputError
from sim.reference import engine as hardware
from sim.reference.engine import Walk
from sim.reference.requant import MAX_SHIFT


class DecoderBuilder(Builder):
    """The builder with the operators of causal language models."""

    def rope(self, node: Node) -> None:
        """Head by head: a head's halves must be whole tiles, so that a pair lies in the same lane of two words."""
        operator: Rope = node.step  # pyright: ignore[reportAssignmentType]
        given, cosines, sines = (self.places[name] for name in node.inputs)
        tiles = self._whole_tiles(f"{node.key}: half a head's", given.channels // operator.heads // 2)
        place = self._over(node)
        for head in range(operator.heads):
            halves = [(head * 2 + half) * tiles for half in (0, 1)]
            bases = [given.part(tile, 0).base for tile in halves]
            a, b = (self._in_turn(x, y.base, tiles) for x, y in zip(bases, (cosines, sines), strict=True))
            first, second = (place.part(tile, 0).base for tile in halves)
            rotate = hardware.Rotate(self._in_turn(first, second, tiles), a, b)
            self._emit(rotate, node.key, place, output=node.outputs[0], last=head == operator.heads - 1)

    def _in_turn(self, first: int, second: int, tiles: int) -> Walk:
        """Words of two tensors, one of each at a time."""
        rows = self.program.tokens
        return Walk(first, (2, rows, tiles), (second - first, 1, rows))

    def product(self, node: Node) -> None:
        operator: Product = node.step  # pyright: ignore[reportAssignmentType]
        spec = operator.specification
        assert spec is not None
        a, b = (self.places[name] for name in node.inputs)
        place = self._over(node)
        o, first, second = (p.walk(self.lanes) for p in (place, a, b))
        product = hardware.ElementProduct(o, first, second, spec, self._is_narrow(operator.name, spec.out_bits))
        self._emit(product, node.key, place, output=node.outputs[0])

    def causal_attention(self, node: Node) -> None:
        """A key's head at a time, with the heads of queries that share it; keys and values keep their magnitudes."""
        context: TokenContext = node.step  # pyright: ignore[reportAssignmentType]
        softmax_node, scores_node = self.softmax.pop(node.inputs[0])
        scores, q, k = self.scores.pop(scores_node.outputs[0])
        v, tokens = self.places[node.inputs[1]], self.program.tokens
        width = q.channels // scores.heads
        tiles = self._whole_tiles(f"{scores_node.key}: a head's", width)
        probabilities = self._probabilities(softmax_node)
        result = self._result(node, width * scores.heads)
        scratch = self._place(tokens)
        key_tiles = scratch.tiles(self.lanes)
        values_first = key_tiles * self.lanes  # of the columns' magnitudes, behind those of the keys
        shared = scores.heads // scores.key_heads
        for key_head in range(scores.key_heads):
            keys, values = (p.part(key_head * tiles, width) for p in (k, v))
            self._to_codes(scores_node.key, keys, 0)
            self._to_codes(node.key, values, values_first)
            for head in range(key_head * shared, (key_head + 1) * shared):
                queries, where = q.part(head * tiles, width), {"output": scores_node.outputs[0], "head": head}
                self._to_codes(scores_node.key, queries, None, head=head)
                one = self._token_scores(scores, queries, keys, scratch)
                self._emit(one, scores_node.key, scratch, **where)
                self._rowwise(
                    softmax_node.key, scratch, scratch, probabilities, output=softmax_node.outputs[0], head=head
                )
                for tile in range(key_tiles):
                    words = scratch.part(tile, self.lanes).walk(self.lanes)
                    first = values_first + tile * self.lanes
                    weigh = hardware.Weigh(words, words, first, context.probability_scale)
                    self._emit(weigh, node.key, scratch, head=head)
                part = result.part(head * tiles, width)
                one = self._token_context(context, scratch, values, part)
                self._emit(one, node.key, result, output=node.outputs[0], head=head, last=head == scores.heads - 1)
        self.memory.free(scratch.base)

    def _probabilities(self, node: Node) -> RowInstruction:
        """What makes the instructions of softmax for the program's tokens."""
        softmax: Softmax = node.step  # pyright: ignore[reportAssignmentType]
        mask = self.known[node.inputs[1]].step
        assert isinstance(mask, CausalMask)
        tokens, valid = self.program.tokens, self.program.valid
        if mask.window is not None and mask.window < tokens:
            raise InputError(f"{mask.name}: the engine has no sliding window")
        spec = self._softmax_of(softmax)
        return lambda a, o, first: hardware.Probabilities(o, a, tokens, spec, valid, causal=True, first=first)

    def _to_codes(self, key: str, part: Place, columns: int | None, **where: Any) -> None:
        """8-bit codes of each token of a head; their magnitudes are kept for columns from `columns` on, or for rows."""
        kept = columns is not None
        make = lambda a, o, row: hardware.Quantise(o, a, part.channels, row + (columns or 0), kept)  # noqa: E731
        self._rowwise(key, part, part, make, **where)

    def _token_scores(self, operator: TokenScores, q: Place, k: Place, o: Place) -> hardware.Multiply:
        if operator.shift > MAX_SHIFT:
            raise InputError(f"{operator.name}: the shift of scores must be in 0..{MAX_SHIFT}, not {operator.shift}")
        lanes, tiles = self.lanes, o.tiles(self.lanes)
        zeros, shift = np.zeros((tiles, lanes), dtype=np.int64), np.full((tiles, lanes), operator.shift)
        keys = Walk(k.base, (lanes, k.tiles(lanes), tiles), (1, k.rows, lanes))
        return hardware.Multiply(
            o.walk(lanes), self._activations(q, tiles), keys, zeros, zeros, shift, o.channels,
            transposed=True, scaled=True, columns=0,
        )  # fmt: skip

    def _token_context(self, operator: TokenContext, p: Place, v: Place, o: Place) -> hardware.Multiply:
        """A word of values is one row of weights."""
        lanes, tiles = self.lanes, v.tiles(self.lanes)
        shape = (tiles, lanes)
        m, shift = (np.full(shape, int(t)) for t in (operator.multiplier, operator.shift))
        values = Walk(v.base + lanes - 1, (lanes, p.tiles(lanes), tiles), (-1, lanes, v.rows))
        bias, narrow = np.zeros(shape, dtype=np.int64), self._is_narrow(operator.name, operator.outputs[0].bits)
        activations = self._activations(p, tiles)
        return hardware.Multiply(
            o.walk(lanes), activations, values, bias, m, shift, o.channels, narrow=narrow, wide=True
        )
