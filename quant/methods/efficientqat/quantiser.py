"""The uniform asymmetric quantiser of EfficientQAT (2407.11062, equations 1 to 3) with trained steps and zero points.

q = clamp(round(w / s) + z, 0, 2**b - 1), w' = (q - z) * s. The gradients are those of the paper: of w' with the
rounding offset round(w / s) - w / s held fixed. Inside the range ∂w'/∂w = 1, ∂w'/∂s is that offset and ∂w'/∂z = 0.
Outside it ∂w'/∂w = 0, ∂w'/∂s = q - z and ∂w'/∂z = -s.

The trained s is a real number. Every pass rounds it to the integers of the hardware, a group's multiplier times the
channel's m * 2**-k, and z to an integer of its range: what trains is what is packed.
"""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.methods.blocks import Layer
from quant.plan import Settings
from quant.primitives.quantisers import QuantisedWeight, Replaced, group_inputs, quantise, round_half_up, with_scales
from sim.reference import InputError

SMALLEST, LARGEST = 1e-4, 1e4  # a step
SHARES = tuple(1 - i / 20 for i in range(11))  # of each end of a group's range that the search tries: 1..0.5


class TrainedWeight(nn.Module):
    """A weight matrix (out, in) with trained steps and zero points (out, groups), all float32.

    Raises
    ------
    InputError
        If the settings are symmetric.
    """

    def __init__(self, matrix: Tensor, settings: Settings, searched: bool = False) -> None:
        super().__init__()
        if settings.weight_symmetric:
            raise InputError("weights must be asymmetric (weight_symmetric false)")
        self.settings, self.size = settings, group_inputs(matrix, settings)
        scale, zero = start(matrix.detach(), settings, self.size, searched)
        self.weight = nn.Parameter(matrix.detach().float().clone(memory_format=torch.contiguous_format))
        self.scale, self.zero = nn.Parameter(scale.float()), nn.Parameter(zero.float())

    def steps(self) -> tuple[Tensor, Tensor]:
        """Steps and zero points (out, groups) as they train, not yet rounded."""
        return self.scale, self.zero

    def integers(self) -> QuantisedWeight:
        """The codes, steps and zero points as they are packed."""
        scale, zero = (part.detach() for part in self.steps())
        scale = scale.double().clamp(SMALLEST, LARGEST)
        zero = round_half_up(zero).clamp(0, (1 << self.settings.weight_bits) - 1)
        return with_scales(self.weight.detach(), scale, zero, self.settings)

    def forward(self) -> Tensor:
        """The real weights that the codes stand for, (out, in) float32, exactly, with the paper's gradients."""
        like = self.integers()
        step = like.group_multiplier.double() * like.scale.value[:, None]
        # the rounded values, with the gradients of the real ones
        scale, zero = self.steps()
        scale = scale + (step.float() - scale).detach()
        zero = zero + (like.zero_point.float() - zero).detach()
        smooth = surrogate(self.weight, like.spread(scale), like.spread(zero), like.bits)
        return Replaced.apply(smooth, like.dequantise(torch.float32))


def surrogate(weight: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """w' with the rounding offset held fixed, all of shape (out, in): what the gradients are taken of."""
    ratio = weight / scale
    offset = (round_half_up(ratio) - ratio).detach()
    return (torch.clamp(ratio + offset + zero, 0, (1 << bits) - 1) - zero) * scale


class TrainedLinear(nn.Module):
    """A linear layer on a `TrainedWeight`; its inputs are floating point."""

    def __init__(self, layer: Layer, searched: bool = False) -> None:
        super().__init__()
        if layer.activation is not None:
            raise InputError(f"{layer.name}: inputs must be floating point (activation_bits null)")
        try:
            self.trained = TrainedWeight(layer.matrix, layer.settings, searched)
        except InputError as error:
            raise InputError(f"{layer.name}: {error}") from None
        bias = dict(layer.module.named_parameters()).get("bias")
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return functional.linear(values, self.trained(), self.bias)


def start(matrix: Tensor, settings: Settings, size: int, searched: bool) -> tuple[Tensor, Tensor]:
    """Steps and zero points (out, groups), float64, to begin with: those that cover each group.

    With `searched`, those of least squared error of 121 pairs of shares of the range's two ends.
    """
    top = (1 << settings.weight_bits) - 1
    low, high = group_range(matrix.double(), size)
    best = _cover(low, high, top)
    if searched:
        groups = _groups(matrix.double(), size)
        least = torch.full_like(low, torch.inf)
        for a, b in product(SHARES, SHARES):
            scale, zero = _cover(low * a, high * b, top)
            step, offset = scale[..., None], zero[..., None]
            codes = quantise(groups, step, offset, settings.weight_bits, False)
            error = ((codes - offset) * step - groups).square().sum(-1)
            better = error < least
            least = torch.where(better, error, least)
            best = torch.where(better, scale, best[0]), torch.where(better, zero, best[1])
    return best


def group_range(matrix: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The ends of the range of each group of a matrix (out, in), both (out, groups), with 0 in it."""
    groups = _groups(matrix, size)
    return groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)


def _groups(matrix: Tensor, size: int) -> Tensor:
    """(out, groups, size); zeros fill the last group."""
    return functional.pad(matrix, (0, -matrix.shape[1] % size)).reshape(len(matrix), -1, size)


def _cover(low: Tensor, high: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The step and zero point with which 0..top covers low..high."""
    scale = ((high - low) / top).clamp(SMALLEST, LARGEST)
    return scale, round_half_up(-low / scale).clamp(0, top)
