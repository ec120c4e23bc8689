"""Results kept on disk under the hash of their inputs, each with its own hash.

A result that is damaged or altered is computed again, with a warning on stderr.
"""

import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.common.cache import cache_folder
from sim.common.files import write_whole

CACHE = cache_folder("cost")  # safe to delete
LAYOUT = 2  # of an entry: the hash of identity and text, a line break, the text; compressed


def digest(identity: Any) -> str:
    """The SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def remember(folder: Path, name: str, identity: Any, compute: Callable[[], str]) -> str:
    """The text that `compute` gives for `identity`, from `folder` if it is there and whole.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    name : str
        What the result is, for the file's name.
    identity : Any
        Everything that the text depends on, as JSON values.
    compute : callable
        Makes the text.
    """
    key = digest([LAYOUT, name, identity])
    path = folder / f"{name}-{key[:24]}.gz"
    if path.exists():
        text = _read(path, key)
        if text is not None:
            return text
        warn_damaged(path)
    text = compute()
    write_whole(path, gzip.compress(f"{_seal(key, text)}\n{text}".encode(), mtime=0))
    return text


def warn_damaged(path: Path) -> None:
    """Warn on stderr that a file of the cache is computed again."""
    print(f"warning: {path}: damaged or altered, and made anew", file=sys.stderr)


def _read(path: Path, key: str) -> str | None:
    """The text of an entry; None if it cannot be read or its hash is another."""
    try:
        seal, _, text = gzip.decompress(path.read_bytes()).decode().partition("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return None
    return text if seal == _seal(key, text) else None


def _seal(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()
