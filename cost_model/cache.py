"""Results kept on disk by the content they follow from."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.common.files import write_whole

CACHE = Path("build/cost")  # safe to delete


def digest(identity: Any) -> str:
    """The hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def remember(folder: Path, kind: str, identity: Any, compute: Callable[[], str]) -> str:
    """The text that `compute` gives for `identity`, from `folder` where it is known already."""
    path = folder / f"{kind}-{digest(identity)[:24]}.gz"
    if path.exists():
        return gzip.decompress(path.read_bytes()).decode()
    text = compute()
    write_whole(path, gzip.compress(text.encode(), mtime=0))
    return text
