"""Files of a network's explored points: what `python -m cost_model explore network` writes, checked as a whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cost_model.explore.network_space import NetworkPoint
from sim.common.results import read_results
from sim.reference import InputError

TEXTS = ("model", "point")  # of a row, besides the point's fields
OPTIONAL_TEXTS = ("label", "refused", "packed_sha256")


def read_points(path: str | Path) -> dict[str, Any]:
    """The content of a file of points.

    Raises
    ------
    InputError
        If it is another file, or a row is not the one of its point; one line that names the file and the key.
    """
    content = read_results(path)
    search, objectives = content.get("search"), content.get("objectives")
    if not isinstance(search, dict) or not isinstance(search.get("subject"), dict):
        raise InputError(f"{path}: must come from python -m cost_model explore network")
    for key in ("name", "texts"):
        if key not in search["subject"]:
            raise InputError(f"{path}: search.subject must have {key}")
    if not isinstance(content.get("command"), str):
        raise InputError(f"{path}: command must be a text")
    if not content["rows"]:
        raise InputError(f"{path}: rows must hold a point")
    if not isinstance(objectives, list) or not objectives or not all(isinstance(name, str) for name in objectives):
        raise InputError(f"{path}: objectives must be names of columns")
    for k, row in enumerate(content["rows"]):
        _check(row, objectives, f"{path}: rows[{k}]")
    return content


def _check(row: Any, objectives: list[str], where: str) -> None:
    if not isinstance(row, Mapping):
        raise InputError(f"{where} must be an object")
    for key in (*TEXTS, *OPTIONAL_TEXTS, "on_front", *objectives):
        if key not in row:
            raise InputError(f"{where} must have {key}")
    for key in (*TEXTS, *OPTIONAL_TEXTS):
        if not isinstance(row[key], str) and (key in TEXTS or row[key] is not None):
            raise InputError(f"{where}.{key} must be a text, not {row[key]!r}")
    for key in objectives:
        if row[key] is not None and (isinstance(row[key], bool) or not isinstance(row[key], int | float)):
            raise InputError(f"{where}.{key} must be a number or null, not {row[key]!r}")
    try:
        point = NetworkPoint.from_row(row)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if row["point"] != point.digest:
        raise InputError(f"{where}.point must be {point.digest} for its fields, not {row['point']!r}")
