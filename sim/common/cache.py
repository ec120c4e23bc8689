"""Cache folders for derived files: builds, netlists, unfinished evaluations. They may be deleted at any time."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).parents[2]  # of the repository, if this is a checkout


def cache_folder(name: str) -> Path:
    """`build/NAME` inside a checkout of bitwright, else `NAME` in the user's cache, such as `~/.cache/bitwright`."""
    here = Path.cwd()
    if (ROOT / "pyproject.toml").is_file() and here.is_relative_to(ROOT):
        return Path("build", name)
    return user_cache_path("bitwright") / name


def require_user_cache() -> None:
    """Give this process and its children a temporary cache if the user's cannot be written.

    The WebAssembly builds of Yosys keep their compiled code in the user's cache and fail without it.
    """
    folder = user_cache_path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError:
        temporary = tempfile.mkdtemp(prefix="bitwright-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        os.environ["XDG_CACHE_HOME"] = temporary
