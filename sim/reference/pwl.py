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
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sim.common.errors import InputError, require_range
from sim.common.files import read_text, write_whole
from sim.reference.code_format import CodeFormat
from sim.reference.folding import unfold
from sim.reference.lowered_table import LoweredTable
from sim.reference.table_format import (
    ADDED,
    FORMAT,
    KEYS,
    KINDS,
    VERSION,
    check_list,
    checked,
    checked_content,
    parsed,
    short,
)

# a name such as gelu or gelu-tanh, or package.module:callable; it reaches files, Verilog and paths
_FUNCTION = re.compile(r"(?!.{201})[\w-]+(\.[\w-]+)*(:[\w-]+(\.[\w-]+)*)?")
ENTRIES_RANGE = (2, 64)


def frac_bits_range(in_bits: int, coef_bits: int) -> tuple[int, int]:
    """The admitted slope and intercept fraction bits (λ and μ)."""
    return -in_bits, coef_bits + 4


def frac_bits_pairs(numbers: CodeFormat) -> list[tuple[int, int]]:
    """Every admitted (λ, μ), μ <= λ, ascending; where a table is folded, 1 must be an integer."""
    low, high = frac_bits_range(numbers.in_bits, numbers.coef_bits)
    highest = frac_bits_range(numbers.in_bits, numbers.intercept_width)[1]
    first = max(low, 0) if numbers.symmetry == "gated" else low
    lowest = max(low, 0) if numbers.symmetry == "complement" else low
    return [(s, i) for s in range(first, high + 1) for i in range(lowest, min(s, highest) + 1)]


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
    in_bits, in_signed, coef_bits, out_bits, out_signed, intercept_bits, slope_sign, intercept_sign, symmetry
        The `CodeFormat`. With a symmetry the table is of |x|, and its breakpoints are above 0.
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
    intercept_bits: int | None = None
    slope_sign: str = "signed"
    intercept_sign: str = "signed"
    symmetry: str = "none"
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__  # the dataclass is frozen; normalising happens once, here
        for name, kind in KINDS.items():
            set_field(self, name, checked(name, kind, getattr(self, name)))
        if self.intercept_bits == self.coef_bits:
            set_field(self, "intercept_bits", None)  # one table, one form
        numbers = self.code_format  # checks the widths
        if not _FUNCTION.fullmatch(self.function):
            raise InputError(
                "function must be a name or package.module:callable of at most 200 letters, digits and _ - . :, "
                f"not {short(self.function)}"
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
        if self.objective not in ("full", "inside", "both", "weights"):
            raise InputError(f'objective must be "full", "inside", "both" or "weights", not {self.objective!r}')
        require_range("bp_frac_bits", self.bp_frac_bits, 0, self.in_bits - 1)
        for name, bits in (("slope_frac_bits", self.coef_bits), ("intercept_frac_bits", numbers.intercept_width)):
            require_range(name, getattr(self, name), *frac_bits_range(self.in_bits, bits))
        one = {"gated": "slope_frac_bits", "complement": "intercept_frac_bits"}.get(self.symmetry)
        if one is not None and getattr(self, one) < 0:
            raise InputError(f"{one} must be at least 0 if symmetry is {self.symmetry}, not {getattr(self, one)}")
        if self.intercept_frac_bits > self.slope_frac_bits:
            raise InputError(
                f"intercept_frac_bits must be at most slope_frac_bits ({self.slope_frac_bits}), "
                f"not {self.intercept_frac_bits}"
            )
        require_range("entries", len(self.slopes), *ENTRIES_RANGE)
        check_list("slopes", self.slopes, len(self.slopes), numbers.slope_range)
        check_list("intercepts", self.intercepts, len(self.slopes), numbers.intercept_range)
        limit = 1 << (self.in_bits - (1 if self.in_signed else 0) + self.bp_frac_bits)
        lowest = 1 if numbers.folded else -limit
        check_list("breakpoints", self.breakpoints, len(self.slopes) - 1, (lowest, limit))
        for j, (a, b) in enumerate(zip(self.breakpoints, self.breakpoints[1:], strict=False)):
            if a > b:
                raise InputError(f"breakpoints must be sorted, but breakpoints[{j}] = {a} > breakpoints[{j + 1}] = {b}")

    @property
    def code_format(self) -> CodeFormat:
        """The widths and signs of the codes and coefficients."""
        return CodeFormat.of(self)

    @property
    def fold_bits(self) -> int:
        """Of the `CodeFormat`."""
        return {"gated": max(self.slope_frac_bits, 0), "complement": max(self.intercept_frac_bits, 0)}.get(
            self.symmetry, 0
        )

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
            to a code if there is an `output_scale`; where the table has a symmetry that of |x|, unfolded. Python
            integers, same shape as `q`.
        """
        codes = np.asarray(q).astype(object)
        magnitudes = codes if self.symmetry == "none" else np.abs(codes)
        x = magnitudes << self.bp_frac_bits  # in units of 2**-(scale + bp_frac_bits)
        entry = sum(((x >= (p << scale)).astype(np.int64) for p in self.breakpoints), np.zeros(x.shape, np.int64))
        slopes, intercepts = (np.array(values, dtype=object)[entry] for values in (self.slopes, self.intercepts))
        unit = self.slope_frac_bits + scale
        y = slopes * magnitudes + (intercepts << (unit - self.intercept_frac_bits))
        one = 1 << max(self.slope_frac_bits, 0) + (scale if self.symmetry == "complement" else 0)
        y = unfold(self.symmetry, y, codes, one)
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
        numbers = self.code_format
        low, high = numbers.threshold_range
        reach = self.thresholds(scale)
        if numbers.folded:
            reach = tuple(t - 1 for t in reach)  # |q| >= t is |q| > t - 1, which takes a bit less
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
            **numbers.to_dict(),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, keys in the order of the file format."""
        numbers = self.code_format.to_dict()
        content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for key in KEYS:
            value = getattr(self, key)
            content[key] = list(value) if isinstance(value, tuple) else value
        content |= {key: value for key, value in numbers.items() if key in ADDED}
        content["provenance"] = dict(self.provenance)
        return content

    def to_json(self) -> str:
        """The table file's text, one key a line; the same table gives the same bytes."""
        lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in self.to_dict().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, source: str = "table") -> "PwlTable":
        """Read a table file's text. Raises `InputError` with `source` and the key if it is not valid."""
        return cls.from_dict(parsed(text, source), source)

    @classmethod
    def from_dict(cls, content: object, source: str = "table") -> "PwlTable":
        """The table from its JSON object, the inverse of `to_dict`.

        Raises `InputError` with `source` and the key if one is missing, unknown or refused.
        """
        try:
            return cls(**checked_content(content))
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    def save(self, path: str | Path) -> Path:
        """Write the table file beside `path`, then rename it."""
        return write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "PwlTable":
        """Read a table file. Raises `InputError` with the file and the key if it is not valid."""
        return cls.from_json(read_text(path), str(path))
