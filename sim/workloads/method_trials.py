"""Methods of quantisation against each other: what each costs a model, item by item, with paired standard errors.

A subject (`method_subjects`) has items: windows of text or sentences. A trial is one way to quantise it. The items are
the same for every trial, so that differences between trials are paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from quant.methods.post_training import quantisation_of
from quant.run_directory import RunDirectory
from sim.common.text_table import format_table
from sim.workloads.method_subjects import Subject


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
    beside : tuple of str
        Other trials, of the same columns `weights` and measured before, whose gains its row has too.
    """

    name: str
    columns: Mapping[str, Any]
    make: Callable[[Any, int], nn.Module]
    seeded: bool = False
    against: str | None = None
    beside: tuple[str, ...] = ()

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
    `beside` has the gain over each trial that it stands beside, and how many standard errors that is.
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
            gains = {name: paired("gain", found[name, key[1]] - found[key])
                     for name in trial.beside if (name, key[1]) in found}  # fmt: skip
            if gains:
                row["beside"] = {
                    name: {**gain, "errors": gain["gain"] / gain["gain_se"]} for name, gain in gains.items()
                }
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
