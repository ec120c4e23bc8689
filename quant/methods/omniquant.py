"""Learned weight clipping of OmniQuant (2308.13137, equation 2): only the ends of each group's range train.

The ends are sigmoid(high) times the group's largest and sigmoid(low) times its smallest weight. They train block by
block on the squared error of the block's output, as in Block-AP, while weights and norms stay as they are.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from quant.methods.blocks import Layer
from quant.methods.efficientqat.block_ap import BlockAp
from quant.methods.efficientqat.quantiser import LARGEST, SMALLEST, TrainedLinear, TrainedWeight, group_range
from quant.plan import Settings
from sim.reference import InputError

START = 4.0  # sigmoid(4) = 0.98, as in the paper's code
RATE = 5e-3  # the paper's


class ClippedWeight(TrainedWeight):
    """A weight matrix whose groups have trained clipping, `high` and `low` (out, groups), and nothing else trained."""

    def __init__(self, matrix: Tensor, settings: Settings) -> None:
        super().__init__(matrix, settings)
        low, high = group_range(matrix.detach().double(), self.size)
        self.register_buffer("smallest", low.float())
        self.register_buffer("largest", high.float())
        self.high, self.low = (nn.Parameter(torch.full_like(self.scale, START)) for _ in range(2))
        del self.scale, self.zero

    def steps(self) -> tuple[Tensor, Tensor]:
        """Steps and zero points that cover the clipped range."""
        low = self.get_buffer("smallest") * torch.sigmoid(self.low)
        high = self.get_buffer("largest") * torch.sigmoid(self.high)
        scale = ((high - low) / ((1 << self.settings.weight_bits) - 1)).clamp(SMALLEST, LARGEST)
        return scale, -low / scale


class ClippedLinear(TrainedLinear):
    """A linear layer on a `ClippedWeight`; its inputs are floating point."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.trained = ClippedWeight(layer.matrix, layer.settings)


@dataclass(frozen=True)
class LearnedClipping(BlockAp):
    """The method for `quantize_blocks`; its parameters are those of `BlockAp` without `searched`."""

    rates: tuple[float, float] = (RATE, 0.0)
    layer: ClassVar = ClippedLinear

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.searched:
            raise InputError("searched steps have no clipping to learn")
