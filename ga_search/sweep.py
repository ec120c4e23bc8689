"""Many fits into one folder: in parallel, with progress, and resumable.

The folder holds `run.json` (the plan), a lock while a run is on, and per fit the table, its picture and, written
last, its row: the row is the mark that the fit is done.
"""

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import multiprocessing
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.plot import picture
from ga_search.problem import prepare
from sim.reference import InputError
from sim.reference.files import read_text, write_whole

PLAN_FORMAT = "bitwright-fit-run"


@dataclass(frozen=True)
class Sweep:
    """Fits of one plan. All configurations are checked before the first file is written."""

    configs: tuple[FitConfig, ...]
    folder: Path
    plots: bool = True

    def __post_init__(self) -> None:
        names = [config.name for config in self.configs]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{name} is asked for twice")
        for config in self.configs:
            prepare(config)

    def run(self, jobs: int, resume: bool) -> list[dict[str, Any]]:
        """The rows in the order of `configs`. Same plan, same bytes of every table, whatever `jobs`."""
        with _locked(self.folder):
            self._start(resume)
            todo = [config for config in self.configs if not (resume and self._done(config))]
            bar = tqdm(total=len(self.configs), initial=len(self.configs) - len(todo), unit="fit", file=sys.stderr)
            with bar, _workers(min(jobs, len(todo))) as submit:
                waiting = {submit(_fit_into, config.to_dict(), str(self.folder), self.plots): config for config in todo}
                for finished in concurrent.futures.as_completed(waiting):
                    finished.result()
                    bar.set_postfix_str(waiting[finished].name)
                    bar.update()
        return [json.loads(read_text(_row_path(self.folder, config))) for config in self.configs]

    def _plan(self) -> dict[str, Any]:
        fits = [config.to_dict() for config in self.configs]
        digest = hashlib.sha256(json.dumps(fits, sort_keys=True).encode()).hexdigest()
        return {"format": PLAN_FORMAT, "version": 1, "sha256": digest, "fits": fits}

    def _start(self, resume: bool) -> None:
        """Write the plan, or with `resume` hold it against the folder's and name the first key that differs."""
        path, plan = self.folder / "run.json", self._plan()
        if resume and path.exists():
            try:
                found = json.loads(read_text(path))["fits"]
                old = {FitConfig.from_dict(f).name: f for f in found}
            except (ValueError, KeyError, TypeError, AttributeError):
                raise InputError(f"{path}: not a plan of a fit run") from None
            for new in plan["fits"]:
                name = FitConfig.from_dict(new).name
                for key, value in new.items():
                    if name in old and old[name].get(key) != value:
                        raise InputError(
                            f"{path}: cannot resume, {key} of {name} was {old[name].get(key)}, not {value}"
                        )
        else:
            for config in self.configs:
                _row_path(self.folder, config).unlink(missing_ok=True)
        write_whole(path, json.dumps(plan, indent=1) + "\n")

    def _done(self, config: FitConfig) -> bool:
        table = self.folder / f"{config.name}.json"
        picture_ = self.folder / f"{config.name}.png"
        return _row_path(self.folder, config).exists() and table.exists() and (not self.plots or picture_.exists())


def _row_path(folder: Path, config: FitConfig) -> Path:
    return folder / f"{config.name}.row.json"


def _fit_into(config: dict[str, Any], folder: str, plots: bool) -> None:
    """One fit and its files, the row last. Runs in a worker, hence plain arguments."""
    problem = prepare(FitConfig.from_dict(config))
    table, row = fit(problem)
    stem = Path(folder) / problem.config.name
    row["table"] = str(table.save(f"{stem}.json"))
    if plots:
        write_whole(f"{stem}.png", picture(table, problem.function, row))
    write_whole(f"{stem}.row.json", json.dumps(row, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this run; a second run at the same time is the user's mistake."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another run is writing here") from None
        yield


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[Any]:
    """A `submit` that runs in this process for one job, else in `jobs` fresh ones."""
    if jobs <= 1:

        def submit(function: Any, *arguments: Any) -> concurrent.futures.Future:
            future: concurrent.futures.Future = concurrent.futures.Future()
            future.set_result(function(*arguments))
            return future

        yield submit
        return
    context = multiprocessing.get_context("forkserver")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context)
    try:
        yield pool.submit
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
