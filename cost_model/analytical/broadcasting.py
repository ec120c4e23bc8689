"""Arithmetic on one design point or on many at once: every value is a number or an array."""

from collections.abc import Callable
from functools import reduce
from inspect import signature
from typing import Any

import numpy as np

from sim.reference import InputError

Array = Any  # a number or an array of them
WIDEST = 1 << 8  # integers in `each` are below this


def levels(ways: Array) -> Array:
    """ceil(log2(ways)), at least 0: the stages of a shifter or a tree."""
    return np.ceil(np.log2(np.maximum(np.asarray(ways, dtype=np.float64), 1)))


def bit_length(value: Array) -> Array:
    """The bits of an integer from 1 on."""
    return levels(np.asarray(value) + 1)


def require_integers(name: str, values: Array, low: int) -> None:
    """Raise `InputError` unless every value is an integer in `low`..255, which may be held as a float."""
    numbers = np.asarray(values)
    if numbers.dtype.kind not in "biuf":
        raise InputError(f"{name} must be an integer in {low}..{WIDEST - 1}, not {values!r}")
    wrong = ~((numbers >= low) & (numbers < WIDEST) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise InputError(f"{name} must be an integer in {low}..{WIDEST - 1}, not {numbers[wrong].flat[0]:g}")


def each(count: Callable[..., tuple[float, ...]], *integers: Array) -> list[Array]:
    """The results of `count` for arrays of integers in 0..255, computed once for each combination that occurs.

    Raises `InputError` with the name of `count`'s parameter if a value is not such an integer.
    """
    for number, values in enumerate(integers):
        require_integers(list(signature(count).parameters)[number], values, 0)
    shape = np.broadcast_shapes(*(np.shape(i) for i in integers))
    columns = [np.broadcast_to(np.asarray(i), shape).ravel().astype(np.int64) for i in integers]
    keys = reduce(lambda key, column: key * WIDEST + column, columns)
    found, where = np.unique(keys, return_inverse=True)
    powers = [WIDEST**power for power in reversed(range(len(integers)))]
    results = np.array(
        [count(*(key // power % WIDEST for power in powers)) for key in found.tolist()], dtype=np.float64
    )
    return [values[where].reshape(shape) for values in results.T]
