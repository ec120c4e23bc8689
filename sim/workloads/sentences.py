"""English sentences that come with every Python: the language's help texts, docstrings and the licence."""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

SHORTEST, LONGEST = 25, 400  # characters


def sentences(count: int, seed: int = 0) -> list[str]:
    """`count` different sentences in an order that the seed gives; fewer if Python has fewer."""
    found = _every()
    order = np.random.default_rng(seed).permutation(len(found))
    return [found[i] for i in order[:count]]


def digest(texts: list[str]) -> str:
    """SHA-256 of the sentences, one a line: another version of Python has other sentences."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@cache
def _every() -> tuple[str, ...]:
    """All sentences, once each; reading Python's modules takes some seconds."""
    return tuple(dict.fromkeys(s for text in _texts() for s in _split(text)))


def _texts() -> Iterator[str]:
    from pydoc_data.topics import topics

    yield from topics.values()
    library = Path(ast.__file__).parent
    licence = library / "LICENSE.txt"
    if licence.is_file():
        yield licence.read_text(encoding="utf-8")
    for path in sorted(library.glob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                yield ast.get_docstring(node) or ""


def _split(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"^\s*(>>>|\.\.\s|\*\*\*|[-=+|]{3,})", paragraph, re.M):
            continue  # examples, directives and tables
        flat = re.sub(r'["“”*`]|\\\w', "", re.sub(r"\s+", " ", paragraph)).strip()
        for sentence in re.split(r"(?<=[.!?]) +(?=[A-Z])", flat):
            words = re.findall(r"[A-Za-z]{2,}", sentence)
            if SHORTEST <= len(sentence) <= LONGEST and len(words) >= 5 and sentence[-1] in ".!?":
                yield sentence
