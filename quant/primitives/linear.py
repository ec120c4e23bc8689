"""Linear layers on integer codes: the quantised layer, and the same layer while its weights are still trained."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.primitives.hadamard import rotate
from quant.primitives.quantisers import ActivationQuantiser, QuantisedWeight, codes_ste, recode
from quant.primitives.scales import Scale
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.hadamard import block_size

_ACTIVATION = ("activation_multiplier", "activation_shift", "activation_zero_point")
EXACT_BITS = 53  # integers that float64 carries without rounding


class QuantisedLinear(nn.Module):
    """y = S_a * S_w * Σ (w - z_w) * m_g * (a - z_a) + bias; the sum is exact, only what follows it is floating point.

    Without `activation` the inputs stay floating point and the weights are those that the codes stand for. Codes and
    scales, also the static scale of the activations, are buffers: `state_dict` holds all that decides the outputs.
    Where `activation` rotates the inputs (`hadamard` is its block), the weights are those of the rotated layer.

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
        If an accumulator could need more than 54 bits, or a block of the rotation does not divide the inputs.
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
        self.hadamard = None if activation is None else activation.hadamard
        self.activation = activation
        for key, tensor in (
            ("codes", weight.codes), ("zero_point", weight.zero_point), ("group_multiplier", weight.group_multiplier),
            ("multiplier", weight.scale.multiplier), ("shift", weight.scale.shift),
        ):  # fmt: skip
            self.register_buffer(key, tensor)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        require_exact(weight, activation, name)
        require_divided(name, activation, self.in_features)

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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device. Codes, scales and bias keep their types whatever the model is changed to."""

        def kept(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            return made if made.dtype == tensor.dtype else tensor.to(made.device)  # rounded nowhere

        return super()._apply(kept, recurse)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride] - the rest is passed on
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any
    ) -> None:
        """Take the integers of a state. Raises `InputError` if they come as floating point, which may have rounded."""
        for key, tensor in self.named_buffers():
            given = state_dict.get(f"{prefix}{key}")
            if isinstance(given, Tensor) and given.dtype != tensor.dtype:
                raise InputError(f"{prefix}{key} must be {tensor.dtype}, not {given.dtype}")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of `values`, whatever autocast says."""
        activation = self.activation
        if activation is None:
            rotated = rotate(values, self.hadamard)
            return _real_linear(rotated, self._operand(values.device, values.dtype), self.bias)
        rotated = activation.rotated(values)
        scale, zero = activation.parameters(rotated)
        codes = codes_ste(rotated, scale, zero, activation.bits, activation.signed)
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

    def release(self) -> None:
        """Drop the weight matrix in floating point; the next forward pass makes it anew."""
        self._ready = None

    def extra_repr(self) -> str:
        inputs = "float" if self.activation is None else f"{self.activation.bits} bits"
        group = "" if self.group_size >= self.in_features else f", groups of {self.group_size}"
        return f"{self.in_features}, {self.out_features}, weights {self.bits} bits{group}, inputs {inputs}"


class FakeQuantLinear(nn.Module):
    """The layer while it is trained: real weights, rounded on every pass with the scales of `like`.

    Where `activation` rotates the inputs, `weight` is that of the rotated layer. `forward` equals that of `convert()`
    exactly, and passes gradients to weights, bias and inputs straight through the
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device. Raises `InputError` for another data type, which would round what is trained."""
        made = fn(torch.zeros(1, dtype=self.weight.dtype)).dtype
        if made != self.weight.dtype:
            raise InputError(f"a layer in training cannot be changed from {self.weight.dtype} to {made}")
        return super()._apply(fn, recurse)

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out), in the type of `values`, whatever autocast says."""
        like = self.like
        step = like.spread(like.group_multiplier.double() * like.scale.value[:, None])
        # the order of a floating-point sum depends on how the matrix lies in memory: as in `convert`
        codes = codes_ste(self.weight.double().contiguous(), step, like.spread(like.zero_point), like.bits, like.signed)
        integers = codes * like.spread(like.group_multiplier)
        if self.activation is None:
            return _real_linear(values, (integers * like.scale.value[:, None]).to(values.dtype), self.bias)
        rotated = self.activation.rotated(values)
        scale, zero = self.activation.parameters(rotated)
        inputs = codes_ste(rotated, scale, zero, self.activation.bits, self.activation.signed)
        # sums below 2**24 are exact in float32 too, which is faster
        magnitude = float(integers.detach().abs().sum(1).max()) * 2.0**self.activation.bits
        kind = torch.float32 if magnitude <= 1 << 24 else torch.float64
        total = _real_linear(inputs.to(kind), integers.to(kind), None).double()
        return _scaled(total, scale, like.scale.multiplier, like.scale.shift, self.bias, values.dtype)

    def convert(self) -> QuantisedLinear:
        """The layer in integers, with the codes that the weights have now."""
        return QuantisedLinear(recode(self.weight, self.like), self.bias, self.activation)


def require_divided(name: str, activation: ActivationQuantiser | None, width: int) -> None:
    """Raise `InputError` unless the blocks in which a layer's inputs are rotated divide them."""
    if activation is not None and activation.hadamard is not None:
        try:
            block_size(width, activation.hadamard)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


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


def _real_linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer on real inputs, in their own type."""
    with torch.autocast(values.device.type, enabled=False):
        return functional.linear(values, weight, None if bias is None else bias.to(values.dtype))


def _scaled(
    total: Tensor, scale: Tensor, multiplier: Tensor, shift: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Exact sums to real outputs: one product of the scales, one with the sum, one sum with the bias, in float64."""
    result = total * (Scale(multiplier, shift).value * scale)
    return (result if bias is None else result + bias.double()).to(dtype)
