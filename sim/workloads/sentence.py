"""Sentence embeddings in integers against floating point: a record for each set of tables and calibration seed.

The model is all-MiniLM-L6-v2 or another checkpoint of BERT's family; the sentences are those that come with Python.
The embedding is the mean of the last hidden state over the tokens, scaled to unit length. The mean is outside the
integer network.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import Plan
from quant.calibration import CalibrationData, load, tokeniser_of
from quant.formats.checkpoint import load_model
from quant.run_directory import RunDirectory
from sim.common.errors import require_range
from sim.common.text_table import format_table
from sim.network.convert import calibrate
from sim.network.table_sets import FUNCTIONS
from sim.reference import InputError
from sim.workloads.points import measure_points
from sim.workloads.sentences import digest, sentences
from sim.workloads.variants import PAPER, Fits, Variant, variants

LONGEST = 128  # tokens
BATCH = 32
NINETY_FIVE = 1.959963984540054  # two-sided normal quantile


@dataclass(frozen=True)
class Options:
    """The options of the evaluation; `calibration` sentences are never among the `count` that are measured."""

    count: int = 2000
    calibration: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    granularity: str = "token"
    single: bool = True  # one operation at a time too, at the first seed

    def __post_init__(self) -> None:
        require_range("sentences", self.count, 2, 100_000)
        require_range("calibration", self.calibration, 1, 10_000)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds must be different numbers, not {list(self.seeds)}")


METHODS = (("gqa-lut", 8), (f"gqa-lut{PAPER}", 8), ("nn-lut", 8), ("genetic", 8), ("genetic", 16), ("genetic", 2))


def chosen(options: Options, seed: int) -> list[Variant]:
    """The sets of tables that a seed measures."""
    return variants(FUNCTIONS, options.single and seed == options.seeds[0], METHODS)


class Sentences:
    """The measured sentences in batches of similar length, and other sentences for calibration."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.options = options
        self.tokens = tokeniser_of(folder)
        every = sentences(10**9)
        if len(every) < options.count + options.calibration:
            raise InputError(f"sentences must be at most {len(every) - options.calibration}, not {options.count}")
        self.measured, self.rest = every[: options.count], every[options.count :]
        self.digest = digest(self.measured)
        ids = [_cut(self.tokens(text)) for text in self.measured]
        self.order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        self.batches = [
            padded([ids[i] for i in self.order[first : first + BATCH]]) for first in range(0, len(ids), BATCH)
        ]

    def calibration(self, seed: int) -> CalibrationData:
        """`options.calibration` of the sentences that are not measured."""
        chosen = np.random.default_rng(seed).permutation(len(self.rest))[: self.options.calibration]
        ids = [_cut(self.tokens(self.rest[i])) for i in chosen]
        return load([padded(ids[first : first + 16]) for first in range(0, len(ids), 16)])

    def embed(self, model: nn.Module) -> np.ndarray:
        """(count, C) float64 of unit length, in the order of `measured`."""
        return embed(model, self.batches, self.order)


@torch.no_grad()
def embed(model: nn.Module, batches: Sequence[dict[str, Tensor]], order: Sequence[int]) -> np.ndarray:
    """(count, C) float64 of unit length: sentence k of the batches, counted through, is number order[k]."""
    rows: list[Tensor] = []
    for batch in batches:
        mask = batch["attention_mask"][..., None].double()
        hidden = model(**batch).last_hidden_state.double()
        rows.append(functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    result = np.empty((len(order), rows[0].shape[1]))
    result[order] = torch.cat(rows).numpy()
    return result


def _cut(ids: Sequence[int]) -> list[int]:
    """At most `LONGEST` tokens; the one that ends a sentence stays."""
    return [*ids] if len(ids) <= LONGEST else [*ids[: LONGEST - 1], ids[-1]]


def padded(ids: list[list[int]]) -> dict[str, Tensor]:
    """A batch of sequences of indices."""
    longest = max(map(len, ids))
    rows = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    lengths = torch.tensor([[len(row)] for row in ids])
    return {"input_ids": rows, "attention_mask": (torch.arange(longest) < lengths).long()}


def evaluate(
    folder: Path, run: RunDirectory, options: Options, progress: Callable[[str], object] = lambda _: None, jobs: int = 1
) -> dict[str, Any]:
    """The whole evaluation, in parts that a resumed run does not repeat; returns the options and the records.

    Each seed is calibrated once; `jobs` processes then measure its sets of tables. The records do not depend on them.
    """
    texts = Sentences(folder, options)
    model, _ = load_model(folder)
    if run.done("fp32") is None:
        started = time.perf_counter()
        embeddings = texts.embed(model)
        _keep(run, "fp32", embeddings, time.perf_counter() - started, progress)
    real = _kept(run, "fp32")
    fits = Fits(FUNCTIONS)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        every = {f"{variant.name}-seed{seed}": variant for variant in chosen(options, seed)}
        missing = {unit: variant for unit, variant in every.items() if run.done(unit) is None}
        for unit in every.keys() - missing.keys():
            progress(unit)
        if missing:
            plans = {
                unit: Plan.uniform(activation_granularity=options.granularity, tables=fits.tables(variant))
                for unit, variant in missing.items()
            }
            calibration = calibrate(model, next(iter(plans.values())), texts.calibration(seed))
            measure = partial(embed, batches=texts.batches, order=texts.order)
            for unit, (embeddings, seconds) in measure_points(calibration, plans, measure, jobs):
                _keep(run, unit, embeddings, seconds, progress)
        exact = _kept(run, next(iter(every)))
        rows += [
            {"method": variant.method, "entries": variant.entries, "operation": variant.operation, "seed": seed,
             **figures(real, exact, _kept(run, unit))}
            for unit, variant in every.items()
        ]  # fmt: skip
    return {
        "model": folder.name if folder.name != "model" else "all-MiniLM-L6-v2",
        "sentences_sha256": texts.digest,
        "tokens": int(sum(int(batch["attention_mask"].sum()) for batch in texts.batches)),
        "options": asdict(options),
        "rows": rows,
    }


def figures(real: np.ndarray, exact: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """Cosines to floating point, their fall against the control with a paired 95 % interval, rank correlation."""
    cosine, control = (real * got).sum(1), (real * exact).sum(1)
    fall = control - cosine
    half = NINETY_FIVE * float(fall.std(ddof=1)) / len(fall) ** 0.5
    return {
        "cosine": float(cosine.mean()),
        "cosine_worst": float(cosine.min()),
        "fall": float(fall.mean()),
        "fall_low": float(fall.mean()) - half,
        "fall_high": float(fall.mean()) + half,
        "spearman": spearman(_pairs(real), _pairs(got)),
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    ranks = [_ranks(values) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[where]


def _pairs(embeddings: np.ndarray) -> np.ndarray:
    """The similarities of all pairs of different sentences."""
    return (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]


def _keep(
    run: RunDirectory, unit: str, embeddings: np.ndarray, seconds: float, progress: Callable[[str], object]
) -> None:
    run.finish(unit, {"embeddings": torch.from_numpy(embeddings)}, {"seconds": seconds})
    progress(f"{unit}, {len(embeddings) / seconds:.0f} sentences per second")


def _kept(run: RunDirectory, unit: str) -> np.ndarray:
    found = run.done(unit)
    assert found is not None  # it was measured before
    return found[0]["embeddings"].numpy()


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The records as an aligned table."""
    columns = ("method", "entries", "operation", "seed", "cosine", "worst", "fall", "95 % of the fall", "Spearman")
    cells: list[tuple[str, ...]] = []
    for row in rows:
        interval = f"{row['fall_low']:+.5f} .. {row['fall_high']:+.5f}"
        cells.append(
            (
                row["method"], str(row["entries"] or "-"), row["operation"], str(row["seed"]), f"{row['cosine']:.5f}",
                f"{row['cosine_worst']:.4f}", f"{row['fall']:+.5f}", interval, f"{row['spearman']:.5f}",
            )
        )  # fmt: skip
    return format_table(columns, cells)
