"""What a `bitwright-packed` folder holds, read and checked without torch: its description, and its tensors' shapes.

`quant.formats.packed` reads the tensors themselves. A safetensors file begins with the length of its header, 8 bytes,
and the header, a JSON of each tensor's type, shape and place; the rest is the tensors.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quant.formats.packed_schema import require_content
from sim.common.files import checked_description, require_regular
from sim.reference import InputError

FORMAT, VERSION = "bitwright-packed", 1
DESCRIPTION = "packed.json"
BIT_ORDER = "least significant bit first; code i of a row fills bits i*b..i*b+b-1; each row begins at a byte"
_KEYS = ("format", "version", "plan", "plan_sha256", "data_sha256", "boundary", "bounds", "details", "bit_order",
         "weights", "tables", "tensors", "files", "sha256")  # fmt: skip
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
         "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}  # fmt: skip
_INTEGERS = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "<u1"}  # safetensors' types in numpy


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: its type as safetensors calls it, its shape, and its bytes."""

    kind: str
    shape: tuple[int, ...]
    data: memoryview

    def integers(self) -> np.ndarray:
        """The values of a tensor of integers. Raises `InputError` for another type."""
        if self.kind not in _INTEGERS:
            raise InputError(f"must be integers, not {self.kind}")
        return np.frombuffer(self.data, _INTEGERS[self.kind]).reshape(self.shape)


@dataclass(frozen=True)
class PackedIndex:
    """The checked description, and every tensor of the files by name."""

    content: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def load(cls, folder: str | Path) -> "PackedIndex":
        """Read a folder. Raises `InputError`, one line with the file, for anything missing, altered or truncated."""
        content = read_description(folder)
        stored: dict[str, Tensor] = {}
        for name, data in read_files(folder, content).items():
            stored |= _tensors(Path(folder) / name, data)
        require_tensors(folder, content, stored)
        return cls(content, stored)


def read_description(folder: str | Path) -> dict[str, Any]:
    """The checked content of `packed.json`. Raises `InputError` with the file and key at fault."""
    path = Path(folder) / DESCRIPTION
    content = checked_description(path, FORMAT, VERSION, _KEYS, content_sha256)
    if content["bit_order"] != BIT_ORDER:
        raise InputError(f"{path}: bit_order must be {BIT_ORDER!r}, not {content['bit_order']!r}")
    try:
        require_content(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return content


def content_sha256(content: Mapping[str, Any]) -> str:
    """As `sim.common.files.description_sha256`, of a text without spaces, which is the format's own."""
    kept = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_files(folder: str | Path, content: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of each file that the description names, whose hashes must be those it gives; `InputError` if not."""
    found: dict[str, bytes] = {}
    for name, digest in content["files"].items():
        path = plain_file(Path(folder), name, DESCRIPTION)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"{path}: truncated or altered: its SHA-256 is not the one in {DESCRIPTION}")
        found[name] = data
    return found


def plain_file(folder: Path, name: object, source: str) -> Path:
    """The file `name` of a folder, as `source` lists it.

    Raises
    ------
    InputError
        If the name is not a plain file name, or names something other than a regular file.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise InputError(f"{folder / source}: files must have plain names, not {name!r}")
    path = folder / name
    require_regular(path)
    return path


def require_tensors(folder: str | Path, content: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Raise `InputError` unless the files hold the tensors that the description lists."""
    if set(stored) != set(content["tensors"]):
        odd = sorted(set(stored) ^ set(content["tensors"]))
        path = Path(folder) / DESCRIPTION
        raise InputError(f"{path}: tensors must be those of the files; unknown or missing: {odd[0]}")


def _tensor(name: str, row: Mapping[str, Any], body: memoryview) -> Tensor:
    """A tensor of a header; `ValueError` if its shape and type take other bytes than its place has."""
    kind, shape, (start, end) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
    if any(type(size) is not int or size < 0 for size in (*shape, start, end)):
        raise ValueError(f"{name}: shape and data_offsets must be integers from 0")
    if not start <= end <= len(body) or math.prod(shape) * _BITS[kind] != 8 * (end - start):
        raise ValueError(f"{name}: its shape {list(shape)} does not fit the file")
    return Tensor(kind, shape, body[start:end])


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        body = memoryview(data)[end:]
        return {name: _tensor(name, row, body) for name, row in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from None
