"""Pareto fronts: which of many points no other point beats."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.reference import InputError

MISSING = float("inf")


def nondominated(values: np.ndarray) -> np.ndarray:
    """Which rows of (points, objectives) are on the front, all objectives to be small; bool (points,).

    A point is beaten by one that is nowhere larger and somewhere smaller. Equal points are all on the front; one with
    an infinite objective never is.
    """
    values = np.asarray(values, dtype=np.float64)
    beaten = [bool(((values <= own).all(1) & (values < own).any(1)).any()) for own in values]
    return np.isfinite(values).all(1) & ~np.array(beaten, dtype=bool)


def mark(rows: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with `on_front` for these columns; a row without a figure is not on it.

    Raises `InputError` if no row has a column of that name.
    """
    for name in objectives:
        if not any(name in row for row in rows):
            raise InputError(f"objective {name!r} is no column; there are {', '.join(rows[0]) if rows else 'no rows'}")
    values = [[MISSING if row[name] is None else row[name] for name in objectives] for row in rows]
    flags = nondominated(np.array(values, dtype=np.float64).reshape(len(rows), len(objectives)))
    return [{**row, "on_front": bool(flag)} for row, flag in zip(rows, flags, strict=True)]
