"""Recorded calls of operators, from which vectors are made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.network.operators.tables import ValueTable
from sim.reference import InputError
from sim.vectors.random_rows import Rows

Call = tuple[tuple[Any, ...], Any]  # arguments and result
Seen = dict[str, list[Call]]  # by the operator's name, batch by batch


def joined(pieces: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> Rows:
    """The rows of several batches, one after the other."""
    rows = [Rows.of_batch(codes, mask) for codes, mask in pieces]
    masked = any(part.valid is not None for part in rows)
    flags = [np.ones(len(p.codes), dtype=bool) if p.valid is None else p.valid for p in rows]
    return Rows(
        np.concatenate([part.lengths for part in rows]),
        np.concatenate([part.codes for part in rows]),
        np.concatenate(flags) if masked else None,
    )


def results(calls: Sequence[Call]) -> np.ndarray:
    """The results of all calls as (rows, channels), int64."""
    return np.concatenate([result.flatten(0, -2).numpy() for _, result in calls]).astype(np.int64)


def require_fitted(site: str, table: Any) -> None:
    """Raise InputError if `table` is the exact control, which no unit holds."""
    if isinstance(table, ValueTable):
        raise InputError(f"{site}: no unit holds the control; convert with tables")


def require_same(name: str, specification: np.ndarray, network: np.ndarray) -> None:
    """Raise AssertionError unless PyTorch and the specification agree."""
    if not np.array_equal(specification, network):
        raise AssertionError(f"{name}: PyTorch and sim.reference differ")
