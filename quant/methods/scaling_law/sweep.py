"""Grids of runs: each finished run is a file of its own, so that a sweep can be killed at any moment and go on.

Learning rates come first: for each size the rate of the best full-precision run of the fewest tokens on a validation
part that no result is reported on. Then every quantised run beside its full-precision pair gives a δ.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.methods.scaling_law.training import FULL, SCHEMES, Run, Size, train
from quant.zoo.corpora import brown, gcide
from sim.common.errors import InputError
from sim.common.files import description_sha256, locked, read_json, write_whole
from sim.common.parallel import Pool


@dataclass(frozen=True)
class Grid:
    """Every combination of sizes, tokens, groups, schemes and seeds; `rates` are tried on each size.

    Raises InputError if an axis is empty or a run would have a value out of its range.
    """

    sizes: tuple[Size, ...]
    tokens: tuple[int, ...]
    groups: tuple[int, ...] = (16, 32, 64, 0)
    schemes: tuple[str, ...] = SCHEMES
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = (1.5e-3, 3e-3, 6e-3)
    context: int = 128
    batch: int = 16

    def __post_init__(self) -> None:
        for name in ("sizes", "tokens", "groups", "schemes", "seeds", "rates"):
            if not getattr(self, name):
                raise InputError(f"{name} must not be empty")
        self.quantised(dict.fromkeys(self.sizes, self.rates[0]))

    def tuning(self) -> list[Run]:
        """The runs that choose each size's rate."""
        return [self._run(size, min(self.tokens), FULL, 0, self.seeds[0], rate)
                for size in self.sizes for rate in self.rates]  # fmt: skip

    def full_precision(self, rates: Mapping[Size, float]) -> list[Run]:
        """One run for each size, number of tokens and seed."""
        return [self._run(size, tokens, FULL, 0, seed, rates[size])
                for size in self.sizes for tokens in self.tokens for seed in self.seeds]  # fmt: skip

    def quantised(self, rates: Mapping[Size, float]) -> list[Run]:
        """The runs that give a δ, in the order of the table."""
        return [replace(run, scheme=scheme, group=group)
                for scheme in self.schemes for group in self.groups for run in self.full_precision(rates)]  # fmt: skip

    def _run(self, size: Size, tokens: int, scheme: str, group: int, seed: int, rate: float) -> Run:
        return Run(size, tokens, scheme, group, seed, rate, self.context, self.batch)


GRIDS = {
    "tiny": Grid((Size(32, 1), Size(64, 1)), (16_384, 32_768), (16, 0), ("w4a4", "w4a16"), (0,), (3e-3, 6e-3), 32, 8),
    "small": Grid((Size(128, 1), Size(128, 2), Size(192, 3)), (1 << 16, 1 << 17, 1 << 18), batch=8),
    "medium": Grid((Size(128, 2), Size(192, 3), Size(256, 4)), (1 << 20, 1 << 21, 1 << 22)),
    "gpu": Grid(
        (Size(256, 4), Size(384, 6), Size(512, 8), Size(768, 12)),
        (10_000_000, 20_000_000, 40_000_000),
        (16, 32, 64, 128, 256, 0),
        rates=(7e-4, 1.5e-3, 3e-3),
        context=256,
        batch=64,
    ),
}


@dataclass(frozen=True)
class Workers(Pool):
    """Who trains; `device` is where a run trains."""

    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Texts:
    """Bytes (n,) to train on, to choose learning rates on, and to report on."""

    train: Tensor
    validation: Tensor
    test: Tensor

    @property
    def digest(self) -> str:
        """SHA-256 of the three."""
        parts = (self.train, self.validation, self.test)
        return hashlib.sha256(b"|".join(part.to(torch.uint8).numpy().tobytes() for part in parts)).hexdigest()


def texts_of(grid: str) -> Texts:
    """Bytes for a named grid: Brown's training part, and for the others than "tiny" GCIDE too.

    Learning rates are chosen on Brown's validation part, results are on 128 KiB of its test part. Raises InputError if
    a corpus is not there.
    """
    train = brown("train")[: 1 << 20] if grid == "tiny" else brown("train") + gcide()
    validation, test = brown("validation")[: 1 << 16], brown("test")[: 1 << 17]
    return Texts(*(_bytes(text) for text in (train, validation, test)))


def _bytes(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


def sweep(grid: Grid, texts: Texts, folder: Path, workers: Workers | None = None) -> list[dict[str, Any]]:
    """Train what is missing of a grid in `folder`, and give its table.

    Returns
    -------
    list of dict
        One row for each quantised run: its settings, `loss`, `full_loss`, their difference `delta` in nats per token,
        and `epochs`. The same folder, grid and texts give the same rows, however often the sweep was interrupted.

    Raises
    ------
    InputError
        The folder is another sweep's (other texts), or another process works in it.
    """
    workers = workers or Workers()
    with locked(folder):
        said = json.dumps({"texts_sha256": texts.digest, "torch": torch.__version__, "device": workers.device}) + "\n"
        mark = folder / "sweep.json"
        if mark.is_file() and mark.read_text() != said:
            raise InputError(f"{folder}: holds a sweep of other texts, another device or version of torch")
        write_whole(mark, said)
        tuned = _finish(grid.tuning(), texts.train, texts.validation, folder / "rates", workers)
        rates: dict[Size, float] = {}
        for size in grid.sizes:
            runs = [run for run in grid.tuning() if run.size == size]
            rates[size] = min(runs, key=lambda run: tuned[run.name]["loss"]).rate
        runs = [*grid.full_precision(rates), *grid.quantised(rates)]
        done = _finish(runs, texts.train, texts.test, folder / "runs", workers)
    rows = []
    for run in grid.quantised(rates):
        full = done[replace(run, scheme=FULL, group=0).name]["loss"]
        result = done[run.name]
        rows.append({**run.to_row(), "loss": result["loss"], "full_loss": full, "delta": result["loss"] - full,
                     "epochs": result["epochs"]})  # fmt: skip
    return rows


def _finish(
    runs: Sequence[Run], data: Tensor, test: Tensor, folder: Path, workers: Workers
) -> dict[str, dict[str, Any]]:
    """The result of each run by name; the missing ones are trained, and each is kept as soon as it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {run.name: result for run in runs if (result := _read(folder, run)) is not None}
    missing = [run for run in runs if run.name not in found]
    for run, result in _trained(missing, data, test, workers):
        content = {"run": run.name, **result}
        write_whole(folder / f"{run.name}.json", json.dumps({**content, "sha256": description_sha256(content)}) + "\n")
        found[run.name] = result
    return found


def _read(folder: Path, run: Run) -> dict[str, Any] | None:
    """The result of a run in its file; None if there is none, or one that is damaged or another run's."""
    path = folder / f"{run.name}.json"
    if not path.exists():
        return None
    with contextlib.suppress(InputError):
        content = read_json(path)
        whole = isinstance(content, dict) and set(content) == {"run", "loss", "epochs", "sha256"}
        if whole and content["run"] == run.name and content["sha256"] == description_sha256(content):
            return {"loss": content["loss"], "epochs": content["epochs"]}
    print(f"{path}: is damaged and is made anew", file=sys.stderr)
    return None


def _trained(runs: Sequence[Run], data: Tensor, test: Tensor, workers: Workers) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Runs with their results as they end."""
    return workers.results(partial(_one, data=data, test=test, device=workers.device), runs, "run")


def _one(run: Run, data: Tensor, test: Tensor, device: str) -> tuple[Run, dict[str, Any]]:
    """One run, and its result, on one thread, so that the same run gives the same loss wherever it is trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run, train(run, data, test, device)
    finally:
        torch.set_num_threads(threads)
