"""The table file: its keys, what each must be, and how its text is read."""

import json
import math
from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np

from sim.common.errors import InputError, require_range

FORMAT, VERSION = "bitwright-pwl", 1
KEYS = (
    "function", "domain", "normaliser_step", "scales", "objective",
    "in_bits", "in_signed", "coef_bits", "out_bits", "out_signed",
    "slope_frac_bits", "intercept_frac_bits", "bp_frac_bits", "symmetry",
    "slopes", "intercepts", "breakpoints",
)  # fmt: skip
# keys of a file only where they differ from their default
ADDED = ("intercept_bits", "slope_sign", "intercept_sign")
# what each field must be; the constructor and the file are held to the same
KINDS = {
    **dict.fromkeys(("function", "objective", "symmetry", "slope_sign", "intercept_sign"), "a string"),
    **dict.fromkeys(("in_signed", "out_signed"), "true or false"),
    **dict.fromkeys(("in_bits", "coef_bits", "out_bits"), "an integer"),
    **dict.fromkeys(("slope_frac_bits", "intercept_frac_bits", "bp_frac_bits"), "an integer"),
    **dict.fromkeys(("normaliser_step", "intercept_bits"), "an integer or null"),
    "domain": "two numbers",
    **dict.fromkeys(("scales", "slopes", "intercepts", "breakpoints"), "a list of integers"),
    "provenance": "an object of JSON values",
}


def checked(name: str, kind: str, value: Any) -> Any:
    """`value` as a plain Python object of `kind`. Raises `InputError` with `name` if it is another."""
    if kind == "a string" and isinstance(value, str):
        return value
    if kind == "true or false" and isinstance(value, (bool, np.bool_)):
        return bool(value)
    if kind == "an integer or null" and value is None:
        return None
    if kind.startswith("an integer") and _is_integer(value):
        return index(value)
    if kind == "two numbers" and isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_real, value)):
        return tuple(map(_as_float, value))
    if kind == "a list of integers" and isinstance(value, (list, tuple, np.ndarray)):
        for i, item in enumerate(value):
            if not _is_integer(item):
                raise InputError(f"{name}[{i}] must be an integer, not {item!r}")
        return tuple(map(index, value))
    if kind == "an object of JSON values" and isinstance(value, Mapping):
        try:
            return json.loads(json.dumps(dict(value), allow_nan=False))
        except (TypeError, ValueError):
            pass
    raise InputError(f"{name} must be {kind}, not {short(value)}")


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_, np.ndarray))


def _is_real(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, (float, np.floating))


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond float64 is refused as not finite
        return math.inf


def short(value: Any) -> str:
    """`value` as JSON, or as Python's repr, cut to fit a line."""
    try:
        return json.dumps(value)[:60]
    except TypeError:
        return repr(value)[:60]


def check_list(name: str, values: tuple[int, ...], length: int, limits: tuple[int, int]) -> None:
    if len(values) != length:
        raise InputError(f"{name} must have {length} integers, not {len(values)}")
    for i, value in enumerate(values):
        require_range(f"{name}[{i}]", value, *limits)


def parsed(text: str, source: str) -> object:
    """The content of a table file's text. Raises `InputError` with `source` if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}: not valid JSON ({error.msg}, line {error.lineno} column {error.colno})") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{source}: not valid JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def checked_content(content: object) -> dict[str, Any]:
    """The constructor's arguments from a parsed file, with format, version and keys checked."""
    if not isinstance(content, dict):
        raise InputError(f"must be a JSON object, not {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise InputError(f'format must be "{FORMAT}", not {content.get("format")!r}')
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise InputError(f"version must be {VERSION}, not {content.get('version')!r}")
    arguments = {key: value for key, value in content.items() if key not in ("format", "version")}
    for key in arguments:
        if key not in (*KEYS, *ADDED, "provenance"):
            raise InputError(f"unknown key {key!r}")
    for key in (*KEYS, "provenance"):
        if key not in arguments:
            raise InputError(f"missing key {key!r}")
    return arguments
