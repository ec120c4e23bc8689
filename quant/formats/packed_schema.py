"""The schema of `packed.json`: every value is of its type and in its range before any tensor is read.

Each function raises `InputError`, one line with the key at fault; the caller adds the file's name.
"""

import math
from collections.abc import Mapping
from typing import Any

from sim.reference import InputError
from sim.reference.code_format import OPTIONAL, CodeFormat
from sim.reference.hadamard import MAX_BLOCK
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS

MOST = 1 << 31  # of one axis
_WEIGHT = {"shape": None, "bits": (2, 8), "signed": None, "group_size": (1, MOST), "multiplier_bits": (0, 16)}
_TABLE = {"intercept_shift": (0, 64), "output_shift": (0, 128), "s": (-64, 128), "in_bits": (1, 32),
          "coef_bits": (1, 64), "out_bits": (1, 64)}  # fmt: skip
_ACTIVATION = {"bits": (2, 16), "multiplier": (1, (1 << MULTIPLIER_BITS) - 1), "shift": (0, MAX_SHIFT),
               "zero_point": (0, (1 << 16) - 1)}  # fmt: skip


def require_content(content: Mapping[str, Any]) -> None:
    """Check the values of `packed.json`, whose keys are known to be there; `details` is its maker's own."""
    _require_finite(content)
    for key in ("plan", "boundary", "bounds", "details", "weights", "tables", "tensors", "files"):
        _object(key, content[key])
    for key in ("boundary", "tensors", "files"):
        for name, value in content[key].items():
            _text(f"{key}[{name!r}]", value)
    _text("plan_sha256", content["plan_sha256"])
    if content["data_sha256"] is not None:
        _text("data_sha256", content["data_sha256"])
    for name, file in content["tensors"].items():
        if file not in content["files"]:
            raise InputError(f"tensors[{name!r}] must be one of the files, not {file[:60]!r}")
    for name, bound in content["bounds"].items():
        _integer(f"bounds[{name!r}]", bound, 0, 1 << 63)
    for name, row in content["weights"].items():
        _weight(f"weights[{name!r}]", row)
    for name, row in content["tables"].items():
        _table(f"tables[{name!r}]", row)


def require_details(details: Mapping[str, Any], tensors: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Check the details that this package writes: layers, rows, ties and coverage."""
    for key in ("layers", "tied"):
        _object(f"details.{key}", details.get(key))
    _coverage("details.coverage", details.get("coverage", {}))
    rows = details.get("rows")
    if not isinstance(rows, list):
        raise InputError(f"details.rows must be a list of objects, not {_short(rows)}")
    for i, row in enumerate(rows):
        _object(f"details.rows[{i}]", row)
        _text(f"details.rows[{i}].module", row.get("module"))
    for name, row in details["layers"].items():
        key = f"details.layers[{name!r}]"
        if f"{name}.weight" not in weights:
            raise InputError(f"{key} has no weight")
        _object(key, row)
        if "activation" not in row:
            raise InputError(f"{key}: missing key 'activation'")
        if row["activation"] is not None:
            _activation(f"{key}.activation", row["activation"])
    for name, source in details["tied"].items():
        _text(f"details.tied[{name!r}]", source)
        if source not in tensors and source not in weights:
            raise InputError(f"details.tied[{name!r}] must be the name of a tensor or weight, not {source[:60]!r}")


def _coverage(key: str, coverage: Any) -> None:
    _object(key, coverage)
    if coverage:  # a maker may leave it out
        for name in ("integer_parameters", "parameters", "bytes_before", "bytes_after"):
            _integer(f"{key}.{name}", coverage.get(name), 1, 1 << 62)
        for name in ("share", "multiply_accumulate_share"):
            value = coverage.get(name, 0.0)
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InputError(f"{key}.{name} must be a number in 0..1, not {_short(value)}")
        _integer(f"{key}.multiply_accumulates", coverage.get("multiply_accumulates", 1), 1, 1 << 62)
        _object(f"{key}.skipped", coverage.get("skipped"))


def _weight(key: str, row: Any) -> None:
    _keys(key, row, tuple(_WEIGHT))
    shape = row["shape"]
    if not isinstance(shape, list) or len(shape) != 2:
        raise InputError(f"{key}.shape must be a pair of integers, not {_short(shape)}")
    for i, size in enumerate(shape):
        _integer(f"{key}.shape[{i}]", size, 1, MOST)
    _boolean(f"{key}.signed", row["signed"])
    for name, limits in _WEIGHT.items():
        if limits is not None:
            _integer(f"{key}.{name}", row[name], *limits)


def _table(key: str, row: Any) -> None:
    own = [name for name in OPTIONAL if name in row]
    _keys(key, row, (*_TABLE, "in_signed", "out_signed", *own))
    if own:
        CodeFormat.from_dict(row)  # checks them
    for name, limits in _TABLE.items():
        if not (name == "output_shift" and row[name] is None):
            _integer(f"{key}.{name}", row[name], *limits)
    for name in ("in_signed", "out_signed"):
        _boolean(f"{key}.{name}", row[name])


def _activation(key: str, row: Any) -> None:
    """An activation quantiser; multiplier and shift are both null if each token has its own scale."""
    _object(key, row)
    _keys(key, {k: v for k, v in row.items() if k != "hadamard"}, (*_ACTIVATION, "signed"))
    _boolean(f"{key}.signed", row["signed"])
    if "hadamard" in row:
        _block(f"{key}.hadamard", row["hadamard"])
    token = row["multiplier"] is None and row["shift"] is None
    for name, limits in _ACTIVATION.items():
        if not (token and name in ("multiplier", "shift")):
            _integer(f"{key}.{name}", row[name], *limits)


def _block(key: str, value: Any) -> None:
    """The block of a Hadamard transform."""
    _integer(key, value, 2, MAX_BLOCK)
    if value & (value - 1):
        raise InputError(f"{key} must be a power of two, not {value}")


def _require_finite(content: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity, which are not JSON, anywhere in the file."""
    left: list[tuple[str, Any]] = list(content.items())
    while left:
        key, value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{key} must be finite, not {value}")
        if isinstance(value, dict):
            left += [(f"{key}.{name}"[:200], part) for name, part in value.items()]
        elif isinstance(value, list):
            left += [(f"{key}[{i}]"[:200], part) for i, part in enumerate(value)]


def _keys(key: str, row: Any, names: tuple[str, ...]) -> None:
    _object(key, row)
    if odd := sorted(set(row) ^ set(names)):
        raise InputError(f"{key}: keys must be {', '.join(names)}; unknown or missing: {odd[0]}")


def _object(key: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{key} must be an object, not {_short(value)}")


def _text(key: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{key} must be text, not {_short(value)}")


def _boolean(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, not {_short(value)}")


def _integer(key: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"{key} must be an integer in {low}..{high}, not {_short(value)}")


def _short(value: Any) -> str:
    """The beginning of a value, on one line."""
    return "null" if value is None else repr(value)[:60]
