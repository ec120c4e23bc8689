"""E2E-QP of EfficientQAT (2407.11062, section 3.3): integers stay as they are, the step sizes train end to end.

The loss is the language model's own, or, distilled, how far its distribution of the next token is from that of the
floating-point model (Kullback-Leibler). What trains is kept only if it lowers that loss on batches held out.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from quant.methods.block_training import descend
from quant.methods.blocks import find_runs
from quant.methods.efficientqat.processes import added_gradients, own_rows, total
from quant.methods.efficientqat.quantiser import LARGEST, SMALLEST
from quant.methods.layers import replace
from quant.plan import Settings
from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import token_mask
from quant.primitives.quantisers import QuantisedWeight, Replaced, integer_scales
from sim.common.errors import require_range
from sim.reference import InputError

HELD_OUT = 8  # one of so many batches is held out
FLOOR = 0.05  # the cosine's end, as a share of its start
# learning rates by bits: the paper's, and for a million parameters
PRESETS = {"paper": {2: 2e-5, 3: 1e-5, 4: 1e-5}, "small": {2: 5e-4, 3: 1e-4, 4: 1e-4}}


@dataclass(frozen=True)
class E2eQp:
    """How the step sizes train.

    Parameters
    ----------
    rate : float
        Learning rate of AdamW; a cosine to a twentieth.
    epochs : int
        Passes over the data.
    distill : bool
        Learn the floating-point model's distribution of the next token, not the data's own.
    seed : int
        Of the order of the batches.
    checkpointing : bool
        Keep only the inputs of the blocks for the gradients, and compute the rest of a block again when it is needed:
        less memory, more time, the same bytes.

    Raises
    ------
    InputError
        If the rate is not in 0..1 or epochs not in 1..1000.
    """

    rate: float = PRESETS["paper"][2]
    epochs: int = 1
    distill: bool = False
    seed: int = 0
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise InputError(f"rate must be in 0..1, not {self.rate}")
        require_range("epochs", self.epochs, 1, 1000)
        require_range("seed", self.seed, 0, (1 << 31) - 1)

    def train(
        self, model: nn.Module, teacher: nn.Module, data: Sequence[Mapping[str, Any]], settings: Mapping[str, Settings]
    ) -> tuple[dict[str, QuantisedWeight], dict[str, float]]:
        """Weights with new step sizes, by the names of the layers, and the held-out loss before and after.

        Parameters
        ----------
        model : nn.Module
            A quantised language model; it is as before afterwards.
        teacher : nn.Module
            The model in floating point.
        data : sequence of mappings
            Batches with `input_ids`.
        settings : mapping
            Of each quantised layer.

        Raises
        ------
        InputError
            If there are fewer than two batches, a batch has no `input_ids`, or the loss is not finite.
        """
        if len(data) < 2:
            raise InputError("data must hold two batches or more: one is held out")
        if any("input_ids" not in batch for batch in data):
            raise InputError("step sizes train end to end on input_ids, which the data lack")
        used = len(data) - max(1, len(data) // HELD_OUT)
        before = self._held_out(model, teacher, data[used:])
        if not math.isfinite(before):
            raise InputError(f"step sizes: the held-out loss is {before}")
        frozen = [p for p in model.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        layers = {name: m for name, m in model.named_modules() if isinstance(m, QuantisedLinear)}
        steps = {name: StepLinear(layer, settings[name]) for name, layer in layers.items()}
        replace(model, {id(layer): steps[name] for name, layer in layers.items()})
        scales = [step.scale for step in steps.values()]
        blocks = [block for run in find_runs(model, steps) for block in run]
        outer = [b.module for b in blocks if not any(b.name.startswith(f"{other.name}.") for other in blocks)]
        try:
            with added_gradients(scales), recomputed(outer if self.checkpointing else []):
                self._train(model, teacher, data[:used], scales)
            after = self._held_out(model, teacher, data[used:])
            kept = {name: step.integers() for name, step in steps.items()}
        finally:
            replace(model, {id(steps[name]): layer for name, layer in layers.items()})
            for parameter in frozen:
                parameter.requires_grad_(True)
        if not after < before:
            kept = {name: layer.weight for name, layer in layers.items()}
        return kept, {"before": before, "after": after}

    def _train(
        self, model: nn.Module, teacher: nn.Module, data: Sequence[Mapping[str, Any]], scales: list[nn.Parameter]
    ) -> None:
        optimiser = torch.optim.AdamW(scales, lr=self.rate, weight_decay=0.0)
        generator = torch.Generator().manual_seed(self.seed)
        order = [i for _ in range(self.epochs) for i in torch.randperm(len(data), generator=generator).tolist()]
        bar = tqdm(order, desc="step sizes", unit="step", file=sys.stderr, disable=None, leave=False)
        for step, i in enumerate(bar):
            share = FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * step / len(order))) / 2
            optimiser.param_groups[0]["lr"] = self.rate * share
            with torch.enable_grad():
                loss = self.loss(model, teacher, data[i])
            value = descend(optimiser, loss, "step sizes", step)
            bar.set_postfix_str(f"loss {value:.4g}", refresh=False)

    def loss(self, model: nn.Module, teacher: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Mean loss a predicted token, in nats; padding, as `attention_mask` has it, does not count.

        Of several processes each gives its part of the mean.
        """
        batch = own_rows(batch)
        ids: Tensor = batch["input_ids"]
        with torch.autocast("cuda", torch.bfloat16, enabled=ids.is_cuda):
            logits = model(**batch).logits[:, :-1].float()
        if self.distill:
            with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=ids.is_cuda):
                wanted = torch.log_softmax(teacher(**batch).logits[:, :-1].float(), -1)
            each = functional.kl_div(torch.log_softmax(logits, -1), wanted, reduction="none", log_target=True).sum(-1)
        else:
            each = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        mask = token_mask(batch)
        each = each if mask is None else each[mask.expand_as(ids)[:, 1:]]
        return each.sum() / total(torch.tensor(float(each.numel()), device=ids.device)).clamp(min=1)

    @torch.no_grad()
    def _held_out(self, model: nn.Module, teacher: nn.Module, data: Sequence[Mapping[str, Any]]) -> float:
        return sum(float(total(self.loss(model, teacher, batch))) for batch in data) / len(data)


@contextmanager
def recomputed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Blocks that keep only their inputs for the backward pass."""
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


class StepLinear(nn.Module):
    """A linear layer on frozen integers whose steps (out, groups) train; each pass rounds them to the hardware's."""

    def __init__(self, layer: QuantisedLinear, settings: Settings) -> None:
        super().__init__()
        if layer.activation is not None:
            raise InputError(f"{layer.name}: inputs must be floating point (activation_bits null)")
        self.frozen, self.settings, self.bias = layer.weight, settings, layer.bias
        weight = layer.weight
        self.scale = nn.Parameter((weight.group_multiplier.double() * weight.scale.value[:, None]).float())
        start = self.scale.detach().double()  # steps that the first phase did not make may lie beyond its limits
        self.limits = start.clamp(max=SMALLEST), start.clamp(min=LARGEST)

    def integers(self) -> QuantisedWeight:
        """The same codes with the steps as they are packed."""
        scale, multiplier = integer_scales(self.scale.detach().double().clamp(*self.limits), self.settings)
        return changed(self.frozen, scale=scale, group_multiplier=multiplier.int())

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        like = self.integers()
        codes = like.codes.to(self.scale.dtype) - like.spread(like.zero_point)
        weight = Replaced.apply(codes * like.spread(self.scale), like.dequantise(values.dtype))
        return functional.linear(values, weight, self.bias)
