"""Mutants of a file: seeded damage to its bytes, or to the values of its JSON with the hash made right again."""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Seal = Callable[[dict[str, Any]], dict[str, Any]]


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 1 << 31, 1 << 64, 10**20, -(10**20), 0.5, 1e308, -0.0, float("nan"), float("inf"),
    "", "a", "a\nb", "../x", "/dev/zero", "*/", "$(exit)", "9" * 5000, "é\u2028", [], [[]], [None], [1.5], ["a"], {},
    {"a": 1}, [0] * 300, nested(50),
)  # fmt: skip


def json_mutants(content: dict[str, Any], seed: int, count: int, seal: Seal | None = None) -> Iterator[tuple[str, str]]:
    """(what was done, text) of `count` mutants: a value replaced, a key removed or added; `seal` mends the hash."""
    rng = np.random.default_rng(seed)
    places = list(_places(content))
    for _ in range(count):
        mutant = copy.deepcopy(content)
        path = places[rng.integers(len(places))]
        holder = mutant
        for step in path[:-1]:
            holder = holder[step]
        what = int(rng.integers(8))
        label = "/".join(map(str, path))
        if what == 0:
            del holder[path[-1]]
            label += " removed"
        elif what == 1 and isinstance(holder, dict):
            holder[f"{path[-1]} "] = holder[path[-1]]
            label += " twice"
        else:
            value = VALUES[rng.integers(len(VALUES))]
            holder[path[-1]] = value
            label += f" = {str(value)[:40]!r}"
        if seal is not None:
            with contextlib.suppress(TypeError, KeyError, AttributeError, ValueError):  # then the hash stays wrong
                mutant = seal(mutant)
        yield label, json.dumps(mutant)


def byte_mutants(data: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """(what was done, bytes) of `count` mutants: a bit flipped, a part cut off, left out, repeated or overwritten."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 64))
        what = int(rng.integers(5))
        if what == 0:
            yield f"cut at {at}", data[:at]
        elif what == 1:
            yield f"{length} bytes out at {at}", data[:at] + data[at + length :]
        elif what == 2:
            yield f"{length} bytes again at {at}", data[: at + length] + data[at:]
        elif what == 3:
            yield f"{length} bytes at {at} overwritten", data[:at] + rng.bytes(length) + data[at + length :]
        else:
            flipped = bytearray(data)
            flipped[at] ^= 1 << int(rng.integers(8))
            yield f"bit at {at} flipped", bytes(flipped)


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value; of long lists the first and the last alone."""
    steps: list[Any] = []
    if isinstance(content, dict):
        steps = list(content)
    elif isinstance(content, list):
        steps = sorted({0, len(content) - 1} & set(range(len(content))))
    for step in steps:
        yield (*path, step)
        yield from _places(content[step], (*path, step))
