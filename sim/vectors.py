"""Vector files: inputs and the outputs the specification gives for them, with everything a bench must load first.

A set is a `.npz` of integer arrays and a `.json` of what they are. One set serves one unit in one configuration. It
holds L loads (a lowered table and its shifts, or a requantiser's constants) and V vectors, the first `counts[0]` of
which belong to the first load, and so on.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sim.reference import InputError
from sim.reference.files import read_text, write_whole
from sim.reference.floating import FloatFormat, greater_equal

FORMAT, VERSION = "bitwright-vectors", 1
UNITS = ("pwl", "normaliser", "requant", "fp-pwl", "fp-mac", "fp-mul", "fp-add", "fp-compare")
TABLE_LISTS = ("thresholds", "slopes", "intercepts")
_KEYS = ("format", "version", "name", "unit", "configuration", "source", "arrays", "npz_sha256")


@dataclass(frozen=True)
class VectorSet:
    """Vectors for one unit.

    `arrays`, all int64: `inputs` and `expected` (V,), or where a payload has fields one (V,) array for each, named
    `inputs.FIELD`, lowest bit first; `counts` (L,); and per load the table's lists `thresholds` (L, N-1), `slopes` and
    `intercepts` (L, N) where the unit has a table, every quasi-static input (L,) under its port's name, and the scale
    exponent `s` (L,). `widths` gives (bits, signed) of each array that the hardware carries, payloads always.
    `configuration` holds the unit's parameters and `source` where the vectors come from.

    Raises `InputError` where shapes disagree or a value does not fit its width.
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
        if "counts" not in self.arrays:
            raise InputError("missing array 'counts'")
        for key, array in self.arrays.items():
            if array.dtype != np.int64:
                raise InputError(f"{key} must be int64, not {array.dtype}")
            rows = self.size if _is_payload(key) else len(self.counts)
            if array.ndim < 1 or len(array) != rows:
                raise InputError(f"{key} must have {rows} rows, not {list(array.shape)}")
            if _is_payload(key) and key not in self.widths:
                raise InputError(f"{key} must have a width")
        if not len(self.counts) or self.counts.min() < 1 or self.counts.sum() != self.size:
            raise InputError(f"counts must be positive and add up to the {self.size} inputs")
        for key, (bits, signed) in self.widths.items():
            if key not in self.arrays:
                raise InputError(f"widths name {key!r}, which is no array")
            low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
            if self.arrays[key].min() < low or self.arrays[key].max() > high:
                raise InputError(f"{key} must be in {low}..{high}")

    @property
    def size(self) -> int:
        """V, the number of vectors."""
        return len(next(iter(self.columns("inputs").values())))

    @property
    def counts(self) -> np.ndarray:
        return self.arrays["counts"]

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
            words = [word | (value & mask) << offset for word, value in zip(words, array[part].tolist(), strict=True)]
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
        """One vector in full, for a report: load, input, the table's segment, the load's settings, both outputs.

        `got` is the output's word; input and outputs are numbers, or objects where the payload has fields.
        """
        load = self.load_of(vector)
        part = slice(vector, vector + 1)
        row: dict[str, Any] = {"vector": vector, "load": load}
        row["input"] = _plain(self.numbers("inputs", self.payloads("inputs", part)[0]))
        if self.unit == "pwl":
            row["segment"] = int((self.arrays["thresholds"][load] <= row["input"]).sum())
        if self.unit == "fp-pwl":
            number = FloatFormat(**self.configuration["number"])
            row["segment"] = int(greater_equal(number, row["input"], self.arrays["thresholds"][load]).sum())
        for key, array in self.arrays.items():
            if array.ndim == 1 and not _is_payload(key) and key != "counts":
                row[key] = int(array[load])
        row["expected"] = _plain(self.numbers("expected", self.payloads("expected", part)[0]))
        return row | {"got": _plain(self.numbers("expected", got))}

    def head(self, limit: int) -> "VectorSet":
        """The first `limit` vectors, and the loads they need."""
        before = np.cumsum(self.counts) - self.counts
        counts = np.minimum(self.counts, limit - before)[before < limit]
        arrays = {
            key: array[:limit] if _is_payload(key) else array[: len(counts)] for key, array in self.arrays.items()
        }
        return replace(self, arrays={**arrays, "counts": counts})

    def save(self, folder: str | Path) -> Path:
        """Write `name.npz` and `name.json` under `folder`; returns the JSON's path. Same set, same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(self.arrays))
        arrays = {}
        for key, array in self.arrays.items():
            arrays[key] = {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": _sha256(_bytes(array))}
            if key in self.widths:
                arrays[key] |= dict(zip(("bits", "signed"), self.widths[key], strict=True))
        content = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "unit": self.unit,
            "configuration": dict(self.configuration),
            "source": dict(self.source),
            "arrays": arrays,
            "npz_sha256": _sha256(buffer.getvalue()),
        }
        write_whole(Path(folder) / f"{self.name}.npz", buffer.getvalue())
        return write_whole(Path(folder) / f"{self.name}.json", json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "VectorSet":
        """Read the set described by the JSON at `path`, refusing any byte that is not what was written.

        Raises `InputError`, one line with the file and the key, for anything missing, unknown, damaged or foreign.
        """
        path = Path(path)
        content = _description(path)
        data = _read_npz(path.with_suffix(".npz"), content)
        widths = {key: (row["bits"], row["signed"]) for key, row in content["arrays"].items() if "bits" in row}
        try:
            return cls(content["name"], content["unit"], content["configuration"], data, widths, content["source"])
        except InputError as error:
            raise InputError(f"{path}: {error}") from None


def load_folder(folder: str | Path, units: tuple[str, ...] = UNITS) -> list[VectorSet]:
    """Every set of the folder for these units, by name. Raises `InputError` where there is none."""
    paths = sorted(Path(folder).glob("*.json"))
    sets = [vectors for vectors in map(VectorSet.load, paths) if vectors.unit in units]
    if not sets:
        raise InputError(f"{folder}: must hold vector files for {', '.join(units)}, but there are none")
    return sets


def _description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'{path}: format must be "{FORMAT}"')
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version must be {VERSION}, not {content.get('version')!r}")
    if sorted(content) != sorted(_KEYS):
        odd = sorted(set(content) ^ set(_KEYS))
        raise InputError(f"{path}: keys must be {', '.join(_KEYS)}; unknown or missing: {', '.join(odd)}")
    for key in ("configuration", "source", "arrays"):
        if not isinstance(content[key], dict):
            raise InputError(f"{path}: {key} must be an object, not {type(content[key]).__name__}")
    for key, row in content["arrays"].items():
        if not isinstance(row, dict) or not {"shape", "dtype", "sha256"} <= set(row):
            raise InputError(f"{path}: arrays[{key!r}] must have shape, dtype and sha256")
        if (
            ("bits" in row) != ("signed" in row)
            or type(row.get("bits", 1)) is not int
            or not 1 <= row.get("bits", 1) <= 64
        ):
            raise InputError(f"{path}: arrays[{key!r}] must have bits in 1..64 and signed, or neither")
    return content


def _read_npz(path: Path, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if _sha256(data) != content["npz_sha256"]:
        raise InputError(f"{path}: corrupted: its SHA-256 is not the one in {path.stem}.json")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{path}: not an .npz of integer arrays ({error})") from None
    if set(arrays) != set(content["arrays"]):
        raise InputError(f"{path}: must hold {', '.join(content['arrays'])}, not {', '.join(arrays)}")
    for key, row in content["arrays"].items():
        array = arrays[key]
        if (array.dtype.str, list(array.shape)) != (row["dtype"], row["shape"]):
            raise InputError(
                f"{path}: {key} must be {row['dtype']} {row['shape']}, not {array.dtype.str} {array.shape}"
            )
        if _sha256(_bytes(array)) != row["sha256"]:
            raise InputError(f"{path}: {key} is corrupted: its SHA-256 is not the one in {path.stem}.json")
    return arrays


def _is_payload(key: str) -> bool:
    return key.split(".")[0] in ("inputs", "expected")


def _plain(numbers: dict[str, int]) -> int | dict[str, int]:
    return numbers if len(numbers) > 1 else next(iter(numbers.values()))


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
