"""An emitted floating-point unit in Icarus, on patterns given as columns."""

from pathlib import Path
from typing import Any

import numpy as np

from rtl import emit
from rtl.pwl import Word
from sim.reference.floating import FloatFormat
from tests.rtl.bench import Drive, icarus

TINY = FloatFormat(3, 4)  # 8 bits: every pair of patterns can be had


def run(
    folder: Path,
    component: Any,
    columns: list[np.ndarray],
    bits: list[int],
    out_bits: int,
    words: list[Word],
    seed: int,
) -> np.ndarray:
    """The outputs for payloads of `columns`, of `bits` each, the first in the low bits; a `seed` stalls the output."""
    emit.emit(folder / "unit.v", "unit", component)
    beats = [0] * len(columns[0])
    offset = 0
    for column, width in zip(columns, bits, strict=True):
        beats = [beat | int(pattern) << offset for beat, pattern in zip(beats, column, strict=True)]
        offset += width
    return np.array(icarus(folder / "unit.v", beats, (offset, out_bits), Drive(words, seed=seed)))


def every_pair(number: FloatFormat) -> tuple[np.ndarray, np.ndarray]:
    every = np.arange(1 << number.bits)
    return np.repeat(every, len(every)), np.tile(every, len(every))
