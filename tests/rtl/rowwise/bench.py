"""Rows through a unit in Amaranth's simulator: what differs from the specification, and how long it took."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.rtl.bench import simulate


def run_rows(
    unit: Any, inputs: Sequence[dict[str, np.ndarray]], expected: Sequence[np.ndarray], **how: Any
) -> tuple[list[tuple[int, int, int]], int]:
    """((row, expected, got) wherever an element or its `last` differs, cycles from the first beat in to the last out).

    `inputs` has the fields of each row's elements but `last`; `how` goes to `simulate`.
    """
    beats = [
        {name: int(values[k]) for name, values in row.items()} | {"last": int(k == len(y) - 1)}
        for row, y in zip(inputs, expected, strict=True)
        for k in range(len(y))
    ]
    want = [(r, int(v), int(k == len(y) - 1)) for r, y in enumerate(expected) for k, v in enumerate(y)]
    out, taken, given = simulate(unit, beats, **how)
    field = next(name for name, _ in unit.config.out_layout)
    got = [(o[field], o.last) for o in out]
    wrong = [(r, v, value) for (r, v, last), (value, end) in zip(want, got, strict=True) if (v, last) != (value, end)]
    return wrong, given[-1] - taken[0] + 1


def lengths(rng: np.random.Generator, shortest: int, longest: int, rows: int) -> list[int]:
    """Rows of every length there is, then runs of the shortest and the longest, then random ones."""
    runs = [shortest] * 6 + [longest] + [shortest] * 9 + [longest] * 3
    return [*range(shortest, longest + 1), *runs, *rng.integers(shortest, longest + 1, rows).tolist()]
