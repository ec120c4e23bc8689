"""Layer-by-layer knowledge distillation (LKD) of ZeroQuant, 2206.01861, section 4.3.

Block by block, the quantised block learns to give what its floating-point original gives for the same input: the
hidden state of the floating-point model, not that of the quantised blocks before. Only the block at hand trains; no
labels and no second copy of the model are needed.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from quant.methods.block_training import block_error, descend, parameters_of, restore, squared_error, trained_layers
from quant.methods.blocks import Block, Layer, Streams
from quant.primitives.linear import FakeQuantLinear
from quant.primitives.quantisers import QuantisedWeight, quantise_weight
from sim.common.errors import require_range
from sim.reference import InputError

HELD_OUT = 8  # where rates are compared, one of so many batches is held out for that
PRESETS = {"paper": 5e-6, "small": 1e-4}  # learning rates: the paper's, and one for models of a few million parameters


@dataclass(frozen=True)
class Distillation:
    """The method for `quantize_blocks`; a step is a batch of the data.

    Parameters
    ----------
    steps : int
        Steps of each block.
    rates : tuple of float
        Learning rates of AdamW. Of several, each block takes the one whose error on the last eighth of the batches,
        which is not trained on, is smallest.
    seed : int
        Of the order of the batches.

    Raises
    ------
    InputError
        If steps are not in 1..1000000, or a rate is not in 0..1.
    """

    steps: int = 100
    rates: tuple[float, ...] = (PRESETS["paper"],)
    seed: int = 0
    data = True

    def __post_init__(self) -> None:
        require_range("steps", self.steps, 1, 1_000_000)
        require_range("seed", self.seed, 0, (1 << 31) - 1)
        if not self.rates or not all(0 < rate < 1 for rate in self.rates):
            raise InputError(f"rates must be in 0..1, not {list(self.rates)}")

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]:
        assert streams is not None
        count = len(streams.inputs)
        held = [] if len(self.rates) == 1 else list(range(count - max(1, count // HELD_OUT), count))
        used = [i for i in range(count) if i not in held]
        if not used:
            raise InputError("data must hold two batches or more where learning rates are compared")
        with trained_layers(block, TrainedLinear) as layers:
            start = parameters_of(block)
            least, best = torch.inf, None
            failed = InputError(f"{block.name}: the error on data held out is not finite")
            for rate in self.rates:
                restore(block, start)
                try:
                    self._train(block, streams, used, rate)
                    error = block_error(block, streams, streams.inputs, held)
                except InputError as failure:  # it diverges, and loses against the others
                    failed = failure
                    continue
                if error < least:
                    least, best = error, parameters_of(block)
            if best is None:
                raise failed
            restore(block, best)
            return {name: layer.integers() for name, layer in layers.items()}

    def _train(self, block: Block, streams: Streams, used: list[int], rate: float) -> None:
        """Train the block's parameters on squared error."""
        generator = torch.Generator().manual_seed(self.seed)
        order: list[int] = []
        while len(order) < self.steps:
            order += [used[i] for i in torch.randperm(len(used), generator=generator).tolist()]
        optimiser = torch.optim.AdamW(block.module.parameters(), lr=rate, weight_decay=0.0)
        bar = tqdm(order[: self.steps], desc=block.name, unit="step", file=sys.stderr, disable=None, leave=False)
        with torch.enable_grad():
            for step, i in enumerate(bar):
                loss = squared_error(streams, i, streams.run(block.module, i, streams.inputs[i]))
                value = descend(optimiser, loss, block.name, step)
                bar.set_postfix_str(f"loss {value:.3g}", refresh=False)


class TrainedLinear(FakeQuantLinear):
    """A layer that trains with the scales of its weights as they are: found and rounded to m * 2**-k on every pass."""

    def __init__(self, layer: Layer) -> None:
        bias = dict(layer.module.named_parameters()).get("bias")
        super().__init__(layer.matrix, bias, layer.nearest(), layer.activation)
        self.settings = layer.settings

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        self.like = quantise_weight(self.weight.detach(), self.settings)
        return super().forward(values)

    def integers(self) -> QuantisedWeight:
        """The codes and scales of the weights as they are."""
        return quantise_weight(self.weight.detach(), self.settings)
