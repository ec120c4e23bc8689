"""Linear layers on integer codes: the quantised layer, and the same layer while its weights are still trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.primitives.quantisers import ActivationQuantiser, QuantisedWeight, codes_ste, recode
from quant.primitives.scales import Scale
from sim.reference import InputError
from sim.reference.arithmetic import code_range

EXACT_BITS = 53  # integers that float64 carries without rounding


class QuantisedLinear(nn.Module):
    """y = S_a * S_w * Σ (w - z_w) * m_g * (a - z_a) + bias; the sum is exact, only what follows it is floating point.

    Without `activation` the inputs stay floating point and the weights are those that the codes stand for.
    Raises `InputError`, named by `name`, where an accumulator could pass 53 bits.
    """

    def __init__(
        self, weight: QuantisedWeight, bias: Tensor | None, activation: ActivationQuantiser | None, name: str = "linear"
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.bits, self.signed, self.group_size = weight.bits, weight.signed, weight.group_size
        self.activation = activation
        for key, tensor in (
            ("codes", weight.codes), ("zero_point", weight.zero_point), ("group_multiplier", weight.group_multiplier),
            ("multiplier", weight.scale.multiplier), ("shift", weight.scale.shift),
        ):  # fmt: skip
            self.register_buffer(key, tensor)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.bound = require_exact(weight, activation, name)
        self._ready: tuple[torch.device, torch.dtype, Tensor] | None = None

    @property
    def weight(self) -> QuantisedWeight:
        """The weights as integers."""
        scale = Scale(self.get_buffer("multiplier"), self.get_buffer("shift"))
        return QuantisedWeight(
            self.get_buffer("codes"), self.get_buffer("zero_point"), self.get_buffer("group_multiplier"), scale,
            self.bits, self.signed, self.group_size,
        )  # fmt: skip

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of `values`."""
        if self.activation is None:
            weight = self._operand(values.device, values.dtype)
            return functional.linear(values, weight, None if self.bias is None else self.bias.to(values.dtype))
        scale, zero = self.activation.parameters(values)
        codes = codes_ste(values.double(), scale, zero, self.activation.bits, self.activation.signed)
        total = functional.linear(codes, self._operand(values.device, torch.float64))
        return _scaled(total, scale, self.get_buffer("multiplier"), self.get_buffer("shift"), self.bias, values.dtype)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Σ (w - z_w) * m_g * (a - z_a) in int64, on the CPU, for activation codes less their zero point (..., in)."""
        return codes.cpu().long() @ self.weight.integers().cpu().long().t()

    def _operand(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The weight matrix in floating point, kept: integers, or real where the inputs are not quantised."""
        if self._ready is None or self._ready[:2] != (device, dtype):
            weight = self.weight
            matrix = weight.dequantise(dtype) if self.activation is None else weight.integers().to(dtype)
            self._ready = device, dtype, matrix
        return self._ready[2]

    def extra_repr(self) -> str:
        inputs = "float" if self.activation is None else f"{self.activation.bits} bits"
        group = "" if self.group_size >= self.in_features else f", groups of {self.group_size}"
        return f"{self.in_features}, {self.out_features}, weights {self.bits} bits{group}, inputs {inputs}"


class FakeQuantLinear(nn.Module):
    """The layer while it is trained: real weights, rounded on every pass with the scales of `like`.

    `forward` equals that of `convert()` exactly, and passes gradients to weights, bias and inputs straight through the
    rounding, none where a code saturates.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, like: QuantisedWeight, activation: ActivationQuantiser | None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.like, self.activation = like, activation
        require_exact(like, activation, "linear")

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of `values`."""
        like = self.like
        step = like.spread(like.group_multiplier.double() * like.scale.value[:, None])
        codes = codes_ste(self.weight.double(), step, like.spread(like.zero_point), like.bits, like.signed)
        integers = codes * like.spread(like.group_multiplier)
        if self.activation is None:
            weight = (integers * like.scale.value[:, None]).to(values.dtype)
            return functional.linear(values, weight, None if self.bias is None else self.bias.to(values.dtype))
        scale, zero = self.activation.parameters(values)
        inputs = codes_ste(values.double(), scale, zero, self.activation.bits, self.activation.signed)
        total = functional.linear(inputs, integers)
        return _scaled(total, scale, like.scale.multiplier, like.scale.shift, self.bias, values.dtype)

    def convert(self) -> QuantisedLinear:
        """The layer in integers, with the codes that the weights have now."""
        return QuantisedLinear(recode(self.weight, self.like), self.bias, self.activation)


def require_exact(weight: QuantisedWeight, activation: ActivationQuantiser | None, name: str) -> int | None:
    """The largest magnitude that an accumulator of the layer can reach with any inputs; None where they are real.

    For every output Σ|w - z_w| * m_g, times the largest |a - z_a|. Raises `InputError` where that passes 53 bits.
    """
    if activation is None:
        return None
    low, high = code_range(activation.bits, activation.signed)
    # a token's zero point is anything in the code range
    zeros = (activation.zero_point,) if activation.scale is not None or activation.signed else (low, high)
    largest = max(max(zero - low, high - zero) for zero in zeros)
    bound = int(weight.integers().long().abs().sum(1).max()) * largest
    if bound.bit_length() > EXACT_BITS:
        raise InputError(f"{name}: its accumulators could take {bound.bit_length() + 1} bits; at most 54 are exact")
    return bound


def _scaled(
    total: Tensor, scale: Tensor, multiplier: Tensor, shift: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Exact sums to real outputs: one product of the scales, one with the sum, one sum with the bias, in float64."""
    result = total * (Scale(multiplier, shift).value * scale)
    return (result if bias is None else result + bias.double()).to(dtype)
