"""Reading files with one-line errors, writing them whole or not at all, and locking folders."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sim.common.errors import InputError

LOCK = ".lock"  # the file in a folder that its writer holds
PATIENCE = 10  # seconds to wait for a folder, of a run that holds it only while it writes


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write `data` beside `path` and rename it into place; an interruption leaves the old file or none.

    Raises
    ------
    InputError
        If the folder cannot be made or written.
    """
    path = Path(path)
    write_together({path: data})
    return path


def write_together(files: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together: all are written beside their places before the first is renamed.

    Raises
    ------
    InputError
        If one of them cannot be written; then none is.
    """
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            _remove_stale(path)
            partials[path].write_bytes(data.encode() if isinstance(data, str) else data)
        for path, partial in partials.items():
            partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the temporary files that a killed run left beside `path`."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        process = partial.name.removesuffix(".partial").rpartition(".")[2]
        if process.isdigit() and not _alive(int(process)):
            with contextlib.suppress(OSError):
                partial.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a process number
        return True
    return True


def require_regular(path: str | Path) -> None:
    """Raise `InputError` if `path` exists and is a folder, pipe or device, which may never end."""
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(f"{path}: must be a regular file")


def read_text(path: str | Path) -> str:
    """The text of `path`. Raises `InputError` if it is missing, unreadable, not a regular file or not UTF-8."""
    require_regular(path)
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: must be UTF-8 text") from None


def read_json(path: str | Path) -> Any:
    """What the JSON at `path` holds.

    Raises `InputError` if it is missing, unreadable or not valid, or if a key occurs twice.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dictionary. Raises `ValueError` if a key occurs twice."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return content


def checked_description(
    path: str | Path,
    name: str,
    version: int,
    keys: Sequence[str],
    digest: Callable[[Mapping[str, Any]], str] | None = None,
) -> dict[str, Any]:
    """A JSON that describes other files: its `format` is `name`, it has exactly `keys`, and its `sha256` is its own
    `digest` (by default `description_sha256`). Raises `InputError` with the file and the key if it differs.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != name:
        raise InputError(f'{path}: format must be "{name}"')
    if content.get("version") != version:
        raise InputError(f"{path}: version must be {version}, not {content.get('version')!r}")
    if odd := sorted(set(content) ^ set(keys)):
        raise InputError(f"{path}: keys must be {', '.join(keys)}; unknown or missing: {', '.join(odd)}")
    if content["sha256"] != (digest or description_sha256)(content):
        raise InputError(f"{path}: corrupted: its own SHA-256 is not the one it names")
    return content


def description_sha256(content: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object's canonical text (sorted keys), without its key `sha256`."""
    kept = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def content_sha256(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of the files in a folder."""
    files = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    try:
        for file in files:
            total.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    return total.hexdigest()


def require_other(folder: Path, target: Path) -> None:
    """Raises `InputError` if the output folder `target` is `folder`, whose files it would replace."""
    if folder.resolve() == target.resolve():
        raise InputError(f"{target}: the output must be another folder than the input")


@contextlib.contextmanager
def locked(folder: Path, patience: float = 0) -> Iterator[None]:
    """Hold `folder` for this run; it is made if it does not exist, and removed after an InputError if it stayed empty.

    The lock ends with the process, however that ends; the empty file `.lock` may stay.

    Parameters
    ----------
    folder : Path
        The folder that this run writes to.
    patience : float
        Seconds to wait for another run to end.

    Raises
    ------
    InputError
        If another run holds the folder, or it cannot be written.
    """
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=patience)
    except Timeout:
        raise InputError(f"{folder}: another run is writing here") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        yield
    except InputError:
        if not existed and folder.exists() and [path.name for path in folder.iterdir()] == [LOCK]:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()
