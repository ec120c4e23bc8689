"""Methods of quantisation against each other: what each costs a model, item by item, with paired standard errors.

A subject is a model with data; its items are windows of text or sentences. A trial is one way to quantise it. The items
are the same for every trial, so that differences between trials are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from quant.calibration import CalibrationData, load
from quant.formats.checkpoint import load_model
from quant.methods.post_training import quantisation_of
from quant.run_directory import RunDirectory
from quant.zoo import char_lm
from quant.zoo.corpora import brown, gcide
from quant.zoo.packaged import find
from sim.common.text_table import format_table
from sim.workloads.sentence import Options as SentenceOptions
from sim.workloads.sentence import Sentences

BATCH = 32  # windows of a step
LENGTH = 32  # tokens of a window for calibration and training
TEXTS = ("train", "random", "dictionary")


class Subject(Protocol):
    """A model and its data.

    `measure` gives a loss for each item, float64; what a trial costs is its mean less that of the model itself.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def model(self) -> nn.Module: ...

    def measure(self, model: nn.Module) -> np.ndarray: ...

    def data(self, text: str, windows: int, seed: int) -> CalibrationData: ...


@cache
def _char_lm(recipe: char_lm.Recipe) -> nn.Module:
    return char_lm.load(char_lm.trained(recipe))


@cache
def _minilm() -> nn.Module:
    return load_model(find("minilm"))[0]


@dataclass(frozen=True, eq=False)
class CharLm:
    """The language model on bytes; the loss of a window is in nats a byte, of 128 bytes of a part of Brown."""

    windows: int = 192
    split: str = "test"
    recipe: char_lm.Recipe = field(default_factory=char_lm.Recipe)
    name = "char_lm"
    unit = "nats"

    @property
    def model(self) -> nn.Module:
        """The trained model."""
        return _char_lm(self.recipe)

    def measure(self, model: nn.Module) -> np.ndarray:
        """(windows,)."""
        text = brown("test" if self.split == "test" else "validation")
        rows = char_lm.tokens(text)
        step = max(1, len(rows) // 128 // self.windows)  # evenly over all genres
        chosen = rows[: len(rows) // 128 * 128].reshape(-1, 128)[::step][: self.windows]
        return char_lm.losses(model, chosen.flatten()).numpy()

    def data(self, text: str, windows: int, seed: int) -> CalibrationData:
        """Windows of Brown's training part, of the dictionary, or random bytes."""
        if text == "random":
            drawn = torch.randint(256, (windows, LENGTH), generator=torch.Generator().manual_seed(seed))
        else:
            source = char_lm.tokens(brown("train") if text == "train" else gcide()[: 1 << 22])
            drawn = char_lm.windows(source, windows, LENGTH, seed)
        return load([{"input_ids": part} for part in drawn.split(BATCH)])


@dataclass(frozen=True, eq=False)
class MiniLm:
    """all-MiniLM-L6-v2; the loss of a sentence is one less the cosine of its embedding with the model's own."""

    sentences: int = 96
    name = "minilm"
    unit = "cosine"

    @property
    def model(self) -> nn.Module:
        """The model."""
        return _minilm()

    @cached_property
    def texts(self) -> Sentences:
        """The measured sentences."""
        return Sentences(find("minilm"), SentenceOptions(count=self.sentences))

    @cached_property
    def real(self) -> np.ndarray:
        """The embeddings of the model itself."""
        return self.texts.embed(self.model)

    def measure(self, model: nn.Module) -> np.ndarray:
        """(sentences,)."""
        return 1 - (self.texts.embed(model) * self.real).sum(1)

    def data(self, text: str, windows: int, seed: int) -> CalibrationData:
        """Sentences that are not measured."""
        return self.texts.calibration(seed)


@dataclass(frozen=True, eq=False)
class Trial:
    """One way to quantise a subject.

    Parameters
    ----------
    name : str
        Of the method.
    columns : mapping
        What else its row says.
    make : callable
        Subject and seed to the quantised model.
    seeded : bool
        Whether the seed changes the result.
    against : str, optional
        The name of the trial, of the same columns `weights`, from which its gain is counted.
    """

    name: str
    columns: Mapping[str, Any]
    make: Callable[[Any, int], nn.Module]
    seeded: bool = False
    against: str | None = None

    def unit(self, seed: int) -> str:
        """The name of its unit in the run directory."""
        columns = " ".join(f"{key}={value}" for key, value in self.columns.items())
        return f"{self.name} {columns}" + (f" seed={seed}" if self.seeded else "")


@dataclass(frozen=True, eq=False)
class Work:
    """Where finished trials are kept, and what is told of them.

    With `finished`, trials that are not there are left out instead of made.
    """

    run: RunDirectory
    progress: Callable[[str], object] = lambda unit: None
    finished: bool = False

    def unit(
        self, name: str, make: Callable[[], tuple[np.ndarray, dict[str, Any]]]
    ) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Losses and more of a trial, made now if they are not there; None if they are not and that is all right."""
        done = self.run.done(name)
        if done is None and self.finished:
            return None
        if done is None:
            losses, row = make()
            self.run.finish(name, {"losses": torch.from_numpy(losses)}, row)
        else:
            losses, row = done[0]["losses"].numpy(), done[1]
        self.progress(name)
        return losses, row


def measure(subject: Subject, trials: Sequence[Trial], seeds: Sequence[int], work: Work) -> list[dict[str, Any]]:
    """A row for each trial and seed; trials that the run directory holds are not made again.

    `rise` is what the trial costs over the model in floating point, `gain` what it recovers of the trial that it is
    held against, each a mean over the items with its paired standard error; `recovered` is gain over the other's rise.
    A row that no seed changes is there once.
    """
    real = work.unit(f"{subject.name} real", lambda: (subject.measure(subject.model), {}))
    if real is None:
        return []
    rows: list[dict[str, Any]] = []
    changing = {trial.name for trial in trials if trial.seeded}
    for seed in seeds:
        found: dict[tuple[str, Any], np.ndarray] = {}
        for trial in trials:

            def make(trial: Trial = trial, seed: int = seed) -> tuple[np.ndarray, dict[str, Any]]:
                made = trial.make(subject, seed)
                return subject.measure(made), {"bits_per_weight": bits_per_weight(made)}

            measured = work.unit(f"{subject.name} {trial.unit(seed)}", make)
            if measured is None:
                continue
            loss, more = measured
            key = trial.name, trial.columns.get("weights")
            found[key] = loss - real[0]
            other = found.get((str(trial.against), key[1]))
            seeded = trial.seeded or (other is not None and trial.against in changing)
            if not seeded and seed != seeds[0]:
                continue
            row = {"model": subject.name, "unit": subject.unit, "method": trial.name, **trial.columns}
            row["seed"] = seed if seeded else None
            row |= {"loss": float(loss.mean()), **paired("rise", found[key]), **more}
            if other is not None:
                row |= {"against": trial.against, **paired("gain", other - found[key])}
                row["recovered"] = row["gain"] / float(other.mean())
            rows.append(row)
    return rows


def paired(name: str, differences: np.ndarray) -> dict[str, float]:
    """Mean and standard error of paired differences."""
    return {name: float(differences.mean()), f"{name}_se": float(differences.std(ddof=1) / len(differences) ** 0.5)}


def bits_per_weight(model: nn.Module) -> float:
    """Bits that a weight of the quantised layers takes, all that is stored of them counted."""
    rows = quantisation_of(model).rows
    weights = [row["inputs"] * row["outputs"] for row in rows]
    return sum(row["stored_bits_per_weight"] * n for row, n in zip(rows, weights, strict=True)) / sum(weights)


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as an aligned table."""
    columns = ("model", "method", "weights", "scales", "inputs", "data", "seed", "bits", "rise", "gain", "recovered")
    cells = []
    for row in rows:
        rise, gain = (f"{row[key]:+.4f} ± {row[f'{key}_se']:.4f}" if key in row else "-" for key in ("rise", "gain"))
        cells.append(
            (
                row["model"], row["method"], row["weights"], row["scales"], row["inputs"], row["data"] or "-",
                "-" if row["seed"] is None else str(row["seed"]), f"{row['bits_per_weight']:.3f}", rise, gain,
                f"{row['recovered']:.1%}" if "recovered" in row else "-",
            )
        )  # fmt: skip
    return format_table(columns, cells)
