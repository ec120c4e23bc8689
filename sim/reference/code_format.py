"""The widths and signs of a piecewise-linear unit's integers, in one value that tables and units share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range
from sim.reference.folding import SYMMETRIES

WIDTH_RANGE = (4, 32)
SIGNS = ("signed", "unsigned", "negative")
# most tables and units leave these at their default; a file names them only where it differs
OPTIONAL = {
    "intercept_bits": None,
    "slope_sign": "signed",
    "intercept_sign": "signed",
    "symmetry": "none",
    "fold_bits": 0,
}


@dataclass(frozen=True)
class CodeFormat:
    """The input codes, the coefficients and the output codes, checked on construction.

    Parameters
    ----------
    in_bits, coef_bits, out_bits : int
        Widths, 4..32 bits.
    in_signed, out_signed : bool
        Whether a code is two's complement.
    intercept_bits : int or None
        The width of intercepts, 2..32 bits; None is `coef_bits`, which is that of slopes in any case.
    slope_sign, intercept_sign : str
        "signed", two's complement; "unsigned"; or "negative", the negatives of unsigned words.
    symmetry : str
        How negative codes are served (`sim.reference.folding`); the table is then of |x|.
    fold_bits : int
        Where the symmetry is "gated" the fraction bits of slopes, where it is "complement" those of intercepts: 1 in
        these units is 2**fold_bits. Else 0.

    Raises
    ------
    InputError
        If a field is out of its range, or fields contradict each other; the line names it.
    """

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

    def __post_init__(self) -> None:
        for name in ("in_bits", "coef_bits", "out_bits"):
            require_range(name, getattr(self, name), *WIDTH_RANGE)
        if self.intercept_bits is not None:
            require_range("intercept_bits", self.intercept_bits, 2, WIDTH_RANGE[1])
        for name in ("in_signed", "out_signed"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise InputError(f"{name} must be true or false, not {getattr(self, name)!r}")
        for name, choices in (("slope_sign", SIGNS), ("intercept_sign", SIGNS), ("symmetry", SYMMETRIES)):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.symmetry != "none" and not self.in_signed:
            raise InputError(f"symmetry must be none if input codes are unsigned, not {self.symmetry!r}")
        if self.symmetry == "gated" and self.slope_sign == "negative":
            raise InputError("slope_sign must be signed or unsigned if symmetry is gated, not 'negative'")
        require_range("fold_bits", self.fold_bits, 0, 36 if self.symmetry in ("complement", "gated") else 0)

    @classmethod
    def of(cls, thing: Any) -> Self:
        """The format of a table or a configuration: anything with these fields as attributes."""
        return cls(**{field.name: getattr(thing, field.name) for field in fields(cls)})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The format from the keys of `content` that are its fields; a missing one has its default."""
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})

    def to_dict(self) -> dict[str, Any]:
        """The fields, without those of `OPTIONAL` that have their default."""
        return without_defaults({field.name: getattr(self, field.name) for field in fields(self)})

    def require_unfolded(self, what: str) -> None:
        """Raise `InputError` if the table is of |x|, which `what` cannot tell."""
        if self.folded:
            raise InputError(f"symmetry must be none for {what}, not {self.symmetry!r}")

    @property
    def folded(self) -> bool:
        """Whether the table is of |x|."""
        return self.symmetry != "none"

    @property
    def in_range(self) -> tuple[int, int]:
        """Smallest and largest input code."""
        return code_range(self.in_bits, self.in_signed)

    @property
    def compared_range(self) -> tuple[int, int]:
        """Smallest and largest of what is compared with thresholds: a code, or its magnitude."""
        return (0, -self.in_range[0]) if self.folded else self.in_range

    @property
    def threshold_range(self) -> tuple[int, int]:
        """Smallest and largest stored threshold."""
        return code_range(self.in_bits - self.folded, self.in_signed and not self.folded)

    @property
    def slope_range(self) -> tuple[int, int]:
        """Smallest and largest slope."""
        return _range(self.coef_bits, self.slope_sign)

    @property
    def intercept_width(self) -> int:
        """The width of an intercept."""
        return self.coef_bits if self.intercept_bits is None else self.intercept_bits

    @property
    def intercept_range(self) -> tuple[int, int]:
        """Smallest and largest intercept."""
        return _range(self.intercept_width, self.intercept_sign)

    @property
    def lists(self) -> dict[str, tuple[int, tuple[int, int]]]:
        """What hardware stores, in load order: the width of a list's words, and the smallest and largest number.

        A word is the low bits of a number. Of "negative" numbers that leaves the top bit out: it is 1 unless all others
        are 0.
        """
        return {
            "thresholds": (self.in_bits - self.folded, self.threshold_range),
            "slopes": (self.coef_bits, self.slope_range),
            "intercepts": (self.intercept_width, self.intercept_range),
        }

    @property
    def out_range(self) -> tuple[int, int]:
        """Smallest and largest output code."""
        return code_range(self.out_bits, self.out_signed)

    @property
    def factor_range(self) -> tuple[int, int]:
        """Smallest and largest factor of the product: a slope, or where the symmetry is "gated" a slope less 1 too."""
        low, high = self.slope_range
        return (low - (1 << self.fold_bits) if self.symmetry == "gated" else low), high

    def acc_bits(self, intercept_shift: int) -> int:
        """The width of the accumulator, which no code and no table with shifts up to `intercept_shift` overflows.

        It follows from the widths alone, or where a field of `OPTIONAL` differs from its default from the ranges.
        """
        if set(self.to_dict()).isdisjoint(OPTIONAL):
            return max(self.in_bits + self.coef_bits, self.coef_bits + intercept_shift) + 1
        magnitude = max(map(abs, self.in_range))
        largest = magnitude * max(map(abs, self.factor_range)) + (max(map(abs, self._addends)) << intercept_shift)
        return largest.bit_length() + 1

    @property
    def _addends(self) -> tuple[int, ...]:
        """The ends of what is added to the product, before its shift."""
        ends = self.intercept_range
        return (*ends, *((1 << self.fold_bits) - end for end in ends)) if self.symmetry == "complement" else ends


def without_defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` without the keys of `OPTIONAL` that have their default."""
    return {key: value for key, value in content.items() if key not in OPTIONAL or value != OPTIONAL[key]}


def _range(bits: int, sign: str) -> tuple[int, int]:
    low, high = code_range(bits, sign == "signed")
    return (-high, -low) if sign == "negative" else (low, high)
