"""GPTQ (Frantar et al., 2210.17323): each rounding error is made up for by the weights that are not rounded yet.

A column of weights is rounded at a time. What is left of the output error Σ(Δw·x)² is least if the columns to come
change by -e / U[j, j] * U[j, j+1:], where U is the upper Cholesky factor of the inverse of H = X Xᵀ (Optimal Brain
Surgeon). Scales are those of rounding to nearest; they are fixed before the first column, so that columns may come in
any order.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from quant.methods.blocks import Block, Streams
from quant.primitives.quantisers import QuantisedWeight, quantise
from sim.common.errors import require_range
from sim.reference import InputError


@dataclass(frozen=True)
class Gptq:
    """The method for `quantize_blocks`; a layer sees the inputs that the quantised blocks before give it.

    Parameters
    ----------
    act_order : bool
        Columns of large inputs first.
    damping : float
        Added to the diagonal of H, in units of its mean.
    columns : int
        Columns whose updates are applied to the rest together; it does not change the result.

    Raises
    ------
    InputError
        If damping is not in 1e-9..1 or columns not in 1..65536.
    """

    act_order: bool = True
    damping: float = 0.01
    columns: int = 128
    data = True

    def __post_init__(self) -> None:
        if not 1e-9 <= self.damping <= 1:
            raise InputError(f"damping must be in 1e-9..1, not {self.damping}")
        require_range("columns", self.columns, 1, 65536)

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]:
        assert streams is not None
        hessians = input_products(block, streams)
        return {
            name: self.weight(layer.matrix, hessians[name], layer.nearest()) for name, layer in block.layers.items()
        }

    def weight(self, matrix: Tensor, products: Tensor, like: QuantisedWeight) -> QuantisedWeight:
        """The integer weight of a matrix (out, in), with the scales of `like`; the inputs' products X Xᵀ (in, in)."""
        steps = like.spread(like.group_multiplier.double() * like.scale.value[:, None])
        zeros = like.spread(like.zero_point)
        h = products.double().clone()
        diagonal = h.diagonal()
        diagonal[diagonal == 0] = 1.0  # an input that is always zero: its weights are rounded to nearest
        order = torch.argsort(diagonal, descending=True, stable=True) if self.act_order else torch.arange(len(h))
        diagonal += self.damping * diagonal.mean()
        upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h[order][:, order])), upper=True)
        rest = matrix.detach().double()[:, order].clone()
        codes = torch.empty_like(rest)
        for first in range(0, rest.shape[1], self.columns):
            last = min(first + self.columns, rest.shape[1])
            errors = torch.empty_like(rest[:, first:last])
            for j in range(first, last):
                column = order[j]
                step, zero = steps[:, column], zeros[:, column]
                codes[:, j] = quantise(rest[:, j], step, zero, like.bits, like.signed)
                error = (rest[:, j] - (codes[:, j] - zero) * step) / upper[j, j]
                rest[:, j + 1 : last] -= torch.outer(error, upper[j, j + 1 : last])
                errors[:, j - first] = error
            rest[:, last:] -= errors @ upper[first:last, last:]
        placed = torch.empty_like(codes)
        placed[:, order] = codes
        return replace(like, codes=placed.to(like.codes.dtype))


def input_products(block: Block, streams: Streams) -> dict[str, Tensor]:
    """X Xᵀ (in, in), float64, of the inputs of each layer of a block, rotated if its plan says so, over the tokens that
    count.

    Raises
    ------
    InputError
        If an input is not finite; names the layer.
    """
    totals: dict[str, Tensor] = {}
    mask: Tensor | None = None

    def watch(name: str, _module: nn.Module, arguments: tuple) -> None:
        values = arguments[0].detach()
        if mask is not None and values.shape[: mask.ndim] == mask.shape:
            values = values[mask]
        values = values.reshape(-1, values.shape[-1]).double()
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"{name}: its inputs hold NaN or infinite values")
        activation = block.layers[name].activation
        values = values if activation is None else activation.rotated(values)
        totals[name] = totals.get(name, 0) + values.t() @ values

    with ExitStack() as stack:
        for name, layer in block.layers.items():
            stack.callback(layer.module.register_forward_pre_hook(partial(watch, name)).remove)
        for i, hidden in enumerate(streams.quantised):
            mask = streams.masks[i]
            streams.run(block.module, i, hidden)
    missing = [name for name in block.layers if name not in totals]
    if missing:
        raise InputError(f"{missing[0]}: calibration never reached it")
    return totals
