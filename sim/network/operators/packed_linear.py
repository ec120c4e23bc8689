"""Packed linear layers: weights of 2 to 8 bits in integers, and how their inputs become 8-bit activations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from quant.primitives.quantisers import QuantisedWeight
from quant.primitives.scales import Scale
from sim.network.operators import kernels
from sim.network.operators.arithmetic import blockwise, round_half_up_, saturate_
from sim.network.operators.base import Grid
from sim.network.operators.kernels import Requantiser
from sim.network.operators.planes import Planes, digits
from sim.reference import InputError
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range
from sim.reference.gemm import ACTIVATION_BITS, WEIGHT_BITS, GroupedLinear, group_borders, signed_bits
from sim.reference.token import IN_BITS, RATIO_BITS, TokenLinear

MULTIPLIER_BITS = 16


def quantise_tokens(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """`sim.reference.token.quantise_tokens` on int16 (..., K): codes in int8, magnitudes (..., 1) in int64."""
    if kernels.usable(x):
        return kernels.quantise_tokens(x, bits)
    top = code_range(bits, True)[1]
    magnitude = torch.maximum(x.amax(-1, keepdim=True).long(), -x.amin(-1, keepdim=True).long()).clamp(min=1)
    ratio = ((top << RATIO_BITS) + magnitude // 2) // magnitude

    def rows(x: Tensor, ratio: Tensor) -> Tensor:
        return saturate_(round_half_up_(x.long().mul_(ratio), RATIO_BITS), bits)

    return blockwise(rows, torch.int8, x, ratio), magnitude


@dataclass(frozen=True)
class InputQuantiser:
    """How a linear layer gets its activations from its input codes.

    "direct": they are the codes. "static": round(code * m * 2**-k). "token": by the row's magnitude.
    `unit` is the real value of one unit of activation, for "token" that of activation * magnitude.
    """

    kind: str
    bits: int
    unit: float
    multiplier: int = 1
    shift: int = 0


def input_quantiser(grid: Grid, token: bool, bits: int, static_scale: float | None) -> InputQuantiser:
    """How a layer whose input has `grid` gets activations of `bits`; `static_scale` if they are static."""
    value = float(grid.scale)
    if grid.bits <= 8:
        return InputQuantiser("direct", grid.bits, value)
    if token:
        assert grid.bits == IN_BITS
        return InputQuantiser("token", bits, value / code_range(bits, True)[1])
    assert static_scale is not None
    ratio = Scale.nearest(value / static_scale)
    unit = float(value / ratio.value)  # what a unit of activation stands for, with the integer ratio
    return InputQuantiser("static", bits, unit, int(ratio.multiplier), int(ratio.shift))


class PackedLinear(nn.Module):
    """y = saturate(round((bias + magnitude * sum m_g psum_g) * m_c * 2**-k_c)), signed codes of `out_bits`.

    Buffers: `codes` (N, K), int8 (unsigned 8-bit codes less 128); `zero_point`, `group_multiplier` (N, G) int32;
    `bias` (N,) int64 in units of the accumulator; `multiplier`, `shift` (N,) int64. `specification` is the same layer
    in `sim.reference`.
    """

    codes: Tensor
    zero_point: Tensor
    group_multiplier: Tensor
    bias: Tensor
    multiplier: Tensor
    shift: Tensor

    def __init__(
        self, buffers: dict[str, Tensor], weight_bits: int, weight_signed: bool, group_size: int, token: bool,
        activation_bits: int, out_bits: int,
    ) -> None:  # fmt: skip
        super().__init__()
        for key, value in buffers.items():
            self.register_buffer(key, value, persistent=False)
        self.weight_bits, self.weight_signed, self.group_size = weight_bits, weight_signed, group_size
        self.token, self.activation_bits, self.out_bits = token, activation_bits, out_bits
        self.plain = bool((self.group_multiplier == 1).all()) and not bool(self.zero_point.any())
        self._planes: Planes | None = None
        self._to_codes: Requantiser | None = None
        self.bound = self._bound()

    @property
    def offset(self) -> int:
        """The offset that was subtracted from the codes so that they fit int8."""
        return 128 if not self.weight_signed and self.weight_bits == 8 else 0

    def _terms(self) -> Tensor:
        """(codes - zero point) * group multiplier, (N, K) in int64."""
        repeat = [end - first for first, end in group_borders(self.codes.shape[1], self.group_size)]
        spread = torch.tensor(repeat, device=self.codes.device)
        zero, multiplier = (t.long().repeat_interleave(spread, 1) for t in (self.zero_point, self.group_multiplier))
        return (self.codes.long() + self.offset - zero) * multiplier

    def _bound(self) -> tuple[int, int]:
        """The proved smallest and largest accumulator over all activations and magnitudes."""
        terms = self._terms()
        positive, negative = terms.clamp(min=0).sum(1), terms.clamp(max=0).sum(1)
        low, high = code_range(self.specified_activation_bits, True)
        sums = int((positive * low + negative * high).min()), int((positive * high + negative * low).max())
        self.narrow = signed_bits(sums) <= 32
        most = 1 << (IN_BITS - 1) if self.token else 1
        lows = (positive * low + negative * high) * most + self.bias
        highs = (positive * high + negative * low) * most + self.bias
        bound = int(lows.min()), int(highs.max())
        bits = signed_bits(bound) + MULTIPLIER_BITS
        if bits > INT64_SAFE_BITS:
            raise InputError(f"the accumulator times its multiplier must fit {INT64_SAFE_BITS} bits, but needs {bits}")
        return bound

    @property
    def specified_activation_bits(self) -> int:
        """The width of activations in the specification, which has 4 and 8."""
        return next(bits for bits in ACTIVATION_BITS if bits >= self.activation_bits)

    @property
    def specification(self) -> GroupedLinear | TokenLinear:
        """The layer as numpy computes it. Weights of 5, 6 and 7 bits are held as 8 bits, as the array holds them."""
        weights, bias = self.codes.cpu().numpy().astype(np.int64) + self.offset, self.bias.cpu().numpy()
        layer = GroupedLinear(
            weights=weights,
            bias=np.zeros_like(bias) if self.token else bias,
            multiplier=self.multiplier.cpu().numpy(),
            shift=self.shift.cpu().numpy(),
            weight_bits=next(bits for bits in WEIGHT_BITS if bits >= self.weight_bits),
            weight_signed=self.weight_signed,
            activation_bits=self.specified_activation_bits,
            group=None if self.group_size >= weights.shape[1] else self.group_size,
            zero_points=None if self.weight_signed else self.zero_point.cpu().numpy(),
            group_multipliers=None if self.plain else self.group_multiplier.cpu().numpy(),
            out_bits=self.out_bits,
        )
        return TokenLinear(layer, bias) if self.token else layer

    def _apply(self, fn, recurse: bool = True):  # pyright: ignore[reportIncompatibleMethodOverride]
        self._planes = self._to_codes = None  # they follow the device
        return super()._apply(fn, recurse)

    @property
    def digits(self) -> list[Tensor]:
        """(codes - zero point) * group multiplier as int8 planes, (N, K) each."""
        return [self.codes] if self.plain and not self.offset else digits(self._terms())

    @property
    def planes(self) -> Planes:
        """The digits, laid out on first use."""
        if self._planes is None:
            self._planes = Planes(self.digits)
        return self._planes

    @property
    def to_codes(self) -> Requantiser:
        """From the accumulator to the codes."""
        if self._to_codes is None:
            self._to_codes = Requantiser(self.multiplier, self.shift, self.out_bits, self.bias)
        return self._to_codes

    def accumulate(self, activations: Tensor) -> Tensor:
        """sum m_g psum_g, (..., N): int32 if that is proved to be wide enough, else int64."""
        planes = self.planes.product(activations)
        total = planes[0] if self.narrow else planes[0].long()
        for p, plane in enumerate(planes[1:], 1):
            total = total + (plane.to(total.dtype) << 8 * p)
        return total

    def forward(self, activations: Tensor, magnitude: Tensor | None) -> Tensor:
        if kernels.usable(activations):
            return kernels.linear(activations, magnitude, self.planes, self.to_codes, self.narrow)
        return self.to_codes(self.accumulate(activations), magnitude)

    @classmethod
    def from_real(
        cls, weight: QuantisedWeight, bias: Tensor | None, source: InputQuantiser, output: Grid, name: str
    ) -> "PackedLinear":
        """The layer for quantised weights and a real bias (N,), from the input's unit to the output's grid."""
        outputs = weight.codes.shape[0]
        unit = weight.scale.value * source.unit  # of the accumulator, per channel
        real_bias = torch.zeros(outputs, dtype=torch.float64) if bias is None else bias.detach().double()
        scale = Scale.nearest((unit / output.scale).expand(outputs), f"{name}: input times weight over output scale")
        integers = torch.floor(real_bias / unit + 0.5).long()
        constants = {"bias": integers, "multiplier": scale.multiplier, "shift": scale.shift}
        try:
            return cls.of(weight, constants, source, output.bits)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    @classmethod
    def of(
        cls, weight: QuantisedWeight, constants: dict[str, Tensor], source: InputQuantiser, out_bits: int
    ) -> "PackedLinear":
        """The layer for quantised weights and its integer constants, `bias`, `multiplier` and `shift`."""
        unsigned_bytes = not weight.signed and weight.bits == 8
        buffers = {
            "codes": (weight.codes.int() - 128 if unsigned_bytes else weight.codes).to(torch.int8),
            "zero_point": weight.zero_point.int(),
            "group_multiplier": weight.group_multiplier.int(),
            **constants,
        }
        token = source.kind == "token"
        return cls(buffers, weight.bits, weight.signed, weight.group_size, token, source.bits, out_bits)


def side_by_side(layers: Sequence[PackedLinear]) -> PackedLinear | None:
    """Layers of one input as one layer, or None if they are not alike. Their outputs are next to each other."""
    first = layers[0]
    formats = ("weight_bits", "weight_signed", "group_size", "token", "activation_bits", "out_bits", "plain")
    if any(getattr(layer, key) != getattr(first, key) for layer in layers for key in formats):
        return None
    names = ("codes", "zero_point", "group_multiplier", "bias", "multiplier", "shift")
    buffers = {name: torch.cat([getattr(layer, name) for layer in layers]) for name in names}
    return PackedLinear(
        buffers, first.weight_bits, first.weight_signed, first.group_size, first.token, first.activation_bits,
        first.out_bits,
    )  # fmt: skip
