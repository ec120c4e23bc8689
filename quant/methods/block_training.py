"""What methods that train a block share: layers in the places of others for a while, errors, parameters kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from quant.methods.blocks import Block, Layer, Streams
from quant.methods.layers import replace
from sim.common.errors import InputError

Made = TypeVar("Made", bound=nn.Module)


@contextmanager
def trained_layers(block: Block, make: Callable[[Layer], Made]) -> Iterator[dict[str, Made]]:
    """The block with layers that train in the places of those to be quantised; afterwards the old ones, new biases."""
    made = {name: make(layer) for name, layer in block.layers.items()}
    frozen = [p for p in block.module.parameters() if not p.requires_grad]
    replace(block.module, {id(block.layers[name].module): layer for name, layer in made.items()})
    for parameter in block.module.parameters():
        parameter.requires_grad_(True)
    try:
        yield made
    finally:
        replace(block.module, {id(layer): block.layers[name].module for name, layer in made.items()})
        for parameter in frozen:
            parameter.requires_grad_(False)
    for name, layer in made.items():
        old, new = (dict(m.named_parameters()).get("bias") for m in (block.layers[name].module, layer))
        if old is not None and new is not None:
            old.copy_(new)


def squared_error(streams: Streams, i: int, made: Tensor) -> Tensor:
    """Mean squared error of a block's output against its target in batch `i`, over the tokens that count."""
    error = (made - streams.targets[i]).square()
    mask = streams.masks[i]
    return error.mean() if mask is None else error[mask].mean()


def block_error(block: Block, streams: Streams, hidden: Sequence[Tensor], batches: Sequence[int]) -> float:
    """Mean squared error over some batches, for the hidden states that each has as input; 0 for none."""
    errors = [float(squared_error(streams, i, streams.run(block.module, i, hidden[i]))) for i in batches]
    return sum(errors) / max(1, len(errors))


def parameters_of(block: Block) -> dict[str, Tensor]:
    """A copy of the block's parameters, by name."""
    return {name: p.detach().clone() for name, p in block.module.named_parameters()}


def restore(block: Block, kept: Mapping[str, Tensor]) -> None:
    """Put copied parameters back. Called where gradients are off."""
    parameters = dict(block.module.named_parameters())
    for name, values in kept.items():
        parameters[name].copy_(values)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, name: str, step: int) -> float:
    """One step of the optimiser; the loss. Raises InputError with the name and the step if the loss is not finite."""
    value = loss.item()
    if not value < torch.inf:
        raise InputError(f"{name}: the loss of step {step} is {value}")
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return value
