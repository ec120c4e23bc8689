"""Many fits into one folder: in parallel, with progress, and resumable.

The folder holds `run.json` (the plan and the versions), a lock while a run is on, and per fit the table, its picture
and, written last, its row with the plan it was made by: the mark that the fit is done.
"""

import concurrent.futures
import hashlib
import json
import multiprocessing
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.plot import picture
from ga_search.problem import prepare
from ga_search.progress import REPORT_SECONDS, TEXT_BYTES, Report, seldom, show_from_worker, start_worker
from ga_search.report import table_text
from sim.common.files import description_sha256, locked, write_whole
from sim.reference import InputError


@dataclass(frozen=True)
class Sweep:
    """Fits of one plan. All configurations are checked before the first file is written."""

    configs: tuple[FitConfig, ...]
    folder: Path
    plots: bool = True
    plans: tuple[dict[str, Any], ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [config.name for config in self.configs]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{name} is given twice")
        object.__setattr__(self, "plans", tuple(_plan(config) for config in self.configs))

    def run(self, jobs: int, resume: bool) -> list[dict[str, Any]]:
        """The rows in the order of `configs`. Same plan, same bytes of every table, whatever `jobs`."""
        with locked(self.folder):
            plans = zip(self.configs, self.plans, strict=True)
            done = [self._done(config, plan) if resume else None for config, plan in plans]
            self._start(resume)
            todo = [plan for plan, row in zip(self.plans, done, strict=True) if row is None]
            bar = tqdm(total=len(done), initial=len(done) - len(todo), unit="fit", file=sys.stderr)
            with bar:
                for name in _fits(todo, (str(self.folder), self.plots), min(jobs, len(todo)), bar.set_postfix_str):
                    bar.set_postfix_str(name)
                    bar.update()
            return [row or json.loads(_path(self.folder, c, "row.json").read_text())["row"] for c, row in
                    zip(self.configs, done, strict=True)]  # fmt: skip

    def _start(self, resume: bool) -> None:
        """Write the plan; without `resume` what an earlier run left under the same names goes."""
        digest = hashlib.sha256(json.dumps(self.plans, sort_keys=True).encode()).hexdigest()
        versions = {"python": platform.python_version()} | {p: version(p) for p in ("numpy", "matplotlib")}
        run = {"format": "bitwright-fit-run", "version": 1, "sha256": digest, "versions": versions, "fits": self.plans}
        write_whole(self.folder / "run.json", json.dumps(run, indent=1) + "\n")
        if not resume:
            for config in self.configs:
                for end in ("row.json", "png", "json"):
                    _path(self.folder, config, end).unlink(missing_ok=True)

    def _done(self, config: FitConfig, plan: dict[str, Any]) -> dict[str, Any] | None:
        """The row of a fit that is whole and was made by this plan, None if anything is missing or damaged.

        Raises `InputError` with the first key if it was made by another plan.
        """
        path = _path(self.folder, config, "row.json")
        if not path.exists():
            return None
        try:
            mark = json.loads(path.read_text(encoding="utf-8"))
            if mark["sha256"] != description_sha256(mark):
                return _again(path)
            json.dumps(mark, allow_nan=False)  # a row holds no NaN and no infinity
            old, row, files = mark["plan"], mark["row"], dict(mark["files"])
            table_text([row])  # and every figure that is printed
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return _again(path)
        for key, value in plan.items():
            if not isinstance(old, dict) or old.get(key) != value:
                was = old.get(key) if isinstance(old, dict) else None
                raise InputError(f"{self.folder}: cannot resume, {key} of {config.name} was {was}, not {value}")
        for end in ("json", "png") if self.plots else ("json",):
            file = _path(self.folder, config, end)
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != files.get(end):
                return _again(file)
        return row


def _plan(config: FitConfig) -> dict[str, Any]:
    """The configuration with a hash of the values it is fitted to, since a user's function may change its meaning."""
    digest = prepare(config).values_digest()  # first, since it is here that a user's mistakes show
    return config.to_dict() | {"values_sha256": digest}


def _again(path: Path) -> None:
    """Say that a file of an earlier run cannot be reused."""
    print(f"warning: {path} is missing or not as it was written; fitted again", file=sys.stderr)


def _path(folder: Path, config: FitConfig, end: str) -> Path:
    return folder / f"{config.name}.{end}"


def _fit_into(plan: dict[str, Any], folder: str, plots: bool, show: Report = show_from_worker) -> str:
    """One fit and its files, the row last; returns its name. Runs in a worker, hence plain arguments."""
    problem = prepare(FitConfig.from_dict(plan))
    report = seldom(lambda text: show(f"{problem.config.name}: {text}"))
    table, row = fit(problem, report)
    place = Path(folder)
    row["table"] = str(table.save(_path(place, problem.config, "json")))
    files = {"json": hashlib.sha256(table.to_json().encode()).hexdigest()}
    if plots:
        data = picture(table, problem.function, row)
        files["png"] = hashlib.sha256(data).hexdigest()
        write_whole(_path(place, problem.config, "png"), data)
    mark = {"plan": plan, "files": files, "row": row}
    mark["sha256"] = description_sha256(mark)
    write_whole(_path(place, problem.config, "row.json"), json.dumps(mark, indent=1, allow_nan=False) + "\n")
    return problem.config.name


def _fits(plans: list[dict[str, Any]], place: tuple[str, bool], jobs: int, show: Report) -> Iterator[str]:
    """Fit every plan, in this process for one job, else in `jobs` fresh ones; the names as they are done."""
    if jobs <= 1:
        for plan in plans:
            yield _fit_into(plan, *place, show)
        return
    context = multiprocessing.get_context("forkserver")
    text = context.Array("c", TEXT_BYTES, lock=False)
    pool = concurrent.futures.ProcessPoolExecutor(jobs, context, start_worker, (text,))
    try:
        waiting = {pool.submit(_fit_into, plan, *place) for plan in plans}
        while waiting:
            done, waiting = concurrent.futures.wait(waiting, REPORT_SECONDS, concurrent.futures.FIRST_COMPLETED)
            if not done and text.value:
                show(text.value.decode(errors="replace"))
            for finished in done:
                yield finished.result()
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
