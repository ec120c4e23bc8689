"""Attention between the projections: scores, softmax and context, in integers."""

import torch
from torch import Tensor

from quant.primitives.scales import Scale
from sim.network.operators.arithmetic import blockwise, code_type, half, requantise_, round_half_up_
from sim.network.operators.base import Grid, Operator
from sim.network.operators.exact_gemm import batched
from sim.network.operators.tables import Gather, TensorNormaliser, lowered, normaliser
from sim.reference import InputError, PwlTable
from sim.reference import Softmax as SoftmaxSpecification
from sim.reference.softmax import INVERSE_BITS, total_bits_for

SCORE_BITS = 16
PROBABILITY_SCALE = 7
EXP_SCALE = 7  # exp(0) = 1 saturates to 127/128; half the step is worth more


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) to (B, H, T, C / H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Scores(Operator):
    """q k^T / sqrt(C / H), (B, H, T, T), from (B, T, C) each; 16-bit codes at a power of two."""

    kind = "scores"
    multiplier: Tensor
    shift: Tensor

    def __init__(self, name: str, heads: int) -> None:
        super().__init__(name)
        self.heads = heads

    def real(self, q: Tensor, k: Tensor) -> Tensor:
        product = split_heads(q, self.heads) @ split_heads(k, self.heads).transpose(-1, -2)
        return product * (q.shape[-1] // self.heads) ** -0.5

    def integer(self, q: Tensor, k: Tensor) -> Tensor:
        psum = batched(split_heads(q, self.heads), split_heads(k, self.heads).transpose(-1, -2))
        rows = (*psum.shape[:-1], 1)
        constants = [t[:, None, None].expand(rows) for t in (self.multiplier, self.shift, half(self.shift))]

        def row_scales(psum: Tensor, multiplier: Tensor, shift: Tensor, rounding: Tensor) -> Tensor:
            return requantise_(psum.long(), multiplier, shift, rounding, SCORE_BITS)

        return blockwise(row_scales, code_type(SCORE_BITS), psum, *constants)

    def quantise(self, q: Grid, k: Grid, scale: int) -> None:
        """From the grids of q and k, one scale for each head, to codes at 2**-scale."""
        width = q.scale.shape[-1] // self.heads
        product = (q.scale * k.scale)[::width] * width**-0.5
        ratio = Scale.nearest(product * 2.0**scale, f"{self.name}: scores")
        self.register_buffer("multiplier", ratio.multiplier)
        self.register_buffer("shift", ratio.shift)
        self.inputs, self.outputs = (q, k), (Grid.power(SCORE_BITS, scale),)


class Softmax(Operator):
    """`sim.reference.softmax` over the last axis; `valid` is None or booleans that broadcast to the scores."""

    kind = "softmax"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.specification: SoftmaxSpecification | None = None

    def real(self, scores: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is None:
            return scores.softmax(-1)
        # a row without a valid score gives zeros, not NaN
        return scores.masked_fill(~valid, -torch.inf).softmax(-1).nan_to_num(0.0).masked_fill(~valid, 0.0)

    def integer(self, scores: Tensor, valid: Tensor | None = None) -> Tensor:
        spec = self.specification
        assert spec is not None
        if scores.shape[-1] > spec.row_length:
            raise InputError(f"{self.name}: a row must have 1..{spec.row_length} scores, not {scores.shape[-1]}")

        def rows(x: Tensor, ok: Tensor | None = None) -> Tensor:
            wide = x.int()
            if ok is not None:
                wide.masked_fill_(~ok, -(1 << (SCORE_BITS - 1)))
            distance = wide.sub_(wide.amax(-1, keepdim=True)).clamp_(min=-128).to(torch.int8)
            power = self.powers(distance).int()
            if ok is not None:
                power.masked_fill_(~ok, 0)
            inverse = self.div.output(power.sum(-1, keepdim=True), spec.inverse_scale, INVERSE_BITS)
            return round_half_up_(power.mul_(inverse.int()), spec.shift).clamp_(0, 127)

        if valid is None:
            return blockwise(rows, torch.int8, scores)
        every = zip(scores, valid.expand(scores.shape), strict=True)
        return torch.stack([blockwise(rows, torch.int8, s, v) for s, v in every])

    def quantise(self, input: Grid, scale: int, row_length: int, exp: PwlTable | str, div: PwlTable | str) -> None:
        """The tables (or "exact") of exp and div, for scores at 2**-scale and rows of up to `row_length`."""
        table = lowered("exp", exp, scale, EXP_SCALE)
        inverse = normaliser("div", div, total_bits_for(table, row_length), EXP_SCALE)
        self.specification = SoftmaxSpecification(table, EXP_SCALE, inverse, row_length)
        self.inputs, self.outputs = (input,), (Grid.power(8, PROBABILITY_SCALE),)
        self.attach()

    def attach(self) -> None:
        """Make the tensors of the specification."""
        spec = self.specification
        assert spec is not None
        self.powers = Gather([spec.exp.output(spec.exp.codes()).clip(min=0)])
        self.div = TensorNormaliser(spec.div)


class Context(Operator):
    """Probabilities (B, H, T, T) times values (B, T, C), heads side by side again: (B, T, C)."""

    kind = "context"
    multiplier: Tensor
    shift: Tensor

    def __init__(self, name: str, heads: int) -> None:
        super().__init__(name)
        self.heads = heads

    def real(self, p: Tensor, v: Tensor) -> Tensor:
        return (p @ split_heads(v, self.heads)).transpose(1, 2).flatten(2)

    def integer(self, p: Tensor, v: Tensor) -> Tensor:
        psum = batched(p, split_heads(v, self.heads)).transpose(1, 2).flatten(2)
        bits, rounding = self.outputs[0].bits, half(self.shift)

        def rows(psum: Tensor) -> Tensor:
            return requantise_(psum.long(), self.multiplier, self.shift, rounding, bits)

        return blockwise(rows, code_type(bits), psum)

    def quantise(self, p: Grid, v: Grid, output: Grid) -> None:
        """One multiplier for each channel, from the values' scale to the output's."""
        ratio = Scale.nearest(p.scale * v.scale / output.scale, f"{self.name}: context")
        self.register_buffer("multiplier", ratio.multiplier)
        self.register_buffer("shift", ratio.shift)
        self.inputs, self.outputs = (p, v), (output,)
