"""Integer linear layers: signed 8-bit activations, static or per token, and packed weights of 2 to 8 bits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.primitives.quantisers import QuantisedWeight, recode
from quant.primitives.scales import Scale
from sim.network.operators.arithmetic import blockwise, code_type, half, requantise_, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator
from sim.network.operators.exact_gemm import Weight
from sim.reference import InputError
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range
from sim.reference.gemm import GroupedLinear, group_borders, signed_bits
from sim.reference.token import IN_BITS, RATIO_BITS, TokenLinear

MULTIPLIER_BITS = 16


def quantise_tokens(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """`sim.reference.token.quantise_tokens` on int16 (..., K): codes in int8, magnitudes (..., 1) in int64."""
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
            self.register_buffer(key, value)
        self.weight_bits, self.weight_signed, self.group_size = weight_bits, weight_signed, group_size
        self.token, self.activation_bits, self.out_bits = token, activation_bits, out_bits
        self.plain = bool((self.group_multiplier == 1).all()) and not bool(self.zero_point.any())
        self._weights: list[Weight] = []
        self.bound = self._bound()

    @property
    def offset(self) -> int:
        """What was taken from the codes so that they fit int8."""
        return 128 if not self.weight_signed and self.weight_bits == 8 else 0

    def _bound(self) -> tuple[int, int]:
        """The smallest and the largest accumulator that any activations and magnitudes can give: proved, not seen."""
        repeat = [end - first for first, end in group_borders(self.codes.shape[1], self.group_size)]
        spread = torch.tensor(repeat, device=self.codes.device)
        zero, multiplier = (t.long().repeat_interleave(spread, 1) for t in (self.zero_point, self.group_multiplier))
        terms = (self.codes.long() + self.offset - zero) * multiplier
        positive, negative = terms.clamp(min=0).sum(1), terms.clamp(max=0).sum(1)
        low, high = code_range(8, True)
        most = 1 << (IN_BITS - 1) if self.token else 1
        lows = (positive * low + negative * high) * most + self.bias
        highs = (positive * high + negative * low) * most + self.bias
        bound = int(lows.min()), int(highs.max())
        bits = signed_bits(bound) + MULTIPLIER_BITS
        if bits > INT64_SAFE_BITS:
            raise InputError(f"the accumulator times its multiplier must fit {INT64_SAFE_BITS} bits, but needs {bits}")
        return bound

    @property
    def specification(self) -> GroupedLinear | TokenLinear:
        """The layer as numpy computes it."""
        weights, bias = self.codes.cpu().numpy().astype(np.int64) + self.offset, self.bias.cpu().numpy()
        layer = GroupedLinear(
            weights=weights,
            bias=np.zeros_like(bias) if self.token else bias,
            multiplier=self.multiplier.cpu().numpy(),
            shift=self.shift.cpu().numpy(),
            weight_bits=self.weight_bits,
            weight_signed=self.weight_signed,
            activation_bits=8,
            group=None if self.group_size >= weights.shape[1] else self.group_size,
            zero_points=None if self.weight_signed else self.zero_point.cpu().numpy(),
            group_multipliers=None if self.plain else self.group_multiplier.cpu().numpy(),
            out_bits=self.out_bits,
        )
        return TokenLinear(layer, bias) if self.token else layer

    def _apply(self, fn, recurse: bool = True):  # pyright: ignore[reportIncompatibleMethodOverride]
        self._weights = []  # the laid-out weights follow the device
        return super()._apply(fn, recurse)

    @property
    def weights(self) -> list[Weight]:
        """A right-hand side for each group, laid out on first use."""
        if not self._weights:
            size = self.codes.shape[1] if self.plain else self.group_size
            borders = group_borders(self.codes.shape[1], size)
            self._weights = [Weight(self.codes[:, first:end]) for first, end in borders]
        return self._weights

    def accumulate(self, activations: Tensor) -> Tensor:
        """sum m_g psum_g, int32 (..., N) without groups, else int64."""
        if self.plain and not self.offset:
            return self.weights[0].product(activations)
        total: Tensor | None = None
        first = 0
        for g, weight in enumerate(self.weights):
            part = activations[..., first : first + self.group_size].contiguous()
            first += self.group_size
            psum = weight.product(part).long()
            zero = self.zero_point[:, g].long() - self.offset
            psum = psum - part.long().sum(-1, keepdim=True) * zero
            psum = psum * self.group_multiplier[:, g].long()
            total = psum if total is None else total + psum
        assert total is not None
        return total

    def forward(self, activations: Tensor, magnitude: Tensor | None) -> Tensor:
        psum, dtype = self.accumulate(activations), code_type(self.out_bits)
        rounding = half(self.shift)

        def rows(psum: Tensor, magnitude: Tensor | None = None) -> Tensor:
            total = psum.to(torch.int64, copy=True)
            if magnitude is not None:
                total.mul_(magnitude)
            return requantise_(total.add_(self.bias), self.multiplier, self.shift, rounding, self.out_bits)

        return blockwise(rows, dtype, psum) if magnitude is None else blockwise(rows, dtype, psum, magnitude)

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


class Linear(Operator):
    """One or more linear layers of one input, which is quantised once; returns a tensor, or a tuple where several."""

    kind = "linear"

    def __init__(self, layers: dict[str, nn.Linear]) -> None:
        super().__init__(next(iter(layers)))
        self.names = list(layers)
        self.layers = nn.ModuleList(layers.values())
        self.packed = nn.ModuleList()
        self.weights: list[QuantisedWeight] = []
        self.source: InputQuantiser | None = None

    def real(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return _unpacked([functional.linear(x, layer.weight, layer.bias) for layer in self.layers])  # pyright: ignore

    def activations(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """int8 codes and, where they are per token, the magnitudes."""
        assert self.source is not None
        if self.source.kind == "direct":
            return x, None
        if self.source.kind == "token":
            return quantise_tokens(x, self.source.bits)
        multiplier, shift, bits = self.source.multiplier, self.source.shift, self.source.bits

        def rows(x: Tensor) -> Tensor:
            return saturate_(round_half_up_(x.long().mul_(multiplier), shift), bits)

        return blockwise(rows, torch.int8, x), None

    def integer(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        codes, magnitude = self.activations(x)
        return _unpacked([packed(codes, magnitude) for packed in self.packed])

    def quantise(
        self, source: InputQuantiser, input: Grid, outputs: list[Grid], weights: list[QuantisedWeight]
    ) -> None:
        """Make the packed layers, one for each layer's weights and output grid; the real weights stay for training."""
        self.source, self.inputs, self.outputs, self.weights = source, (input,), tuple(outputs), weights
        self._pack()
        self.settle()

    def recode(self) -> None:
        layers: list[Any] = list(self.layers)
        self.weights = [recode(layer.weight, like) for layer, like in zip(layers, self.weights, strict=True)]
        self._pack()

    def _pack(self) -> None:
        assert self.source is not None
        layers: list[Any] = list(self.layers)
        every = zip(layers, self.weights, self.outputs, self.names, strict=True)
        self.packed = nn.ModuleList(
            PackedLinear.from_real(weight, layer.bias, self.source, output, name)
            for layer, weight, output, name in every
        )


def _unpacked(results: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return tuple(results) if len(results) > 1 else results[0]


def input_quantiser(grid: Grid, token: bool, bits: int, static_scale: float | None) -> InputQuantiser:
    """How a layer whose input has `grid` gets activations of `bits`; `static_scale` where they are static."""
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
