"""Codes to try a unit with: every combination of the corners of its fields, then random ones of every magnitude."""

from collections.abc import Mapping
from itertools import product

import numpy as np

from sim.reference.arithmetic import code_range


def random_codes(rng: np.random.Generator, count: int, fields: Mapping[str, int]) -> dict[str, np.ndarray]:
    """`count` random beats behind the corners; `fields` are the widths of signed fields in bits."""
    ends = [code_range(bits, True) for bits in fields.values()]
    corners = np.array([*product(*((low, -1, 0, high) for low, high in ends))], dtype=np.int64).T
    random = [
        rng.integers(low, high, count, endpoint=True) >> rng.integers(0, high.bit_length(), count) for low, high in ends
    ]
    return {name: np.concatenate(parts) for name, *parts in zip(fields, corners, random, strict=True)}
