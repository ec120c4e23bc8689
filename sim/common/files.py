"""Files are written whole or not at all, and a folder is one run's at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.common.errors import InputError


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write `data` beside `path` and rename it into place; an interruption leaves the old file or none.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = Path(path)
    write_together({path: data})
    return path


def write_together(files: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together: all are written beside their places before the first is renamed into its own.

    Raises:
        InputError: one of them cannot be written, and then none is.
    """
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            partials[path].write_bytes(data.encode() if isinstance(data, str) else data)
        for path, partial in partials.items():
            partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink()


def read_text(path: str | Path) -> str:
    """The text of `path`; `InputError` where it is missing, unreadable or not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: must be UTF-8 text") from None


def read_json(path: str | Path) -> Any:
    """What the JSON at `path` holds; `InputError` where it is missing, unreadable or not valid."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def checked_description(
    path: str | Path,
    name: str,
    version: int,
    keys: Sequence[str],
    digest: Callable[[Mapping[str, Any]], str] | None = None,
) -> dict[str, Any]:
    """A JSON that describes other files: its `format` is `name`, it has exactly `keys`, and its `sha256` is its own
    `digest` (by default `description_sha256`). Raises `InputError` with the file and the key where it is another.
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
    """The hash that a JSON holds of itself: of its canonical text (sorted keys) without the key `sha256`."""
    kept = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this run, making it where there is none.

    Raises:
        InputError: another run holds it, or it cannot be written.
    """
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
