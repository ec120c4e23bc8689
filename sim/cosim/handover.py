"""A hand-over folder: a unit's Verilog for each set of vectors, with a manifest of the hashes of all its files.

`python -m cost_model build` writes it (`cost_model.handover`); `python -m sim regress --from` checks it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.common.files import LOCK, checked_description, description_sha256
from sim.cosim.dut import Device, read_device
from sim.reference import InputError
from sim.vectors.files import load
from sim.vectors.vector_set import VectorSet

FORMAT, VERSION = "bitwright-handover", 1
MANIFEST = "manifest.json"
KEYS = ("format", "version", "point", "sets", "files", "sha256")


def write_manifest(folder: Path, point: Mapping[str, Any], sets: Mapping[str, str]) -> None:
    """Write the manifest of a folder, last: the `point` that it was built for, the Verilog's path by each set's name,
    and the SHA-256 of every other file.
    """
    files = {name: _sha256(folder / name) for name in _files(folder)}
    content = {"format": FORMAT, "version": VERSION, "point": dict(point), "sets": dict(sets), "files": files}
    content["sha256"] = description_sha256(content)
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files are all as it says.

    Raises
    ------
    InputError
        If a file is missing, changed or too many, or a set is of other files; one line that names it.
    """
    content = checked_description(folder / MANIFEST, FORMAT, VERSION, KEYS)
    for key in ("sets", "files"):
        if not isinstance(content[key], dict) or not all(isinstance(text, str) for text in content[key].values()):
            raise InputError(f"{folder / MANIFEST}: {key} must be an object of texts")
    odd = sorted(set(_files(folder)) ^ set(content["files"]))
    if odd:
        where = "is not in the folder" if odd[0] in content["files"] else f"is not in {MANIFEST}"
        raise InputError(f"{folder}: {odd[0]} {where}")
    for name, digest in content["files"].items():
        if _sha256(folder / name) != digest:
            raise InputError(f"{folder / name}: its SHA-256 is not the one in {MANIFEST}")
    for name, path in content["sets"].items():
        for file in (_vectors(name), path):
            if file not in content["files"]:
                raise InputError(f"{folder / MANIFEST}: sets: {file!r} must be one of its files")
    return content


def sets_of(folder: Path) -> list[tuple[VectorSet, Device]]:
    """Every set of vectors of a checked folder with the Verilog beside it. Raises `InputError` as `read_manifest`."""
    content = read_manifest(folder)
    return [(load(folder / _vectors(name)), read_device(folder / path)[0]) for name, path in content["sets"].items()]


def _vectors(name: str) -> str:
    return f"vectors/{name}.json"


def _files(folder: Path) -> list[str]:
    """The files of a folder, without the manifest and the locks that writers leave."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, LOCK))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
