"""Rows of integers for the units that work on rows: random, constant, one-hot, saturating and masked."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.reference.arithmetic import code_range

KINDS = ("random", "constant", "one-hot", "saturating", "near")
FULL = 4  # longest rows one after the other, which fill a unit's memory


@dataclass(frozen=True)
class Rows:
    """R rows one after the other: `lengths` (R,), `codes` (V,), and which are `valid` (V,), all where None."""

    lengths: np.ndarray
    codes: np.ndarray
    valid: np.ndarray | None = None

    @classmethod
    def of_batch(cls, codes: np.ndarray, valid: np.ndarray | None = None) -> "Rows":
        """The rows of an array (..., N), such as one dumped from a network, and the mask that goes with it."""
        codes = np.asarray(codes)
        lengths = np.full(codes.size // codes.shape[-1], codes.shape[-1])
        flags = None if valid is None else np.broadcast_to(valid, codes.shape).reshape(-1)
        return cls(lengths, codes.reshape(-1), flags)

    @property
    def last(self) -> np.ndarray:
        """1 for the last element of each row, else 0; (V,)."""
        flags = np.zeros(len(self.codes), dtype=np.int64)
        flags[np.cumsum(self.lengths) - 1] = 1
        return flags

    def evaluate(self, compute: Callable[[np.ndarray, np.ndarray | None], np.ndarray]) -> np.ndarray:
        """(V,) from `compute`, which takes codes and valid flags as (rows, length): one call for each length."""
        result = np.zeros(len(self.codes), dtype=np.int64)
        starts = np.cumsum(self.lengths) - self.lengths
        for length in np.unique(self.lengths):
            place = starts[self.lengths == length][:, None] + np.arange(length)
            result[place] = compute(self.codes[place], None if self.valid is None else self.valid[place])
        return result


def random_rows(
    rng: np.random.Generator, count: int, shortest: int, longest: int, bits: int, masked: bool = False
) -> Rows:
    """`count` rows of every kind: of each length once, then some of the longest, then of random lengths.

    random      normal, of any magnitude up to saturation, half of them within some dozens of codes
    constant    one code
    one-hot     the highest code among lowest ones
    saturating  codes at the ends and around zero
    near        codes that differ by a few units, somewhere

    Where `masked`, one row in two has invalid elements: some, all but one, or all.
    """
    every = np.concatenate([rng.permutation(np.arange(shortest, longest + 1)), np.full(FULL, longest)])[:count]
    lengths = np.concatenate([every, rng.integers(shortest, longest + 1, count - len(every))])
    low, high = code_range(bits, True)
    total, row = int(lengths.sum()), np.repeat(np.arange(len(lengths)), lengths)
    kind = rng.integers(0, len(KINDS), len(lengths))[row]
    ends = np.cumsum(lengths)
    chosen = ends - 1 - rng.integers(0, lengths)  # an element of each row
    is_chosen = np.zeros(total, dtype=bool)
    is_chosen[chosen] = True
    spread = 2.0 ** rng.uniform(0, np.where(rng.random(len(lengths)) < 0.5, 7, bits + 1))
    centre = rng.integers(low, high + 1, len(lengths))
    corners = np.unique(np.clip([low, low + 1, -129, -128, -1, 0, 1, high - 1, high], low, high))
    codes = np.select(
        [kind == 1, kind == 2, kind == 3, kind == 4],
        [
            centre[row],
            np.where(is_chosen, high, low),
            rng.choice(corners, total),
            centre[row] + rng.integers(-3, 4, total),
        ],
        rng.normal(0, spread[row], total) + np.where(rng.random(len(lengths)) < 0.5, 0, centre)[row],
    )
    codes = np.clip(codes, low, high).astype(np.int64)
    if not masked:
        return Rows(lengths, codes)
    mask = rng.choice(4, len(lengths), p=[0.5, 0.3, 0.1, 0.1])[row]
    valid = np.select([mask == 0, mask == 1, mask == 2], [True, rng.random(total) < 0.7, is_chosen], False)
    return Rows(lengths, codes, valid)
