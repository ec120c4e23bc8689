"""Training of segmentation networks on `quant.zoo.scenes`, once: the weights stay in the cache, and a run can go on."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.run_directory import RunDirectory
from quant.zoo.scenes import Composer
from sim.common.cache import cache_folder

WARM_UP = 200  # steps


@dataclass(frozen=True)
class Training:
    """AdamW with a cosine schedule: `steps` batches of new scenes, stored after every `stored` steps."""

    steps: int = 1200
    batch: int = 16
    rate: float = 3e-3
    stored: int = 100
    seed: int = 0


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """A network's logits at the images' resolution, (B, classes, H, W), as SegFormer's own loss takes them."""
    result: Any = model(pixel_values=images)
    return at_size(result if isinstance(result, Tensor) else result.logits, images.shape[-2:])


def at_size(logits: Tensor, size: Any) -> Tensor:
    """Logits (B, classes, h, w) at the size (H, W), bilinear."""
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def trained(
    name: str,
    make: Callable[[int], nn.Module],
    training: Training,
    progress: Callable[[], object] = lambda: None,
    folder: Path | None = None,
) -> nn.Module:
    """The network that `make` gives for the training's seed, trained, in evaluation mode.

    What was trained before is read from the cache, or from `folder`; an interrupted training goes on where it stopped
    and gives the same weights. `progress` is called after each step that is not read.
    """
    configuration = {"name": name, **asdict(training)}
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:12]
    model, scenes = make(training.seed), Composer(held_out=False)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are so small that threads only wait for each other
    try:
        with RunDirectory.open(folder or cache_folder("trained") / f"{name}-{digest}", configuration, True) as run:
            for first in range(0, training.steps, training.stored):
                unit, last = f"steps-{first}", min(first + training.stored, training.steps)
                done = run.done(unit)
                if done is None:
                    for step in range(first, last):
                        _step(model, optimiser, scenes, training, step)
                        progress()
                    run.finish(unit, _state(model, optimiser), {"steps": last})
                else:
                    _restore(model, optimiser, done[0])
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _step(model: nn.Module, optimiser: torch.optim.AdamW, scenes: Composer, training: Training, step: int) -> None:
    model.train()
    rate = training.rate * min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / training.steps))
    for group in optimiser.param_groups:
        group["lr"] = rate
    images, labels = scenes.scenes(training.batch, training.seed, step)
    loss = functional.cross_entropy(logits_of(model, images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _state(model: nn.Module, optimiser: torch.optim.AdamW) -> dict[str, Tensor]:
    """Parameters and buffers as "model.NAME", the optimiser's moments as "optimiser.NUMBER.KEY"."""
    state = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        state |= {f"optimiser.{number}.{key}": tensor for key, tensor in moments.items()}
    return state


def _restore(model: nn.Module, optimiser: torch.optim.AdamW, state: dict[str, Tensor]) -> None:
    model.load_state_dict({k.removeprefix("model."): t for k, t in state.items() if k.startswith("model.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if key.startswith("optimiser."):
            _, number, part = key.split(".", 2)
            moments.setdefault(int(number), {})[part] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
