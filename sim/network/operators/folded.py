"""Linear layers and convolutions as one matrix, with the gain and offset of the module behind them folded in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from quant.primitives.linear import QuantisedLinear
from quant.primitives.quantisers import QuantisedWeight
from quant.primitives.scales import Scale
from sim.network.operators.modules import require_type
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.convolution import Window

LAYERS = (nn.Linear, nn.Conv2d, QuantisedLinear)


class Matrix(nn.Module):
    """`weight` (out, in) and `bias` (out,) of a layer times the gain and plus the offset of the module `after` it.

    The parameters are those of the two modules, so that training reaches them. A convolution's inputs are in the order
    of `sim.reference.convolution.Window.patches`.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, after: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.after = layer, after

    @property
    def weight(self) -> Tensor:
        """The matrix (out, in)."""
        weight = self.layer.weight
        if is_transposed(self.layer):
            weight = weight.t()
        if weight.ndim == 4:
            weight = weight.permute(0, 2, 3, 1).flatten(1)
        return weight if self.after is None else weight * gain_and_offset(self.after)[0][:, None]

    @property
    def bias(self) -> Tensor | None:
        """The bias of each output, None if there is none."""
        bias = self.layer.bias
        if self.after is None:
            return bias
        gain, offset = gain_and_offset(self.after)
        return offset if bias is None else bias * gain + offset


def is_transposed(layer: nn.Module) -> bool:
    """Whether the layer is a `Conv1D` of transformers, a linear layer whose weight is (in, out)."""
    return type(layer).__name__ == "Conv1D"


def gain_and_offset(module: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm in evaluation or a LayerScale does to each channel: times the gain, plus the offset."""
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None and module.running_var is not None
        gain = (module.running_var + module.eps).rsqrt()
        gain = gain if module.weight is None else gain * module.weight
        offset = -module.running_mean * gain
        return gain, offset if module.bias is None else offset + module.bias
    gain = module.get_parameter("lambda1")
    return gain, torch.zeros_like(gain)


@dataclass(frozen=True, eq=False)
class Folded:
    """A layer to be one matrix: `layer`, and the name and module `after` it, a batch norm or a LayerScale, if any."""

    layer: nn.Module
    after: tuple[str, nn.Module] | None = None

    def claims(self, name: str) -> Mapping[str, nn.Module]:
        """The modules of the model, by name. Raises InputError if one cannot be folded."""
        if not is_transposed(self.layer):
            require_type(name, self.layer, *LAYERS)
        if isinstance(self.layer, nn.Conv2d):
            window_of(name, self.layer)
            if self.layer.groups != 1:
                raise InputError(f"{name}: a convolution in {self.layer.groups} groups has no integer operator")
        return {name: self.layer} | ({} if self.after is None else {self.after[0]: self.after[1]})

    def matrix(self) -> nn.Module:
        """The layer as a matrix: a `QuantisedLinear` if it was quantised before, else a `Matrix`."""
        layer: Any = self.layer
        if not isinstance(layer, QuantisedLinear):
            return Matrix(layer, None if self.after is None else self.after[1])
        if self.after is None:
            return layer
        name, module = self.after
        gain, offset = (t.detach() for t in gain_and_offset(module))
        bias = offset if layer.bias is None else layer.bias * gain + offset
        return QuantisedLinear(times(layer.weight, gain, name), bias, layer.activation, layer.name)


def times(weight: QuantisedWeight, gain: Tensor, name: str) -> QuantisedWeight:
    """The weight with a factor for each output in its scale; a negative one turns the codes around.

    Raises InputError if a code has no opposite.
    """
    codes, zero = weight.codes.int(), weight.zero_point
    low, high = code_range(weight.bits, weight.signed)
    opposite = -codes if weight.signed else high - codes
    negative = (gain < 0)[:, None]
    if bool((negative & (opposite > high)).any()):
        raise InputError(f"{name}: is negative where a code is {low}, which has no opposite; quantise afterwards")
    codes = torch.where(negative, opposite, codes)
    zero = zero if weight.signed else torch.where(negative, high - zero, zero)
    nothing = gain == 0
    codes = torch.where(nothing[:, None], weight.spread(zero), codes).to(weight.codes.dtype)
    factor = torch.where(nothing, 1.0, gain.abs().double())
    return replace(weight, codes=codes, zero_point=zero, scale=Scale.nearest(weight.scale.value * factor, name))


def window_of(name: str, layer: nn.Conv2d) -> Window:
    """The window of a convolution. Raises InputError if it is not square, dilated, or padded with other than zeros."""
    sides = {key: set(getattr(layer, key)) for key in ("kernel_size", "stride", "padding", "dilation")}
    if any(len(found) > 1 for found in sides.values()) or sides["dilation"] != {1} or layer.padding_mode != "zeros":
        raise InputError(f"{name}: only square convolutions, not dilated, padded with zeros, have an integer operator")
    kernel, stride, padding = (sides[key].pop() for key in ("kernel_size", "stride", "padding"))
    return Window(kernel, stride, padding)
