"""A run directory serves a long job: what it was asked, with which versions, and which of its units are done.

`run.json` holds the configuration, versions and thread count; `.lock` is held while the run is on; a unit of work
leaves `UNIT.safetensors` and, written last, `UNIT.json`, its done-marker: a row, and a hash of both. The
state of the random generators after a unit is kept with it, so that a resumed run goes on as the first would have.
"""

import contextlib
import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from sim.common.files import locked, write_whole
from sim.reference import InputError

FORMAT, VERSION = "bitwright-run", 1
_STATE = "random_state"


class RunDirectory:
    """One job in one folder. Open it with `RunDirectory.open`, which holds its lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, folder: str | Path, configuration: Mapping[str, Any], resume: bool = False
    ) -> Iterator["RunDirectory"]:
        """Hold the folder for a job of this configuration: JSON values, the plan under "plan", hashes, the seed.

        With `resume` the units that an earlier run of the same configuration finished count as done; without it, or
        where there was none, they go.

        Raises:
            InputError: another run is on, or the configuration is not that of the run to resume; names the key.
        """
        folder = Path(folder)
        with locked(folder):
            run = cls(folder)
            run._start(json.loads(json.dumps(configuration)), resume)
            yield run

    def done(self, unit: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the row of a finished unit; None if it is not finished, or is damaged, which is said.

        The random generators are then in the state in which the unit left them.
        """
        try:
            mark = json.loads(self._path(unit, "json").read_text())
            data = self._path(unit, "safetensors").read_bytes()
            if mark["sha256"] != _unit_sha256(unit, data, mark["row"]):
                raise ValueError("its SHA-256 is not the one in its marker")
            row = mark["row"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            print(f"{self.folder}: unit {unit!r} is damaged and is made anew", file=sys.stderr)
            return None
        tensors = safetensors.load(data)
        _set_random_state({key: tensors.pop(key) for key in list(tensors) if key.startswith(_STATE)})
        return tensors, row

    def finish(self, unit: str, tensors: Mapping[str, Tensor], row: Mapping[str, Any]) -> None:
        """Keep what a unit made, its marker last."""
        state = _random_state()
        data = safetensors.save({key: t.detach().cpu().contiguous() for key, t in {**tensors, **state}.items()})
        write_whole(self._path(unit, "safetensors"), data)
        mark = {"unit": unit, "sha256": _unit_sha256(unit, data, row), "row": dict(row)}
        write_whole(self._path(unit, "json"), json.dumps(mark, allow_nan=False) + "\n")

    def clear(self) -> None:
        """Remove what the units left; the job's result is elsewhere by now."""
        for path in (self.folder / "units").glob("*"):
            path.unlink()

    def _start(self, configuration: dict[str, Any], resume: bool) -> None:
        path = self.folder / "run.json"
        wanted = {"format": FORMAT, "version": VERSION, "configuration": configuration, "versions": versions()}
        old = _read(path) if resume else None
        if old is None:
            self.clear()
        else:
            changed = difference(old.get("configuration"), configuration)
            if changed is not None:
                key, was, now = changed
                raise InputError(f"{self.folder}: cannot resume, {key} was {was}, not {now}")
            odd = difference(old.get("versions"), wanted["versions"])
            if odd is not None:
                print(f"{self.folder}: {odd[0]} was {odd[1]}, now {odd[2]}: bytes may differ", file=sys.stderr)
        write_whole(path, json.dumps(wanted, indent=1) + "\n")

    def _path(self, unit: str, suffix: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in unit)[:100]
        return self.folder / "units" / f"{safe}-{hashlib.sha256(unit.encode()).hexdigest()[:8]}.{suffix}"


def versions() -> dict[str, Any]:
    """What decides the bytes beside configuration and data: versions, processor kind, thread count."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in ("torch", "numpy", "safetensors", "transformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found | {"machine": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability(),
                    "threads": torch.get_num_threads()}  # fmt: skip


def difference(old: Any, new: Any, key: str = "") -> tuple[str, str, str] | None:
    """The first key in which two JSON values differ, with both values, short; None where they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(k for k in old if k not in new)]:
            found = difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found is not None:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            found = difference(a, b, f"{key}[{i}]")
            if found is not None:
                return found
        return None
    return None if old == new else (key or "it", json.dumps(old)[:60], json.dumps(new)[:60])


def _unit_sha256(unit: str, data: bytes, row: Mapping[str, Any]) -> str:
    """SHA-256 over a unit's name, its row and its file."""
    text = json.dumps([unit, dict(row)], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode() + b"\n" + data).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None


def _random_state() -> dict[str, Tensor]:
    state = {_STATE: torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"{_STATE}.cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def _set_random_state(state: Mapping[str, Tensor]) -> None:
    if _STATE in state:
        torch.set_rng_state(state[_STATE])
    cuda = [state[key] for key in sorted(state) if key != _STATE]
    if cuda and torch.cuda.device_count() == len(cuda):
        torch.cuda.set_rng_state_all(cuda)
