"""Segmentation in integers against exact functions: mean IoU, its fall, and a paired bootstrap over the images."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from quant import Plan
from quant.run_directory import RunDirectory
from quant.zoo.scenes import Confusion
from sim.common.text_table import format_table
from sim.network.calibration import Calibration
from sim.network.convert import calibrate, functions, quantise
from sim.network.converters.describe import describe
from sim.network.graph import Network
from sim.reference import InputError
from sim.workloads.scene_training import at_size, logits_of
from sim.workloads.variants import Fits, Options, Variant, part

RESAMPLES = 2000
BATCH = 50


class Labelled(Protocol):
    """Images with a class for each pixel, and others for calibration."""

    classes: int

    def measured(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Batches of images (B, C, H, W) and classes (B, H, W); pixels of class -1 do not count."""
        ...

    def calibration(self, seed: int) -> Iterable[Mapping[str, Tensor]]:
        """Batches of `pixel_values`."""
        ...


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers, by name."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return total.hexdigest()


@torch.no_grad()
def confusion(logits: Callable[[Tensor], Tensor], data: Labelled) -> dict[str, Tensor]:
    """Intersections and unions of each measured image and class."""
    parts = [Confusion.of(logits(images).argmax(1), labels, data.classes) for images, labels in data.measured()]
    names = Confusion._fields
    return {name: torch.from_numpy(np.concatenate([getattr(p, name) for p in parts])) for name in names}


def network_logits(network: Network) -> Callable[[Tensor], Tensor]:
    """Of an integer network whose output is logits, at the images' resolution."""
    return lambda images: at_size(network(pixel_values=images).last_hidden_state, images.shape[-2:])


def evaluate(
    model: nn.Module, data: Labelled, run: RunDirectory, options: Options,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """The whole evaluation, in parts that a resumed run does not repeat; returns the options' rows.

    A row has the mean IoU of a variant and seed, and its fall from exact functions with a paired 95 % interval. Those
    with the seed None are the mean over the seeds.
    """
    real = _part(run, "fp32", lambda: confusion(lambda images: logits_of(model, images), data), progress)
    if not real.union.any():
        raise InputError("no pixel of the measured images has a class")
    operations = functions(describe(model))
    fits, found, made = Fits(operations), {}, dict[int, Calibration]()
    for variant, seed in options.pairs(operations):

        def measure(variant: Variant = variant, seed: int = seed) -> dict[str, Tensor]:
            plan = Plan.uniform(activation_granularity=options.granularity, tables=fits.tables(variant))
            if seed not in made:
                made[seed] = calibrate(model, plan, data.calibration(seed))
            return confusion(network_logits(quantise(made[seed], plan)), data)

        found[variant, seed] = _part(run, f"{variant.name}-seed{seed}", measure, progress)
    return {"fp32_miou": real.mean_iou(), "rows": rows(found, options, operations)}


def _part(
    run: RunDirectory, name: str, measure: Callable[[], Mapping[str, Tensor]], progress: Callable[[str], object]
) -> Confusion:
    tensors = part(run, name, measure)
    progress(name)
    return Confusion(*(tensors[key].numpy() for key in Confusion._fields))


def rows(
    found: Mapping[tuple[Variant, int], Confusion], options: Options, operations: Sequence[str]
) -> list[dict[str, Any]]:
    """A record for each variant and seed, and for each variant of several seeds their mean."""
    exact = Variant("exact", None)
    records = []
    for variant in dict.fromkeys(variant for variant, _ in options.pairs(operations)):
        measured = [seed for seed in options.seeds if (variant, seed) in found]
        groups = [[seed] for seed in measured] + ([measured] if len(measured) > 1 else [])
        for seeds in groups:
            pairs = [(found[exact, seed], found[variant, seed]) for seed in seeds]
            records.append(
                {
                    "method": variant.method,
                    "entries": variant.entries,
                    "operation": variant.operation,
                    "seed": seeds[0] if len(seeds) == 1 else None,
                    "miou": float(np.mean([got.mean_iou() for _, got in pairs])),
                    **falls(pairs),
                }
            )
    return records


def falls(pairs: Sequence[tuple[Confusion, Confusion]]) -> dict[str, float]:
    """The mean fall of mean IoU, in points, from the first of each pair to the second, and its 95 % interval.

    A paired bootstrap: the same images are drawn for both sides of all pairs.
    """
    images = len(pairs[0][0].union)
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(np.float64)
    resampled = np.mean([_mean_ious(draws, a) - _mean_ious(draws, b) for a, b in pairs], axis=0)
    low, high = np.quantile(resampled, [0.025, 0.975])
    fall = float(np.mean([a.mean_iou() - b.mean_iou() for a, b in pairs]))
    return {"fall": fall, "fall_low": float(low), "fall_high": float(high)}


def _mean_ious(draws: np.ndarray, found: Confusion) -> np.ndarray:
    """The mean IoU of each draw, in percent; a draw says how often each image is in it."""
    hits, either = draws @ found.intersection, draws @ found.union
    return 100 * np.nanmean(np.where(either > 0, hits / np.maximum(either, 1), np.nan), axis=1)


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The records as an aligned table."""
    columns = ("method", "entries", "operation", "seed", "mIoU", "fall", "95 % of the fall")
    cells = [
        (
            row["method"], str(row["entries"] or "-"), row["operation"],
            "mean" if row["seed"] is None else str(row["seed"]), f"{row['miou']:.2f}", f"{row['fall']:+.3f}",
            f"{row['fall_low']:+.3f} .. {row['fall_high']:+.3f}",
        )
        for row in rows
    ]  # fmt: skip
    return format_table(columns, cells)
