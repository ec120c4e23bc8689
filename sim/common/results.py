"""Files of measured figures: the records, what measured them and on what, and a hash over all of it."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sim.common.errors import InputError
from sim.common.files import PATIENCE, description_sha256, locked, read_json, write_whole

FORMAT = "bitwright-results"
VERSION = 1


def write_results(
    path: str | Path, command: str, records: Sequence[Any], packages: Sequence[str] = (), **details: Any
) -> dict[str, Any]:
    """Write `records` with their origin to `path`, whose folder is held meanwhile.

    Parameters
    ----------
    path : str or Path
        The JSON file.
    command : str
        The command that measured them, without the user's paths.
    records : sequence
        What was measured, in JSON's types; it becomes the key `rows`.
    packages : sequence of str
        Distributions whose versions are recorded besides Python's and bitwright's; None if one is not installed.
    **details
        Further keys: settings, targets, versions of other tools (`versions`, added to those of the packages).

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    InputError
        The file cannot be written, or another run goes on holding its folder.
    """
    versions = {"python": platform.python_version(), **{name: _version(name) for name in ("bitwright", *packages)}}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "command": command,
        "machine": machine(),
        "versions": versions | details.pop("versions", {}),
        **details,
        "rows": list(records),
    }
    content["sha256"] = description_sha256(content)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    with locked(Path(path).parent, PATIENCE):
        write_whole(path, text)
    return content


def read_results(path: str | Path) -> dict[str, Any]:
    """What `write_results` wrote to `path`.

    Raises
    ------
    InputError
        The file is missing or no file of results, or its content is not what its hash was made of.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise InputError(f'{path}: format must be "{FORMAT}" and version {VERSION}')
    if content.get("sha256") != description_sha256(content):
        raise InputError(f"{path}: corrupted: its own SHA-256 is not the one it names")
    try:
        json.dumps(content, allow_nan=False)
    except ValueError:
        raise InputError(f"{path}: numbers must be finite") from None
    if not isinstance(content.get("rows"), list):
        raise InputError(f"{path}: rows must be a list")
    return content


def machine() -> dict[str, Any]:
    """The processor, the number of cores and the system; no host name and no path."""
    return {"processor": _processor(), "cores": os.cpu_count(), "system": platform.system()}


def _processor() -> str:
    """The model's name where Linux gives it, else the architecture."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
