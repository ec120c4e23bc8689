"""Reading vector files, of units and of arrays."""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtl.units import simulated
from sim.common.files import checked_description, require_regular
from sim.reference import InputError
from sim.vectors.array import ArraySet
from sim.vectors.vector_set import FORMAT, MAX_BITS, VERSION, VectorSet, array_sha256

_KEYS = ("format", "version", "name", "unit", "configuration", "source", "arrays", "npz_sha256", "sha256")


def load(path: str | Path) -> VectorSet:
    """Read one vector set.

    Parameters
    ----------
    path : str or Path
        The JSON that describes it, with the .npz beside it.

    Returns
    -------
    VectorSet
        The set; an `ArraySet` if it is for an array.

    Raises
    ------
    InputError
        If anything is missing, unknown, damaged or foreign; one line with the file and the key.
    """
    path = Path(path)
    content = _description(path)
    data = _read_npz(path.with_suffix(".npz"), content)
    widths = {key: (row["bits"], row["signed"]) for key, row in content["arrays"].items() if "bits" in row}
    kind = ArraySet if content["unit"] == "array" else VectorSet
    try:
        return kind(content["name"], content["unit"], content["configuration"], data, widths, content["source"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def load_folder(folder: str | Path, units: Sequence[str] | None = None) -> list[VectorSet]:
    """Every set of the folder for these units, by name.

    Parameters
    ----------
    folder : str or Path
        The folder of the vector files.
    units : Sequence[str] or None
        The units' names; None for every unit that is simulated.

    Raises
    ------
    InputError
        If a file is not a vector set, or there is none for these units.
    """
    units = simulated() if units is None else units
    sets = [vectors for vectors in map(load, sorted(Path(folder).glob("*.json"))) if vectors.unit in units]
    if not sets:
        raise InputError(f"{folder}: must hold vector files for {', '.join(units)}, but there are none")
    return sets


def _description(path: Path) -> dict[str, Any]:
    content = checked_description(path, FORMAT, VERSION, _KEYS)
    for key in ("name", "unit"):
        if not isinstance(content[key], str):
            raise InputError(f"{path}: {key} must be a string, not {type(content[key]).__name__}")
    for key in ("configuration", "source", "arrays"):
        if not isinstance(content[key], dict):
            raise InputError(f"{path}: {key} must be an object, not {type(content[key]).__name__}")
    for key, row in content["arrays"].items():
        if not isinstance(row, dict) or not {"shape", "dtype", "sha256"} <= set(row):
            raise InputError(f"{path}: arrays[{key!r}] must have shape, dtype and sha256")
        if (
            ("bits" in row) != ("signed" in row)
            or type(row.get("bits", 1)) is not int
            or not 1 <= row.get("bits", 1) <= MAX_BITS
        ):
            raise InputError(f"{path}: arrays[{key!r}] must have bits in 1..{MAX_BITS} and signed, or neither")
    return content


def _read_npz(path: Path, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    require_regular(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(data).hexdigest() != content["npz_sha256"]:
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
        if array_sha256(array) != row["sha256"]:
            raise InputError(f"{path}: {key} is corrupted: its SHA-256 is not the one in {path.stem}.json")
    return arrays
