"""Quantisers: real tensors to integer codes, and the real numbers that the codes stand for.

Rounding is half up, saturation follows, as in the hardware. Symmetric codes are signed with the zero point 0,
asymmetric ones unsigned with a zero point in 0..2**bits-1. `fake_quantise` equals quantising and going back, exactly,
and lets gradients through.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from quant.plan import Settings
from quant.primitives.hadamard import rotate
from quant.primitives.scales import Scale
from sim.reference import InputError
from sim.reference.arithmetic import code_range

SHRINK = tuple(1 - i / 80 for i in range(61))  # shares of the largest magnitude that the MSE search tries, 1..0.25
CHUNK = 1 << 22  # weights searched at a time, which bounds the memory


def round_half_up(values: Tensor) -> Tensor:
    """floor(v + 1/2), exact also where v + 1/2 has no floating-point representation."""
    low = torch.floor(values)
    return low.add_((values - low).ge_(0.5))  # in place: this passes over every weight and input


def quantise(values: Tensor, scale: Tensor, zero_point: Tensor | int, bits: int, signed: bool) -> Tensor:
    """saturate(round(values / scale) + zero_point) as floating-point integers; scale and zero point broadcast.

    The division is one correctly rounded operation in the type that torch promotes to, so that every machine agrees.
    """
    low, high = code_range(bits, signed)
    return torch.clamp(round_half_up(values / scale) + zero_point, low, high)


def codes_ste(values: Tensor, scale: Tensor, zero_point: Tensor | int, bits: int, signed: bool) -> Tensor:
    """The same codes less their zero point, differentiable: rounding passes the gradient, saturation stops it.

    The gradient of `scale` is that of learned step sizes (LSQ, 1902.08153), that of `values` the straight-through one.
    """
    low, high = code_range(bits, signed)
    inside = torch.clamp(values / scale + zero_point, low, high) - zero_point
    with torch.no_grad():
        codes = quantise(values, scale, zero_point, bits, signed) - zero_point
    return Replaced.apply(inside, codes)


def fake_quantise(values: Tensor, scale: Tensor, zero_point: Tensor | int, bits: int, signed: bool) -> Tensor:
    """(quantise(values) - zero_point) * scale, differentiable as `codes_ste`; exact where scale is float64."""
    return codes_ste(values, scale, zero_point, bits, signed) * scale


class Replaced(torch.autograd.Function):
    """The second argument's value with the first one's gradient; x + (y - x).detach() would round twice."""

    @staticmethod
    def forward(ctx: object, _smooth: Tensor, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return value

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None


@dataclass(frozen=True, eq=False)
class QuantisedWeight:
    """A weight matrix in integers: w ~ (codes - zero_point) * group_multiplier * S, S = m * 2**-k per channel.

    Parameters
    ----------
    codes : Tensor
        (out, in), int8 if signed, else uint8.
    zero_point, group_multiplier : Tensor
        (out, groups), int32. Group j holds the inputs j*group_size to (j+1)*group_size - 1, the last one what is left.
    scale : Scale
        S of each output channel, (out,).
    bits : int
        Width of a code, 2..8.
    signed : bool
        Whether codes are signed; then every zero point is 0.
    group_size : int
        Inputs in a group; all of them if there is one scale for each channel.
    """

    codes: Tensor
    zero_point: Tensor
    group_multiplier: Tensor
    scale: Scale
    bits: int
    signed: bool
    group_size: int

    def tensors(self) -> tuple[Tensor, ...]:
        """The five tensors: codes, zero points, group multipliers, and the scales' multipliers and shifts."""
        return self.codes, self.zero_point, self.group_multiplier, self.scale.multiplier, self.scale.shift

    def integers(self) -> Tensor:
        """(codes - zero_point) * group_multiplier, int32, (out, in): what the accumulators see, at most 24 bits."""
        return (self.codes.int() - self.spread(self.zero_point)) * self.spread(self.group_multiplier)

    def dequantise(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real weights (out, in): exact in float64, rounded once in any other type."""
        return (self.integers().double() * self.scale.value[:, None]).to(dtype)

    def to(self, device: torch.device | str) -> "QuantisedWeight":
        """The same weight on another device."""
        return replace(
            self, codes=self.codes.to(device), zero_point=self.zero_point.to(device),
            group_multiplier=self.group_multiplier.to(device), scale=self.scale.to(device),
        )  # fmt: skip

    def spread(self, per_group: Tensor) -> Tensor:
        """(out, groups) to (out, in)."""
        return per_group.repeat_interleave(self.group_size, dim=1)[:, : self.codes.shape[1]]


def quantise_weight(weight: Tensor, settings: Settings) -> QuantisedWeight:
    """Round a weight matrix (out, in) to the nearest codes of its scales, as `settings` say.

    The observer gives each group a real scale: "minmax" covers every weight, "mse" takes of 61 shares of that range the
    one with the least squared error. Where channels have groups, S is such that the largest of them fits its
    multiplier; the codes are found last, for the integer scale. Raises `InputError` if blocks of rows do not divide
    the outputs.
    """
    outputs = weight.shape[0]
    if settings.weight_granularity == "tensor":
        real, zero = _search(weight.detach().reshape(1, -1), settings)
        real, zero = real.expand(outputs)[:, None], zero.expand(outputs)[:, None]
    elif settings.weight_granularity == "rows":
        count = settings.row_groups or 1
        if outputs % count:
            raise InputError(f"row_groups must divide the {outputs} outputs, not {count}")
        found = _search(weight.detach().reshape(count, -1), settings)
        real, zero = (part.repeat_interleave(outputs // count)[:, None] for part in found)
    else:
        found = [_search(part, settings) for part in _grouped(weight.detach(), group_inputs(weight, settings))]
        real, zero = (torch.cat(parts) for parts in zip(*found, strict=True))
    return with_scales(weight, real, zero, settings)


def group_inputs(weight: Tensor, settings: Settings) -> int:
    """How many inputs of an output of `weight` (out, in) share a scale."""
    inputs = weight.shape[1]
    return min(settings.group_size or inputs, inputs) if settings.weight_granularity == "group" else inputs


def with_scales(weight: Tensor, real: Tensor, zero: Tensor, settings: Settings) -> QuantisedWeight:
    """The codes of a weight matrix (out, in) for real scales and zero points (out, groups), the scales made integer."""
    scale, multiplier = integer_scales(real, settings)
    result = QuantisedWeight(
        codes=weight.new_empty(0), zero_point=zero.int(), group_multiplier=multiplier.int(), scale=scale,
        bits=settings.weight_bits, signed=settings.weight_symmetric, group_size=group_inputs(weight, settings),
    )  # fmt: skip
    return recode(weight, result)


def recode(weight: Tensor, like: QuantisedWeight) -> QuantisedWeight:
    """The codes of `weight` (out, in) for the scales and zero points of `like`."""
    codes = torch.empty(weight.shape, dtype=torch.int8 if like.signed else torch.uint8, device=weight.device)
    steps = like.group_multiplier.double() * like.scale.value[:, None]
    rows = max(1, CHUNK // weight.shape[1])
    for first in range(0, weight.shape[0], rows):
        part = slice(first, first + rows)
        step, zero = (t[part].repeat_interleave(like.group_size, dim=1)[:, : weight.shape[1]]
                      for t in (steps, like.zero_point))  # fmt: skip
        codes[part] = quantise(weight[part].detach().double(), step, zero, like.bits, like.signed).to(codes.dtype)
    return replace(like, codes=codes)


def _grouped(weight: Tensor, size: int) -> Iterator[Tensor]:
    """Rows at a time as (rows, groups, size); zeros fill the last group, which no range and no error notices."""
    padded = functional.pad(weight, (0, -weight.shape[1] % size))
    for part in padded.split(max(1, CHUNK // padded.shape[1])):
        yield part.reshape(part.shape[0], -1, size)


def _search(groups: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Real scale (0 for a group of zeros) and zero point of each row of the last axis, float64."""
    groups = groups if groups.dtype == torch.float64 else groups.float()
    bits, signed = settings.weight_bits, settings.weight_symmetric
    low, high = groups.amin(-1).clamp(max=0).double(), groups.amax(-1).clamp(min=0).double()
    widest, zero = _cover(low, high, bits, signed)
    if settings.weight_observer == "minmax":
        return widest, zero
    best, least = widest, torch.full_like(widest, torch.inf)
    first, last = code_range(bits, signed)
    offset = zero[..., None].to(groups.dtype)
    for share in SHRINK:
        step = torch.where(widest > 0, widest * share, 1.0)[..., None].to(groups.dtype)
        # the quantiser but for ties, in place, since the search passes over every weight 61 times
        error = (groups / step).add_(offset + 0.5).floor_().clamp_(first, last).sub_(offset).mul_(step).sub_(groups)
        total = error.square_().sum(-1).double()
        best, least = torch.where(total < least, widest * share, best), torch.minimum(total, least)
    return best, zero


def _cover(low: Tensor, high: Tensor, bits: int, signed: bool) -> tuple[Tensor, Tensor]:
    """The smallest real scale, and the zero point, with which the codes cover low..high (low <= 0 <= high)."""
    if signed:
        return torch.maximum(-low, high) / code_range(bits, True)[1], torch.zeros_like(low)
    top = code_range(bits, False)[1]
    scale = (high - low) / top
    return scale, round_half_up(-low / torch.where(scale > 0, scale, 1.0)).clamp(0, top)


def integer_scales(real: Tensor, settings: Settings) -> tuple[Scale, Tensor]:
    """S per channel and the group multipliers (out, groups) for real scales (out, groups)."""
    widest = real.amax(1)
    # a channel of zeros takes the largest scale of the others: its bias may be rounded to steps of that scale
    other = widest.amax() if bool((widest > 0).any()) else 1.0
    widest = torch.where(widest > 0, widest, other)
    if settings.weight_granularity != "group":
        return Scale.nearest(widest), torch.ones_like(real)
    top = (1 << settings.multiplier_bits) - 1
    scale = Scale.above(widest / top)
    return scale, round_half_up(real / scale.value[:, None]).clamp(1, top)


@dataclass(frozen=True, eq=False)
class ActivationQuantiser:
    """A tensor's codes: `scale` is of shape () and static, or None: found for each token (last axis) when it is seen.

    Symmetric: signed codes, zero point 0; asymmetric: unsigned, 0..2**bits-1 (less 2**(bits-1), the signed pair).
    `hadamard` is the block in which the tensor is rotated before (`quant.primitives.hadamard`), None if it is not.
    """

    bits: int
    signed: bool = True
    scale: Scale | None = None
    zero_point: int = 0
    hadamard: int | None = None

    @classmethod
    def covering(cls, low: float, high: float, bits: int, signed: bool, name: str = "scale") -> "ActivationQuantiser":
        """A static quantiser for values in low..high; a range of nothing but zero takes the scale 1."""
        ends = torch.tensor([min(low, 0.0), max(high, 0.0)], dtype=torch.float64)
        real, zero = _cover(ends[0], ends[1], bits, signed)
        return cls(bits, signed, Scale.nearest(real if real > 0 else torch.ones_like(real), name), int(zero))

    def rotated(self, values: Tensor) -> Tensor:
        """What the codes stand for: `values` in float64, behind the transform if there is one."""
        return rotate(values.double(), self.hadamard)

    def parameters(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Scale (float64) and zero point that serve rotated `values`: of shape (), or (..., 1) per token."""
        if self.scale is not None:
            scale = self.scale.value.to(values.device)
            return scale, torch.full_like(scale, self.zero_point)
        values = values.detach().double()
        low, high = values.amin(-1, keepdim=True).clamp(max=0), values.amax(-1, keepdim=True).clamp(min=0)
        real, zero = _cover(low, high, self.bits, self.signed)
        return Scale.nearest(torch.where(real > 0, real, 1.0), "a token's scale").value, zero

    def codes(self, values: Tensor) -> Tensor:
        """Integer codes, int32, in the shape of `values`."""
        values = self.rotated(values)
        scale, zero = self.parameters(values)
        return quantise(values, scale, zero, self.bits, self.signed).int()

    def fake(self, values: Tensor) -> Tensor:
        """(codes - zero point) * scale, in float64, differentiable; rotated if there is a transform."""
        values = self.rotated(values)
        scale, zero = self.parameters(values)
        return fake_quantise(values, scale, zero, self.bits, self.signed)
