"""Vector files: inputs and the outputs the specification gives for them, with everything a bench must load first.

A set is a `.npz` of integer arrays and a `.json` of what they are. One set serves one unit in one configuration. It
holds L loads (a lowered table and its shifts, or a requantiser's constants) and V vectors, the first `counts[0]` of
which belong to the first load, and so on. Where the unit works on rows, a vector is an element of one, and
`inputs.last` is 1 for the last of each.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtl.units import UNITS
from sim.common.files import description_sha256, write_together
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.floating import FloatFormat, greater_equal

FORMAT, VERSION = "bitwright-vectors", 1
TABLE_LISTS = ("thresholds", "slopes", "intercepts")
NARROW = 64  # bits of the widest payload field whose values fit an int64 each
WORD = 32  # bits of a word of a wider one
MAX_BITS = 256  # of any field; no accumulator is so wide


@dataclass(frozen=True)
class VectorSet:
    """Vectors for one unit.

    `arrays`, all int64: `inputs` and `expected` (V,), or where a payload has fields one (V,) array for each, named
    `inputs.FIELD`, lowest bit first (one wider than 64 bits has words, see `column`); `counts` (L,); and per load the
    table's lists `thresholds` (L, N-1), `slopes` and `intercepts` (L, N) where the unit has a table, every quasi-static
    input (L,) under its port's name, and the scale exponent `s` (L,). `widths` gives (bits, signed) of each array that
    the hardware carries, payloads always. `configuration` holds the unit's parameters and `source` where the vectors
    come from.

    Raises `InputError` if shapes disagree or a value does not fit its width.
    """

    name: str
    unit: str
    configuration: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    widths: Mapping[str, tuple[int, bool]]
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise InputError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        for side in ("inputs", "expected"):
            if not self.columns(side):
                raise InputError(f"missing array {side!r}")
        for key, array in self.arrays.items():
            if array.dtype != np.int64:
                raise InputError(f"{key} must be int64, not {array.dtype}")
            if array.ndim < 1:
                raise InputError(f"{key} must have a row for each vector or load, not be a single number")
        if not self.size:
            raise InputError("inputs must have at least one vector")
        self._check_rows()
        for key, (bits, signed) in self.widths.items():
            if key not in self.arrays:
                raise InputError(f"widths name {key!r}, which is not an array")
            if bits > NARROW and (not _is_payload(key) or self.arrays[key].shape[1:] != (-(-bits // WORD),)):
                raise InputError(f"{key} must have {-(-bits // WORD)} words of {WORD} bits for its {bits} bits")
            values = integers(self.arrays[key]) if bits > NARROW else self.arrays[key]
            low, high = code_range(bits, signed)
            if values.size and (values.min() < low or values.max() > high):
                raise InputError(f"{key} must be in {low}..{high}")

    def _check_rows(self) -> None:
        """Every array has a row for each vector, or for each load."""
        if "counts" not in self.arrays:
            raise InputError("missing array 'counts'")
        for key, array in self.arrays.items():
            rows = self.size if _is_payload(key) else len(self.counts)
            if len(array) != rows:
                raise InputError(f"{key} must have {rows} rows, not {list(array.shape)}")
            if _is_payload(key) and key not in self.widths:
                raise InputError(f"{key} must have a width")
            if _is_payload(key) and array.ndim != 1 and self.widths[key][0] <= NARROW:
                raise InputError(f"{key} must have one number for each vector, not {list(array.shape)}")
        if self.counts.ndim != 1 or not len(self.counts) or self.counts.min() < 1 or self.counts.sum() != self.size:
            raise InputError(f"counts must be positive and add up to the {self.size} inputs")
        if self.in_rows and not self.arrays["inputs.last"][np.cumsum(self.counts) - 1].all():
            raise InputError("inputs.last must be 1 at the end of each load")

    @property
    def size(self) -> int:
        """V, the number of vectors."""
        return len(next(iter(self.columns("inputs").values())))

    @property
    def counts(self) -> np.ndarray:
        return self.arrays["counts"]

    @property
    def in_rows(self) -> bool:
        """Whether the vectors are elements of rows."""
        return "inputs.last" in self.arrays

    def lengths(self, first: int, last: int) -> list[int]:
        """The lengths of the rows that the vectors `first` to `last` (excluded) are made of."""
        return np.diff(np.flatnonzero(self.arrays["inputs.last"][first:last]), prepend=-1).tolist()

    def cut(self, first: int, limit: int) -> int:
        """The last place in `first` to `limit` where the set can be cut, as no row is ever divided."""
        if limit >= self.size or not self.in_rows:
            return min(limit, self.size)
        ends = np.flatnonzero(self.arrays["inputs.last"][first:limit])
        return first + int(ends[-1]) + 1 if len(ends) else first

    def loaded(self, load: int) -> dict[str, Any]:
        """What is loaded or driven in one load, by name: a list's integers, or one integer."""
        arrays = {key: array for key, array in self.arrays.items() if not _is_payload(key) and key != "counts"}
        return {key: array[load].tolist() for key, array in arrays.items()}

    def load_of(self, vector: int) -> int:
        """The load that a vector belongs to."""
        return int(np.searchsorted(np.cumsum(self.counts), vector, side="right"))

    def columns(self, side: str) -> dict[str, np.ndarray]:
        """The arrays of `side`, "inputs" or "expected", by name: one, or one for each field of the payload."""
        return {key: array for key, array in self.arrays.items() if key.split(".")[0] == side}

    def bits(self, side: str) -> int:
        """The width of the payload."""
        return sum(self.widths[key][0] for key in self.columns(side))

    def payloads(self, side: str, part: slice = slice(None)) -> list[int]:
        """The payloads as the unit's port carries them: unsigned words, first field lowest."""
        words = [0] * len(range(self.size)[part])
        offset = 0
        for key, array in self.columns(side).items():
            bits = self.widths[key][0]
            mask = (1 << bits) - 1
            values = integers(array[part]).tolist()
            words = [word | (value & mask) << offset for word, value in zip(words, values, strict=True)]
            offset += bits
        return words

    def numbers(self, side: str, word: int) -> dict[str, int]:
        """What a payload's word stands for, by field; the inverse of `payloads`."""
        result, offset = {}, 0
        for key in self.columns(side):
            bits, signed = self.widths[key]
            value = word >> offset & ((1 << bits) - 1)
            result[key.rpartition(".")[2]] = value - (1 << bits) if signed and value >> (bits - 1) else value
            offset += bits
        return result

    def describe(self, vector: int, got: int) -> dict[str, Any]:
        """One vector in full, for a report: load, row, input, the table's segment, the load's settings, both outputs.

        `got` is the output's word; input and outputs are numbers, or objects where the payload has fields.
        """
        load = self.load_of(vector)
        part = slice(vector, vector + 1)
        row: dict[str, Any] = {"vector": vector, "load": load}
        if self.in_rows:
            ends = np.flatnonzero(self.arrays["inputs.last"][:vector])
            row |= {"row": len(ends), "position": vector - (int(ends[-1]) + 1 if len(ends) else 0)}
        row["input"] = _plain(self.numbers("inputs", self.payloads("inputs", part)[0]))
        row |= self._segment(load, row["input"])
        for key, array in self.arrays.items():
            if array.ndim == 1 and not _is_payload(key) and key != "counts":
                row[key] = int(array[load])
        row["expected"] = _plain(self.numbers("expected", self.payloads("expected", part)[0]))
        return row | {"got": _plain(self.numbers("expected", got))}

    def _segment(self, load: int, value: Any) -> dict[str, int]:
        """The entry of the load's table that serves an input, and a normaliser's code for it.

        Units for rows, whose code depends on the row, and units without a table have none.
        """
        thresholds = self.arrays.get("thresholds")
        if self.unit == "fp-pwl" and thresholds is not None:
            number = FloatFormat(**self.configuration["number"])
            return {"segment": int(greater_equal(number, value, thresholds[load]).sum())}
        if self.unit == "normaliser" and thresholds is not None:
            reference = UNITS["normaliser"].configuration(self.configuration).reference
            code = int(reference.normalise(np.array([value]))[0][0])
            return {"code": code, "segment": int((thresholds[load] <= code).sum())}
        if self.unit == "pwl" and thresholds is not None:
            return {"segment": int((thresholds[load] <= value).sum())}
        return {}

    def head(self, limit: int) -> "VectorSet":
        """The first `limit` vectors and the loads they need; the first rows that fit, where there are rows."""
        limit = self.cut(0, limit)
        if not limit:
            raise InputError(f"{self.name}: the first row is longer than the limit")
        before = np.cumsum(self.counts) - self.counts
        return self._chosen(np.arange(limit), np.minimum(self.counts, limit - before)[before < limit])

    def sample(self, loads: int, limit: int) -> "VectorSet":
        """The vectors that `sampled` chooses."""
        return self._of(self.sampled(loads, limit))

    def sampled(self, loads: int, limit: int) -> list[np.ndarray]:
        """The places of about `limit` vectors of each of the first loads, evenly over it; whole rows, where there are
        rows."""
        return self._every([max(1, count // limit) for count in self.counts[:loads].tolist()])

    def spread(self, limit: int) -> "VectorSet":
        """About `limit` vectors at most, evenly over all loads; whole rows, where there are rows."""
        return self._of(self._every([-(-self.size // limit)] * len(self.counts)))

    def shuffled(self, limit: int, seed: int) -> "VectorSet":
        """About `limit` vectors at most, drawn at random over all loads and in random order; not for rows."""
        rng = np.random.default_rng(seed)
        starts = np.cumsum(self.counts) - self.counts
        each = max(1, limit // len(self.counts))
        orders = [rng.permutation(count)[:each] for count in self.counts.tolist()]
        return self._of([start + order for start, order in zip(starts.tolist(), orders, strict=True)])

    def _of(self, chosen: Sequence[np.ndarray]) -> "VectorSet":
        return self._chosen(np.concatenate(chosen), np.array([len(part) for part in chosen], dtype=np.int64))

    def _every(self, steps: Sequence[int]) -> list[np.ndarray]:
        """For each load the places of one vector in `steps`, or one row in so many; the first one always."""
        chosen = []
        for load, step in enumerate(steps):
            first, count = int(self.counts[:load].sum()), int(self.counts[load])
            place = np.arange(count)
            if self.in_rows:
                last = self.arrays["inputs.last"][first : first + count]
                place = np.cumsum(last) - last  # the number of the element's row
            chosen.append(first + np.flatnonzero(place % step == 0))
        return chosen

    def _chosen(self, vectors: np.ndarray, counts: np.ndarray) -> "VectorSet":
        arrays = {
            key: array[vectors] if _is_payload(key) else array[: len(counts)] for key, array in self.arrays.items()
        }
        return replace(self, arrays={**arrays, "counts": counts})

    def save(self, folder: str | Path) -> Path:
        """Write `name.npz` and `name.json` under `folder`; returns the JSON's path. Same set, same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(self.arrays))
        arrays = {}
        for key, array in self.arrays.items():
            arrays[key] = {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": array_sha256(array)}
            if key in self.widths:
                arrays[key] |= dict(zip(("bits", "signed"), self.widths[key], strict=True))
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "unit": self.unit,
            "configuration": dict(self.configuration),
            "source": dict(self.source),
            "arrays": arrays,
            "npz_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        }
        content["sha256"] = description_sha256(content)
        path = Path(folder) / f"{self.name}.json"
        write_together({path.with_suffix(".npz"): buffer.getvalue(), path: json.dumps(content, indent=1) + "\n"})
        return path


def column(values: np.ndarray, bits: int) -> np.ndarray:
    """The array of a payload field of `bits`: int64 values, or, above 64 bits, (V, W) words of 32 bits each, the lowest
    first and the last with the sign."""
    if bits <= NARROW:
        return values.astype(np.int64)
    count = -(-bits // WORD)
    mask = (1 << WORD) - 1
    rows = [[value >> WORD * k & mask for k in range(count - 1)] + [value >> WORD * (count - 1)] for value in values]
    return np.array([[int(word) for word in row] for row in rows], dtype=np.int64)


def integers(array: np.ndarray) -> np.ndarray:
    """The values of a payload field: the inverse of `column`; Python integers where it has words."""
    if array.ndim == 1:
        return array
    words = array.astype(object)
    return sum(words[:, k] << WORD * k for k in range(array.shape[1]))  # pyright: ignore[reportReturnType]


def _is_payload(key: str) -> bool:
    return key.split(".")[0] in ("inputs", "expected")


def _plain(numbers: dict[str, int]) -> int | dict[str, int]:
    return numbers if len(numbers) > 1 else next(iter(numbers.values()))


def array_sha256(array: np.ndarray) -> str:
    """The hash of an array's bytes that a set's description holds."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
