"""Where derived files are kept that may be deleted at any time: builds, netlists, unfinished evaluations."""

from pathlib import Path

from platformdirs import user_cache_path

ROOT = Path(__file__).parents[2]  # of the repository, if this is a checkout


def cache_folder(name: str) -> Path:
    """`build/NAME` inside a checkout of bitwright, else `NAME` in the user's cache, such as `~/.cache/bitwright`."""
    here = Path.cwd()
    if (ROOT / "pyproject.toml").is_file() and here.is_relative_to(ROOT):
        return Path("build", name)
    return user_cache_path("bitwright") / name
