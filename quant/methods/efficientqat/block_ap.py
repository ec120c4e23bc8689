"""Block-AP of EfficientQAT (2407.11062, section 3.2): all parameters of a block train, block by block.

The block's input is what the quantised blocks before give it, its target what the floating-point model has there.
Weights, steps, zero points, biases and norms train on the squared error.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from tqdm import tqdm

from quant.methods.block_training import block_error, descend, parameters_of, restore, squared_error, trained_layers
from quant.methods.blocks import Block, Streams
from quant.methods.efficientqat.quantiser import TrainedLinear
from quant.primitives.quantisers import QuantisedWeight
from sim.common.errors import require_range
from sim.reference import InputError

HELD_OUT = 8  # one of so many batches is held out, to stop early
FLOOR = 0.05  # the cosine's end, as a share of its start
# learning rates of steps and zero points, and of weights and norms, by bits: the paper's, and for a million parameters
PRESETS = {
    "paper": {2: (1e-4, 2e-5), 3: (1e-4, 1e-5), 4: (1e-4, 1e-5)},
    "small": {2: (1e-3, 1e-3), 3: (1e-3, 1e-3), 4: (1e-4, 1e-4)},
}


@dataclass(frozen=True)
class BlockAp:
    """The method for `quantize_blocks`; a step is a batch of the data.

    Parameters
    ----------
    rates : pair of float
        Learning rates of steps and zero points, and of weights, biases and norms; 0 leaves those as they are.
    epochs : int
        Passes over the data. The state with the least error on the last eighth of the batches, which are not trained
        on, is kept; that may be the start.
    searched : bool
        Begin with the steps and zero points of least squared error, not with those that cover the range.
    seed : int
        Of the order of the batches.

    Raises
    ------
    InputError
        If a rate is not in 0..1 or epochs not in 0..1000.
    """

    rates: tuple[float, float] = PRESETS["paper"][2]
    epochs: int = 2
    searched: bool = False
    seed: int = 0
    data = True
    layer: ClassVar[Callable[..., TrainedLinear]] = TrainedLinear

    def __post_init__(self) -> None:
        if len(self.rates) != 2 or not all(0 <= rate < 1 for rate in self.rates):
            raise InputError(f"rates must be two numbers in 0..1, not {list(self.rates)}")
        require_range("epochs", self.epochs, 0, 1000)
        require_range("seed", self.seed, 0, (1 << 31) - 1)

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]:
        assert streams is not None
        count = len(streams.inputs)
        if count < 2:
            raise InputError("data must hold two batches or more: one is held out")
        used = count - max(1, count // HELD_OUT)
        make = partial(self.layer, searched=True) if self.searched else self.layer
        with trained_layers(block, make) as layers:
            self._train(block, streams, used, list(range(used, count)))
            return {name: layer.trained.integers() for name, layer in layers.items()}

    def _train(self, block: Block, streams: Streams, used: int, held: list[int]) -> None:
        """Train on the first `used` batches and leave the block in its best state."""
        parts = [m.trained for m in block.module.modules() if isinstance(m, TrainedLinear)]
        quantisers = [p for part in parts for p in part.parameters() if p is not part.weight]
        known = set(map(id, quantisers))
        others = [p for p in block.module.parameters() if id(p) not in known]
        groups = [{"params": part, "lr": rate} for part, rate in zip((quantisers, others), self.rates, strict=True)]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
        generator = torch.Generator().manual_seed(self.seed)
        order = [i for _ in range(self.epochs) for i in torch.randperm(used, generator=generator).tolist()]
        best, kept = block_error(block, streams, streams.quantised, held), parameters_of(block)
        bar = tqdm(order, desc=block.name, unit="step", file=sys.stderr, disable=None, leave=False)
        for step, i in enumerate(bar, 1):
            share = FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * (step - 1) / len(order))) / 2
            for group, rate in zip(optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * share
            with torch.enable_grad():
                loss = squared_error(streams, i, streams.run(block.module, i, streams.quantised[i]))
            value = descend(optimiser, loss, block.name, step)
            bar.set_postfix_str(f"loss {value:.3g}, held out {best:.3g}", refresh=False)
            if step % used == 0:
                error = block_error(block, streams, streams.quantised, held)
                if error < best:
                    best, kept = error, parameters_of(block)
        restore(block, kept)
