"""Feature maps of several resolutions: `sim.reference.upsample` on tensors, and channels side by side."""

import torch
from torch import Tensor
from torch.nn import functional

from sim.network.operators.arithmetic import code_type, round_half_up_
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.reference.upsample import WEIGHT_BITS, taps


class _Movement(Operator):
    """An operator whose output has the scale of its inputs, which is that which its reader wants."""

    def input_bits(self, index: int, site: Site) -> int:
        return site.output_bits()

    def input_grid(self, index: int, site: Site) -> Grid | None:
        return site.output()


class Upsample(_Movement):
    """Images (B, h, w, C) at the height and width of the second argument, by bilinear interpolation in integers."""

    kind = "upsample"

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*inputs[1][:3], inputs[0][-1]),)

    def input_bits(self, index: int, site: Site) -> int:
        return super().input_bits(index, site) if index == 0 else 8  # of the second argument only the shape counts

    def input_grid(self, index: int, site: Site) -> Grid | None:
        return super().input_grid(index, site) if index == 0 else None

    def real(self, x: Tensor, like: Tensor) -> Tensor:
        size = (like.shape[1], like.shape[2])
        return functional.interpolate(x.permute(0, 3, 1, 2), size, mode="bilinear").permute(0, 2, 3, 1)

    def integer(self, x: Tensor, like: Tensor) -> Tensor:
        rows = _between(x, 1, like.shape[1])
        total = _between(rows, 2, like.shape[2])
        return round_half_up_(total, 2 * WEIGHT_BITS).to(code_type(self.outputs[0].bits))

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input())

    def quantise(self, grid: Grid) -> None:
        """The codes keep their scale."""
        self.finish((grid,), (grid,))


def _between(x: Tensor, axis: int, target: int) -> Tensor:
    """The weighted sum of two neighbours along an axis, int32: 16-bit codes and twice 8 bits of weights fit."""
    first, second, weight = (torch.from_numpy(t).to(x.device) for t in taps(x.shape[axis], target))
    weight = weight.int().unflatten(0, (-1, *[1] * (x.ndim - 1 - axis)))
    low = x.index_select(axis, first).int().mul_((1 << WEIGHT_BITS) - weight)
    return low.add_(x.index_select(axis, second).int().mul_(weight))


class Concat(_Movement):
    """The channels of several inputs side by side, all at one scale."""

    kind = "concat"

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*inputs[0][:-1], sum(int(shape[-1]) for shape in inputs)),)

    def real(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, -1)

    def integer(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, -1)

    def quantise_at(self, site: Site) -> None:
        self.quantise([site.input(k) for k in range(len(site.sources))])

    def quantise(self, inputs: list[Grid]) -> None:
        """Raises AssertionError if the operators before did not keep to `input_grid`."""
        assert all(grid.bits == inputs[0].bits and torch.equal(grid.scale, inputs[0].scale) for grid in inputs)
        self.finish(inputs, (inputs[0],))
