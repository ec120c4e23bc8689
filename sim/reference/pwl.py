"""The integer piecewise-linear unit: `PwlTable`, its lowering to a scale, and what the hardware computes.

A code q at scale exponent s represents x = q * 2**-s. Slopes are in units of 2**-slope_frac_bits, intercepts in units
of 2**-intercept_frac_bits and breakpoints in units of 2**-bp_frac_bits. Entry i serves
breakpoints[i-1] <= x < breakpoints[i].
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from sim.common.errors import InputError, require_range
from sim.common.files import read_text, write_whole
from sim.reference.arithmetic import exact_array, round_half_up, saturate
from sim.reference.code_format import CodeFormat

FORMAT, VERSION = "bitwright-pwl", 1
ENTRIES_RANGE = (2, 64)


def frac_bits_range(in_bits: int, coef_bits: int) -> tuple[int, int]:
    """The admitted slope and intercept fraction bits (λ and μ)."""
    return -in_bits, coef_bits + 4


def frac_bits_pairs(in_bits: int, coef_bits: int) -> list[tuple[int, int]]:
    """Every admitted (λ, μ), μ <= λ, ascending."""
    low, high = frac_bits_range(in_bits, coef_bits)
    return [(s, i) for s in range(low, high + 1) for i in range(low, s + 1)]


def default_scales(in_bits: int) -> tuple[int, ...]:
    """The scale exponents that a fit serves by default, seven of them: 0..6 for 8 bits, higher ones for wider codes."""
    return tuple(range(max(0, in_bits - 8), in_bits - 1))


@dataclass(frozen=True)
class PwlTable:
    """A piecewise-linear table of N entries: immutable, hashable, validated on construction.

    Parameters
    ----------
    function : str
        The name of the function.
    domain : tuple of float
        The interval that was fitted.
    scales : tuple of int
        Input scale exponents that the table serves, ascending.
    slope_frac_bits, intercept_frac_bits, bp_frac_bits : int
        Fraction bits of slopes (λ), intercepts (μ, at most λ) and breakpoints.
    slopes, intercepts : tuple of int
        N coefficients each, signed `coef_bits` integers.
    breakpoints : tuple of int
        N-1 sorted integers.
    normaliser_step : int or None
        The octaves g of the domain of a normaliser's table (see `sim.reference.normaliser`).
    objective : str
        What the fit minimised: "full", "inside" or "weights".
    in_bits, in_signed, coef_bits, out_bits, out_signed
        The `CodeFormat`.
    provenance : mapping
        Free-form JSON; copied, and ignored by equality and hash.

    Raises
    ------
    InputError
        If a field is out of its range; the line names it.
    """

    function: str
    domain: tuple[float, float]
    scales: tuple[int, ...]
    slope_frac_bits: int
    intercept_frac_bits: int
    bp_frac_bits: int
    slopes: tuple[int, ...]
    intercepts: tuple[int, ...]
    breakpoints: tuple[int, ...]
    normaliser_step: int | None = None
    objective: str = "full"
    in_bits: int = 8
    in_signed: bool = True
    coef_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True
    symmetry: str = "none"
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen; normalising happens once, here
        for name, kind in _KINDS.items():
            set_field(self, name, _checked(name, kind, getattr(self, name)))
        CodeFormat.of(self)  # checks the widths
        if not _FUNCTION.fullmatch(self.function):
            raise InputError(
                "function must be a name or package.module:callable of at most 200 letters, digits and _ - . :, "
                f"not {_short(self.function)}"
            )
        low, high = self.domain if len(self.domain) == 2 else (math.nan, math.nan)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"domain must be two finite numbers, low below high, not {list(self.domain)}")
        if not self.scales or list(self.scales) != sorted(set(self.scales)):
            raise InputError(f"scales must be distinct and ascending, not {list(self.scales)}")
        for scale in self.scales:
            require_range("scales", scale, 0, self.in_bits - 1)
        if self.normaliser_step is not None:
            require_range("normaliser_step", self.normaliser_step, 1, self.in_bits)
        if self.objective not in ("full", "inside", "weights"):
            raise InputError(f'objective must be "full", "inside" or "weights", not {self.objective!r}')
        if self.symmetry != "none":
            raise InputError(f'symmetry must be "none", not {self.symmetry!r}')
        require_range("bp_frac_bits", self.bp_frac_bits, 0, self.in_bits - 1)
        for name in ("slope_frac_bits", "intercept_frac_bits"):
            require_range(name, getattr(self, name), *frac_bits_range(self.in_bits, self.coef_bits))
        if self.intercept_frac_bits > self.slope_frac_bits:
            raise InputError(
                f"intercept_frac_bits must be at most slope_frac_bits ({self.slope_frac_bits}), "
                f"not {self.intercept_frac_bits}"
            )
        require_range("entries", len(self.slopes), *ENTRIES_RANGE)
        _check_list("slopes", self.slopes, len(self.slopes), self.code_format.coef_range)
        _check_list("intercepts", self.intercepts, len(self.slopes), self.code_format.coef_range)
        limit = 1 << (self.in_bits - (1 if self.in_signed else 0) + self.bp_frac_bits)
        _check_list("breakpoints", self.breakpoints, len(self.slopes) - 1, (-limit, limit))
        for j, (a, b) in enumerate(zip(self.breakpoints, self.breakpoints[1:], strict=False)):
            if a > b:
                raise InputError(f"breakpoints must be sorted, but breakpoints[{j}] = {a} > breakpoints[{j + 1}] = {b}")

    @property
    def code_format(self) -> CodeFormat:
        """The widths and signs of the codes and coefficients."""
        return CodeFormat.of(self)

    @property
    def entries(self) -> int:
        """N, the number of (slope, intercept) pairs."""
        return len(self.slopes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON (sorted keys, no white space) without `provenance`."""
        content = self.to_dict()
        del content["provenance"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def thresholds(self, scale: int) -> tuple[int, ...]:
        """ceil(p * 2**scale) for each breakpoint p, not yet clamped to the codes.

        The ceiling makes a breakpoint exact at every scale S = 2**-scale: q >= ceil(p / S) exactly if q * S >= p.
        """
        require_range("scale", scale, 0, self.in_bits - 1)
        b = self.bp_frac_bits
        return tuple(p << (scale - b) if scale >= b else -((-p) >> (b - scale)) for p in self.breakpoints)

    def define(self, q: np.ndarray, scale: int, output_scale: int | None = None) -> np.ndarray:
        """What a unit must answer, from the table alone and not from what the hardware stores of it.

        Parameters
        ----------
        q : ndarray
            Codes at `scale`, any shape; x = q * 2**-scale.
        scale : int
            Their scale exponent.
        output_scale : int or None
            That of the output; None for the accumulator, in units of 2**-(slope_frac_bits + scale).

        Returns
        -------
        ndarray
            slope * x + intercept of the last entry whose breakpoint is at most x, exact, rounded half up and saturated
            to a code if there is an `output_scale`. Python integers, same shape as `q`.
        """
        x = np.asarray(q).astype(object) << self.bp_frac_bits  # in units of 2**-(scale + bp_frac_bits)
        entry = sum(((x >= (p << scale)).astype(np.int64) for p in self.breakpoints), np.zeros(x.shape, np.int64))
        slopes, intercepts = (np.array(values, dtype=object)[entry] for values in (self.slopes, self.intercepts))
        unit = self.slope_frac_bits + scale
        y = slopes * np.asarray(q).astype(object) + (intercepts << (unit - self.intercept_frac_bits))
        if output_scale is None:
            return y
        shift = unit - output_scale
        y = (y + ((1 << shift) >> 1)) >> shift
        return np.clip(y, *self.code_format.out_range)

    def lower(self, scale: int, output_scale: int | None = None) -> "LoweredTable":
        """The table as the hardware stores it for input codes at one scale.

        Parameters
        ----------
        scale : int
            The scale exponent of the input codes.
        output_scale : int or None
            The output is rounded to units of 2**-output_scale; None keeps the accumulator, in units of
            2**-(slope_frac_bits + scale).

        Raises
        ------
        InputError
            If a shift would be negative.
        """
        low, high = self.code_format.in_range
        reach = self.thresholds(scale)
        last = sum(t <= high for t in reach)  # the last entry that a code can reach
        clamp = [min(i, last) for i in range(self.entries)]
        output_shift = None if output_scale is None else self.slope_frac_bits + scale - output_scale
        if output_shift is not None and output_shift < 0:
            raise InputError(
                f"output_scale must be at most {self.slope_frac_bits + scale} at scale {scale} "
                f"(slope_frac_bits + scale), not {output_scale}"
            )
        return LoweredTable(
            thresholds=tuple(min(max(t, low), high) for t in reach),
            slopes=tuple(self.slopes[i] for i in clamp),
            intercepts=tuple(self.intercepts[i] for i in clamp),
            intercept_shift=scale + self.slope_frac_bits - self.intercept_frac_bits,
            output_shift=output_shift,
            s=scale,
            **asdict(self.code_format),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, keys in the order of the file format."""
        content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for key in _KEYS:
            value = getattr(self, key)
            content[key] = list(value) if isinstance(value, tuple) else value
        content["provenance"] = dict(self.provenance)
        return content

    def to_json(self) -> str:
        """The table file's text, one key a line; the same table gives the same bytes."""
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in self.to_dict().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, source: str = "table") -> "PwlTable":
        """Read a table file's text. Raises `InputError` with `source` and the key if it is not valid."""
        try:
            content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{source}: not valid JSON ({error.msg}, line {error.lineno} column {error.colno})"
            ) from None
        except (RecursionError, ValueError) as error:
            raise InputError(f"{source}: not valid JSON ({error})") from None
        return cls.from_dict(content, source)

    @classmethod
    def from_dict(cls, content: object, source: str = "table") -> "PwlTable":
        """The table from its JSON object, the inverse of `to_dict`.

        Raises `InputError` with `source` and the key if one is missing, unknown or refused.
        """
        try:
            return cls(**_checked_content(content))
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write the table file beside `path`, then rename it."""
        return write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "PwlTable":
        """Read a table file. Raises `InputError` with the file and the key if it is not valid."""
        return cls.from_json(read_text(path), str(path))


@dataclass(frozen=True)
class LoweredTable:
    """A table at one scale, as the hardware stores it, and the arithmetic of the unit.

    Parameters
    ----------
    thresholds : tuple of int
        N-1 input codes.
    slopes, intercepts : tuple of int
        N integers each.
    intercept_shift : int
        Left shift of an intercept to units of the accumulator, 2**-(slope_frac_bits + s).
    output_shift : int or None
        Right shift of the accumulator to the output code; None if the output is the accumulator.
    s : int
        The scale exponent of the input codes.
    in_bits, in_signed, coef_bits, out_bits, out_signed
        The `CodeFormat`.

    Raises
    ------
    InputError
        If one of these five is out of its range; the line names it.
    """

    thresholds: tuple[int, ...]
    slopes: tuple[int, ...]
    intercepts: tuple[int, ...]
    intercept_shift: int
    output_shift: int | None
    s: int
    in_bits: int = 8
    in_signed: bool = True
    coef_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True

    STORED = ("thresholds", "slopes", "intercepts", "intercept_shift", "output_shift", "s")

    def __post_init__(self) -> None:
        CodeFormat.of(self)  # checks the widths

    @property
    def code_format(self) -> CodeFormat:
        """The widths and signs of the codes and coefficients."""
        return CodeFormat.of(self)

    @property
    def acc_bits(self) -> int:
        """Accumulator width that no code and no table overflows; the sum for rounding takes one more bit."""
        return max(self.in_bits + self.coef_bits, self.coef_bits + self.intercept_shift) + 1

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, lists as tuples."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "LoweredTable":
        """The table from its fields, lists as JSON has them."""
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
        return cls(**fields)

    def codes(self) -> np.ndarray:
        """Every input code, ascending; int64, shape (2**in_bits,)."""
        low, high = self.code_format.in_range
        return np.arange(low, high + 1, dtype=np.int64)

    def segment(self, q: np.ndarray) -> np.ndarray:
        """The entry i = #{j : q >= thresholds[j]} of each code; same shape as `q`."""
        q = np.asarray(q)
        if q.dtype.kind not in "iu":
            raise InputError(f"codes must be integers, not {q.dtype}")
        low, high = self.code_format.in_range
        if q.size and not (low <= q.min() and q.max() <= high):
            raise InputError(f"codes must be in {low}..{high}, not {q.min()}..{q.max()}")
        return np.searchsorted(np.asarray(self.thresholds, dtype=np.int64), q.astype(np.int64), side="right")

    def accumulate(self, q: np.ndarray) -> np.ndarray:
        """acc = slopes[i] * q + (intercepts[i] << intercept_shift), same shape as `q`.

        int64, or an object array of Python integers if 62 bits are too few.
        """
        i = self.segment(q)
        bits = self.acc_bits + 1
        slopes, intercepts = exact_array(self.slopes, bits), exact_array(self.intercepts, bits)
        return slopes[i] * exact_array(q, bits) + (intercepts[i] << self.intercept_shift)

    def output(self, q: np.ndarray) -> np.ndarray:
        """y = saturate(round_half_up(acc, output_shift)), int64 codes of `out_bits`."""
        if self.output_shift is None:
            raise InputError("output needs a table that was lowered with an output_scale")
        return saturate(round_half_up(self.accumulate(q), self.output_shift), self.out_bits, self.out_signed)

    def stored(self) -> dict[str, Any]:
        """What the hardware stores, by key; every export has exactly these keys."""
        return {key: getattr(self, key) for key in self.STORED}


# a name such as gelu or gelu-tanh, or package.module:callable; it reaches files, Verilog and paths
_FUNCTION = re.compile(r"(?!.{201})[\w-]+(\.[\w-]+)*(:[\w-]+(\.[\w-]+)*)?")
_KEYS = (
    "function", "domain", "normaliser_step", "scales", "objective",
    "in_bits", "in_signed", "coef_bits", "out_bits", "out_signed",
    "slope_frac_bits", "intercept_frac_bits", "bp_frac_bits", "symmetry",
    "slopes", "intercepts", "breakpoints",
)  # fmt: skip
# what each field must be; the constructor and the file are held to the same
_KINDS = {
    **dict.fromkeys(("function", "objective", "symmetry"), "a string"),
    **dict.fromkeys(("in_signed", "out_signed"), "true or false"),
    **dict.fromkeys(("in_bits", "coef_bits", "out_bits"), "an integer"),
    **dict.fromkeys(("slope_frac_bits", "intercept_frac_bits", "bp_frac_bits"), "an integer"),
    "normaliser_step": "an integer or null",
    "domain": "two numbers",
    **dict.fromkeys(("scales", "slopes", "intercepts", "breakpoints"), "a list of integers"),
    "provenance": "an object of JSON values",
}


def _checked(name: str, kind: str, value: Any) -> Any:
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
    raise InputError(f"{name} must be {kind}, not {_short(value)}")


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_, np.ndarray))


def _is_real(value: Any) -> bool:
    return _is_integer(value) or isinstance(value, (float, np.floating))


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond float64 is refused as not finite
        return math.inf


def _short(value: Any) -> str:
    """`value` as JSON, or as Python's repr, cut to fit a line."""
    try:
        return json.dumps(value)[:60]
    except TypeError:
        return repr(value)[:60]


def _check_list(name: str, values: tuple[int, ...], length: int, limits: tuple[int, int]) -> None:
    if len(values) != length:
        raise InputError(f"{name} must have {length} integers, not {len(values)}")
    for i, value in enumerate(values):
        require_range(f"{name}[{i}]", value, *limits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key {next(key for key in keys if keys.count(key) > 1)!r}")
    return content


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _checked_content(content: object) -> dict[str, Any]:
    """The constructor's arguments from a parsed file, with format, version and keys checked."""
    if not isinstance(content, dict):
        raise InputError(f"must be a JSON object, not {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise InputError(f'format must be "{FORMAT}", not {content.get("format")!r}')
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise InputError(f"version must be {VERSION}, not {content.get('version')!r}")
    arguments = {key: value for key, value in content.items() if key not in ("format", "version")}
    for key in arguments:
        if key not in _KEYS and key != "provenance":
            raise InputError(f"unknown key {key!r}")
    for key in (*_KEYS, "provenance"):
        if key not in arguments:
            raise InputError(f"missing key {key!r}")
    return arguments
