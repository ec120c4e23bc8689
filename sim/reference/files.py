"""Files are written whole or not at all, and a folder is one run's at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sim.reference.errors import InputError


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write `data` beside `path` and rename it into place; an interruption leaves the old file or none.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return path


def read_text(path: str | Path) -> str:
    """The text of `path`; `InputError` where it is missing, unreadable or not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: must be UTF-8 text") from None


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
