"""Linear layers on integer codes: the quantised layer, and the same layer while its weights are still trained."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.primitives.quantisers import ActivationQuantiser, QuantisedWeight, codes_ste, recode
from quant.primitives.scales import Scale
from sim.reference import InputError
from sim.reference.arithmetic import code_range

_ACTIVATION = ("activation_multiplier", "activation_shift", "activation_zero_point")
EXACT_BITS = 53  # integers that float64 carries without rounding


class QuantisedLinear(nn.Module):
    """y = S_a * S_w * Σ (w - z_w) * m_g * (a - z_a) + bias; the sum is exact, only what follows it is floating point.

    Without `activation` the inputs stay floating point and the weights are those that the codes stand for. Codes and
    scales, also the static scale of the activations, are buffers: `state_dict` holds all that decides the outputs.

    Parameters
    ----------
    weight : QuantisedWeight
        The weight matrix (out, in) in integers.
    bias : Tensor or None
        Real bias (out,), added after the sum.
    activation : ActivationQuantiser or None
        How the inputs become codes; None leaves them floating point.
    name : str
        The name that errors give.

    Raises
    ------
    InputError
        If an accumulator could need more than 54 bits.
    """

    activation_multiplier: Tensor | None
    activation_shift: Tensor | None
    activation_zero_point: Tensor | None

    def __init__(
        self, weight: QuantisedWeight, bias: Tensor | None, activation: ActivationQuantiser | None, name: str = "linear"
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.codes.shape
        self.bits, self.signed, self.group_size = weight.bits, weight.signed, weight.group_size
        self.name = name
        self.activation = activation
        for key, tensor in (
            ("codes", weight.codes), ("zero_point", weight.zero_point), ("group_multiplier", weight.group_multiplier),
            ("multiplier", weight.scale.multiplier), ("shift", weight.scale.shift),
        ):  # fmt: skip
            self.register_buffer(key, tensor)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        require_exact(weight, activation, name)

    @property
    def activation(self) -> ActivationQuantiser | None:
        """How the inputs become codes, with the static scale that the buffers hold now; None: they stay real."""
        kind = self._activation
        if kind is None or self.activation_multiplier is None:
            return kind
        multiplier, shift, zero = (self.get_buffer(key) for key in _ACTIVATION)
        return replace(kind, scale=Scale(multiplier, shift), zero_point=int(zero))

    @activation.setter
    def activation(self, quantiser: ActivationQuantiser | None) -> None:
        self._activation = quantiser
        self._ready: tuple[torch.device, torch.dtype, tuple[Tensor, ...], Tensor] | None = None
        scale = None if quantiser is None else quantiser.scale
        held = (None,) * 3
        if quantiser is not None and scale is not None:
            held = (scale.multiplier.clone(), scale.shift.clone(), torch.tensor(quantiser.zero_point))
        for key, tensor in zip(_ACTIVATION, held, strict=True):
            self.register_buffer(key, tensor)

    @property
    def bound(self) -> int | None:
        """The largest magnitude that an accumulator can reach; None if the inputs are real. See `require_exact`."""
        return require_exact(self.weight, self.activation, self.name)

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
        activation = self.activation
        if activation is None:
            weight = self._operand(values.device, values.dtype)
            return functional.linear(values, weight, None if self.bias is None else self.bias.to(values.dtype))
        scale, zero = activation.parameters(values)
        codes = codes_ste(values.double(), scale, zero, activation.bits, activation.signed)
        total = functional.linear(codes, self._operand(values.device, torch.float64))
        return _scaled(total, scale, self.get_buffer("multiplier"), self.get_buffer("shift"), self.bias, values.dtype)

    def accumulate(self, codes: Tensor) -> Tensor:
        """Σ (w - z_w) * m_g * (a - z_a) in int64, on the CPU, for activation codes less their zero point (..., in)."""
        return codes.cpu().long() @ self.weight.integers().cpu().long().t()

    def _operand(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The weight matrix in floating point: integers, or real if the inputs are not quantised.

        It is kept with a copy of the integers that it was made from, and made anew when they are others: writes
        through `.data` leave no other trace.
        """
        weight = self.weight
        source = weight.tensors()
        ready = self._ready
        if ready is None or ready[:2] != (device, dtype) or not all(map(torch.equal, ready[2], source)):
            matrix = weight.dequantise(dtype) if self.activation is None else weight.integers().to(dtype)
            ready = device, dtype, tuple(tensor.clone() for tensor in source), matrix
            self._ready = ready
        return ready[3]

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
        self.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.like, self.activation = like, activation
        require_exact(like, activation, "linear")

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of `values`."""
        like = self.like
        step = like.spread(like.group_multiplier.double() * like.scale.value[:, None])
        # the order of a floating-point sum depends on how the matrix lies in memory: as in `convert`
        codes = codes_ste(self.weight.double().contiguous(), step, like.spread(like.zero_point), like.bits, like.signed)
        integers = codes * like.spread(like.group_multiplier)
        if self.activation is None:
            weight = (integers * like.scale.value[:, None]).to(values.dtype)
            return functional.linear(values, weight, None if self.bias is None else self.bias.to(values.dtype))
        scale, zero = self.activation.parameters(values)
        inputs = codes_ste(values.double(), scale, zero, self.activation.bits, self.activation.signed)
        # sums below 2**24 are exact in float32 too, which is faster
        magnitude = float(integers.detach().abs().sum(1).max()) * 2.0**self.activation.bits
        kind = torch.float32 if magnitude <= 1 << 24 else torch.float64
        total = functional.linear(inputs.to(kind), integers.to(kind)).double()
        return _scaled(total, scale, like.scale.multiplier, like.scale.shift, self.bias, values.dtype)

    def convert(self) -> QuantisedLinear:
        """The layer in integers, with the codes that the weights have now."""
        return QuantisedLinear(recode(self.weight, self.like), self.bias, self.activation)


def require_exact(weight: QuantisedWeight, activation: ActivationQuantiser | None, name: str) -> int | None:
    """The largest magnitude that an accumulator of the layer can reach with any inputs; None if they are real.

    For every output Σ|w - z_w| * m_g, times the largest |a - z_a|. Raises `InputError` if that passes 53 bits.
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
