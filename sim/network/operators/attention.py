"""Attention between the projections: scores, softmax and context, in integers."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from quant.primitives.observers import observer_for
from quant.primitives.scales import Scale
from sim.network.operators import kernels
from sim.network.operators.arithmetic import blockwise, code_type, half, requantise_, round_half_up_
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.exact_gemm import batched
from sim.network.operators.kernels import Requantiser
from sim.network.operators.recording import Seen, joined, require_fitted, require_same
from sim.network.operators.storage import Reader, Writer, label
from sim.network.operators.tables import Gather, TensorNormaliser, lowered, normaliser, slope_frac_bits
from sim.reference import InputError, Normaliser, PwlTable
from sim.reference import Softmax as SoftmaxSpecification
from sim.reference.arithmetic import code_range
from sim.reference.softmax import largest_scale, power_scale, probability_bits_for, scales_for, total_bits_for
from sim.vectors.normaliser import normaliser_set
from sim.vectors.pwl import pwl_set
from sim.vectors.rowwise import softmax_set
from sim.vectors.vector_set import VectorSet

SCORE_BITS = 16
EXPONENTS = range(7)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) to (B, H, T, C / H)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(1, 2)


class HeadProduct(Operator):
    """A requantised product of two activations, the base of both products of attention.

    The inputs in `per_head` have 8-bit codes with a scale for each head, from the observer that the plan gives for the
    layer that computes them.
    """

    multiplier: Tensor
    shift: Tensor
    per_head: tuple[int, ...]

    def __init__(self, name: str, heads: int) -> None:
        super().__init__(name)
        self.heads = heads

    def input_bits(self, index: int, site: Site) -> int:
        return 8

    def input_grid(self, index: int, site: Site) -> Grid | None:
        if index not in self.per_head:
            return None
        scales = [
            Grid.covering(8, site.seen.largest((site.key, "input", index, head))).scale for head in range(self.heads)
        ]
        width = site.seen.width((site.key, "input", index))
        return Grid(8, torch.stack(scales).repeat_interleave(width // self.heads))

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        for index in self.per_head:
            settings, name = site.source_settings(index), site.sources[index][0].name
            make = (
                None if settings is None else lambda n=name, s=settings: observer_for(n, replace(s, activation_bits=8))
            )
            values = arguments[index]
            site.seen.note_width((site.key, "input", index), values.shape[-1])
            for head, part in enumerate(values.unflatten(-1, (self.heads, -1)).unbind(-2)):
                site.seen.observe((site.key, "input", index, head), part, name, make)
        self._watch_results(site, results)

    def _watch_results(self, site: Site, results: tuple[Tensor, ...]) -> None:
        """Note the ranges of the results."""
        super().watch(site, (), results)

    def _requantise_by(self, ratio: Scale) -> None:
        self.register_buffer("multiplier", ratio.multiplier, persistent=False)
        self.register_buffer("shift", ratio.shift, persistent=False)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        writer.tensor("multiplier", self.multiplier)
        writer.tensor("shift", self.shift)
        return {"heads": self.heads}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["heads"])
        operator._requantise_by(Scale(reader.tensor("multiplier"), reader.tensor("shift")))
        return operator


class Scores(HeadProduct):
    """q k^T / sqrt(C / H), (B, H, T, T), from (B, T, C) each; 16-bit codes at a power of two."""

    kind = "scores"
    per_head = (0, 1)

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (batch, queries, _), (_, keys, _) = inputs[0], inputs[1]
        return ((batch, self.heads, queries, keys),)

    def real(self, q: Tensor, k: Tensor) -> Tensor:
        product = split_heads(q, self.heads) @ split_heads(k, self.heads).transpose(-1, -2)
        return product * (q.shape[-1] // self.heads) ** -0.5

    def integer(self, q: Tensor, k: Tensor) -> Tensor:
        left, right = split_heads(q, self.heads), split_heads(k, self.heads).transpose(-1, -2)
        if kernels.usable(q):
            return kernels.heads(left, right, self.multiplier[:, None], self.shift[:, None], SCORE_BITS)
        psum = batched(left, right)
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
        self._requantise_by(ratio)
        self.finish((q, k), (Grid.power(SCORE_BITS, scale),))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(0), site.input(1), site.output().exponent)

    def _watch_results(self, site: Site, results: tuple[Tensor, ...]) -> None:
        """Nothing: softmax chooses the scale."""


class Softmax(Operator):
    """`sim.reference.softmax` over the last axis; `valid` is None or booleans that broadcast to the scores.

    Powers and probabilities have the plan's `probability_bits`, or 16 if calibration has rows of more than 128 scores.
    The scale of the scores is the one with the least error of exp at which clamped scores have no weight in the
    longest row of calibration. A warning names what cannot serve a row.
    """

    kind = "softmax"
    functions = ("exp", "div")

    def __init__(self, name: str, row_length: int) -> None:
        super().__init__(name)
        self.row_length = row_length
        self.specification: SoftmaxSpecification | None = None
        self._said = 0  # the longest row of which nothing is left to say

    @property
    def plan_names(self) -> list[str]:
        return [self.name]

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
        self._warn(scores.shape[-1])
        if kernels.usable(scores):
            return kernels.softmax(scores, valid, self.constants)
        wide = torch.int32 if spec.probability_bits == 8 else torch.int64  # holds a product
        top = code_range(spec.probability_bits, True)[1]

        def rows(x: Tensor, ok: Tensor | None = None) -> Tensor:
            score = x.int()
            if ok is not None:
                score.masked_fill_(~ok, -(1 << (SCORE_BITS - 1)))
            distance = score.sub_(score.amax(-1, keepdim=True)).clamp_(min=-128).to(torch.int8)
            power = self.powers(distance).to(wide)
            if ok is not None:
                power.masked_fill_(~ok, 0)
            inverse = self.div.output(power.sum(-1, keepdim=True), spec.inverse_scale, spec.inverse_bits)
            return round_half_up_(power.mul_(inverse.to(wide)), spec.shift).clamp_(0, top)

        dtype = code_type(spec.probability_bits)
        if valid is None or not len(scores):
            return blockwise(rows, dtype, scores)
        every = zip(scores, valid.expand(scores.shape), strict=True)
        return torch.stack([blockwise(rows, dtype, s, v) for s, v in every])

    def input_grid(self, index: int, site: Site) -> Grid | None:
        longest, exp, bits = self._longest(site), site.table(self.name, "exp"), self._probability_bits(site)
        scales = [s for s in EXPONENTS if s <= largest_scale(longest, _exp_scale(exp, bits, s))]
        return Grid.power(SCORE_BITS, best_exp_scale(site.seen.sample(self.name), scales))

    def _longest(self, site: Site) -> int:
        """The most scores that count in a row of the calibration data."""
        return site.seen.width((self.name, "row"))

    def _probability_bits(self, site: Site) -> int:
        return site.settings[self.name].probability_bits or probability_bits_for(self._longest(site))

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Keep distances from the maximum, of rows that count, for the scale of the scores."""
        scores, valid = _scores_and_mask(*arguments)
        distance = scores - _masked(scores, valid).amax(-1, keepdim=True)
        rows = torch.ones_like(distance, dtype=torch.bool) if valid is None else valid.expand(distance.shape)
        if site.seen.mask is not None:
            rows = rows & site.seen.mask[:, None, :, None]
        site.seen.keep(self.name, distance[rows].clamp(max=0))
        longest = scores.shape[-1] if valid is None else int(valid.sum(-1).max())
        site.seen.note_width((self.name, "row"), longest)

    def quantise_at(self, site: Site) -> None:
        exp, div = (site.table(self.name, function) for function in self.functions)
        self.quantise(site.input(), exp, div, self._probability_bits(site))
        self._warn(self._longest(site))

    def quantise(self, input: Grid, exp: PwlTable | str, div: PwlTable | str, probability_bits: int = 8) -> None:
        """The tables (or "exact") of exp and div, for scores at a power of two."""
        exp_scale = _exp_scale(exp, probability_bits, input.exponent)
        table = lowered("exp", exp, input.exponent, exp_scale, probability_bits, probability_bits)
        inverse = normaliser("div", div, total_bits_for(table, self.row_length), exp_scale, probability_bits)
        self._attach(SoftmaxSpecification(table, exp_scale, inverse, self.row_length, **scales_for(probability_bits)))
        assert self.specification is not None
        self.finish((input,), (Grid.power(probability_bits, self.specification.probability_scale),))

    def _attach(self, spec: SoftmaxSpecification) -> None:
        self.specification, self._said = spec, 0
        self.powers = Gather([spec.exp.output(spec.exp.codes()).clip(min=0)], code_type(spec.probability_bits))
        self.div = TensorNormaliser(spec.div)
        self.constants = kernels.SoftmaxConstants.of(spec)

    def _warn(self, row_length: int) -> None:
        """Warn of what cannot serve rows of that many scores; after a warning, only from twice its length on."""
        if row_length > self._said:
            assert self.specification is not None
            lines = self.specification.shortfalls(row_length)
            for line in lines:
                warnings.warn(f"softmax: {line}", stacklevel=2)
            self._said = 2 * row_length - 1 if lines else row_length

    def to_row(self, writer: Writer) -> dict[str, Any]:
        spec = self.specification
        assert spec is not None
        writer.table("exp", spec.exp)
        numbers = writer.normaliser("div", spec.div)
        wide = {} if spec.probability_bits == 8 else {"probability_bits": spec.probability_bits}
        return {"scale": spec.exp.s, "row_length": spec.row_length, "normaliser": numbers, **wide}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], row["row_length"])
        bits = row.get("probability_bits", 8)
        div = reader.normaliser("div", row["name"], row["normaliser"], bits)
        exp_scale = div.input_frac_bits
        exp = reader.table("exp", "exp", row["scale"], exp_scale, bits, bits)
        operator._attach(SoftmaxSpecification(exp, exp_scale, div, row["row_length"], **scales_for(bits)))
        return operator

    def formats(self) -> dict[str, Any]:
        spec = self.specification
        assert spec is not None
        tables = {"exp": label(spec.exp), "div": label(spec.div.lowered)}
        return {**super().formats(), "scale_exponents": {str(spec.exp.s): 1}, "tables": tables}

    def clipped(self, arguments: tuple[Any, ...], results: tuple[Tensor, ...], mask: Tensor | None) -> float:
        """The share of scores whose distance from the maximum is out of the table's range."""
        assert self.specification is not None
        scores = _masked(*arguments)
        distance = (scores - scores.amax(-1, keepdim=True)) * 2.0**self.specification.exp.s
        counted = distance > -torch.inf
        return float((distance[counted] < -128.5).double().mean())

    @classmethod
    def vector_sets(cls, name: str, operators: Sequence[Any], seen: Seen, source: Mapping[str, Any]) -> list[VectorSet]:
        """Rows for the unit, and the inputs of its tables of exp and div; apart for each format of the powers."""
        formats: dict[tuple[int, int], list[Any]] = {}
        for operator in operators:
            spec = operator.specification
            formats.setdefault((spec.probability_bits, spec.exp_scale), []).append(operator)
        if len(formats) > 1:
            each = [cls.vector_sets(f"{name}-{k}", part, seen, source) for k, part in enumerate(formats.values())]
            return [vectors for sets in each for vectors in sets]
        loads, distances, totals = [], [], []
        units: list[Normaliser] = []
        longest = max(arguments[0].shape[-1] for operator in operators for arguments, _ in seen[operator.name])
        for operator in operators:
            spec = operator.specification
            assert spec is not None
            require_fitted(operator.name, spec.exp)
            # the unit is made for the rows there are, not for the longest that the model could take
            div = replace(spec.div, input_bits=total_bits_for(spec.exp, longest))
            short = replace(spec, row_length=longest, div=div)
            units.append(short.div)
            pieces = []
            for arguments, result in seen[operator.name]:
                scores, valid = _scores_and_mask(*arguments)
                codes = scores.numpy().astype(np.int64)
                mask = None if valid is None else np.broadcast_to(valid.numpy(), codes.shape)
                trace = short.trace(codes, mask)
                require_same(operator.name, trace.probability, result.numpy())
                pieces.append((codes, mask))
                kept = slice(None) if mask is None else mask
                distances.append((spec.exp, trace.distance[kept].ravel()))
                totals.append(trace.total.ravel())
            loads.append((short, joined(pieces)))
        where = {**source, "sites": [operator.name for operator in operators]}
        spec = loads[0][0]
        inverse = {"output_scale": spec.inverse_scale, "out_bits": spec.inverse_bits}
        return [
            softmax_set(f"{name}-softmax", loads, where),
            pwl_set(f"{name}-exp", distances, where),
            normaliser_set(f"{name}-div", units[0], np.concatenate(totals), where, **inverse),
        ]


def _scores_and_mask(scores: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The arguments of a call of softmax."""
    return scores, valid


def _masked(scores: Tensor, valid: Tensor | None = None) -> Tensor:
    return scores if valid is None else scores.masked_fill(~valid, -torch.inf)


def _exp_scale(exp: PwlTable | str, probability_bits: int, scale: int) -> int:
    """The scale exponent of powers as wide as probabilities; half their step is worth more than a full 1."""
    return power_scale(probability_bits - 1, slope_frac_bits("exp", exp, probability_bits), scale)


def best_exp_scale(distances: Tensor, scales: Sequence[int] = EXPONENTS) -> int:
    """The scale exponent of the scores with the least squared error of exp on the `distances`, all <= 0.

    Ties go to the largest exponent: one token has the distance 0 alone, which every scale holds.
    """
    exact = torch.exp(distances)
    return min(
        reversed(scales),
        key=lambda s: float((torch.exp(Grid.power(8, s).codes(distances) * 2.0**-s) - exact).square().mean()),
    )


class Context(HeadProduct):
    """Probabilities (B, H, T, T) times values (B, T, C), heads side by side again: (B, T, C)."""

    kind = "context"
    per_head = (1,)

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        (batch, _, queries, _), (_, _, width) = inputs[0], inputs[1]
        return ((batch, queries, width),)

    def real(self, p: Tensor, v: Tensor) -> Tensor:
        return (p @ split_heads(v, self.heads)).transpose(1, 2).flatten(2)

    def integer(self, p: Tensor, v: Tensor) -> Tensor:
        right, bits = split_heads(v, self.heads), self.outputs[0].bits
        if kernels.usable(p):
            channels = right.shape[1], right.shape[3]
            constants = self.multiplier.view(channels), self.shift.view(channels)
            return kernels.heads(p, right, *constants, bits, side_by_side=True).flatten(2)
        return Requantiser(self.multiplier, self.shift, bits)(batched(p, right).transpose(1, 2).flatten(2))

    def quantise(self, p: Grid, v: Grid, output: Grid) -> None:
        """One multiplier for each channel, from the values' scale to the output's."""
        ratio = Scale.nearest(p.scale * v.scale / output.scale, f"{self.name}: context")
        self._requantise_by(ratio)
        self.finish((p, v), (output,))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(0), site.input(1), site.output())
