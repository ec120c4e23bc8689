"""What the hardware stores of a table at one scale, and the arithmetic of the piecewise-linear unit."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sim.common.errors import InputError
from sim.reference.arithmetic import exact_array, round_half_up, saturate
from sim.reference.code_format import CodeFormat, without_defaults
from sim.reference.folding import unfold


@dataclass(frozen=True)
class LoweredTable:
    """A table at one scale, as the hardware stores it, and the arithmetic of the unit.

    Parameters
    ----------
    thresholds : tuple of int
        N-1 input codes; where the table is folded, each one less than the magnitude from which on an entry serves.
    slopes, intercepts : tuple of int
        N integers each.
    intercept_shift : int
        Left shift of an intercept to units of the accumulator, 2**-(slope_frac_bits + s).
    output_shift : int or None
        Right shift of the accumulator to the output code; None if the output is the accumulator.
    s : int
        The scale exponent of the input codes.
    in_bits, in_signed, coef_bits, out_bits, out_signed, intercept_bits, slope_sign, intercept_sign, symmetry, fold_bits
        The `CodeFormat`.

    Raises
    ------
    InputError
        If a field of the format is out of its range; the line names it.
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
    intercept_bits: int | None = None
    slope_sign: str = "signed"
    intercept_sign: str = "signed"
    symmetry: str = "none"
    fold_bits: int = 0

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
        return self.code_format.acc_bits(self.intercept_shift)

    @property
    def one(self) -> int:
        """What `sim.reference.folding.unfold` takes for 1: 2**fold_bits, shifted where it is added to intercepts."""
        return 1 << self.fold_bits + (self.intercept_shift if self.symmetry == "complement" else 0)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, lists as tuples; without those of `code_format.OPTIONAL` that have their default."""
        return without_defaults({field.name: getattr(self, field.name) for field in fields(self)})

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
        """The entry of each code: how many thresholds are at most q; folded, how many are below |q|. Shaped as `q`."""
        q = np.asarray(q)
        if q.dtype.kind not in "iu":
            raise InputError(f"codes must be integers, not {q.dtype}")
        low, high = self.code_format.in_range
        if q.size and not (low <= q.min() and q.max() <= high):
            raise InputError(f"codes must be in {low}..{high}, not {q.min()}..{q.max()}")
        thresholds, q = np.asarray(self.thresholds, dtype=np.int64), q.astype(np.int64)
        if self.symmetry != "none":
            return np.searchsorted(thresholds, np.abs(q), side="left")
        return np.searchsorted(thresholds, q, side="right")

    def accumulate(self, q: np.ndarray) -> np.ndarray:
        """acc = slopes[i] * q + (intercepts[i] << intercept_shift), same shape as `q`; folded that of |q|, unfolded.

        int64, or an object array of Python integers if 62 bits are too few.
        """
        i = self.segment(q)
        bits = self.acc_bits + 1
        slopes, intercepts = exact_array(self.slopes, bits), exact_array(self.intercepts, bits)
        codes = exact_array(q, bits)
        if self.symmetry == "none":
            return slopes[i] * codes + (intercepts[i] << self.intercept_shift)
        y = slopes[i] * np.abs(codes) + (intercepts[i] << self.intercept_shift)
        return unfold(self.symmetry, y, codes, self.one)

    def output(self, q: np.ndarray) -> np.ndarray:
        """y = saturate(round_half_up(acc, output_shift)), int64 codes of `out_bits`."""
        if self.output_shift is None:
            raise InputError("output needs a table that was lowered with an output_scale")
        return saturate(round_half_up(self.accumulate(q), self.output_shift), self.out_bits, self.out_signed)

    def stored(self) -> dict[str, Any]:
        """What the hardware stores, by key; every export has exactly these keys."""
        return {key: getattr(self, key) for key in self.STORED}
