"""The widths and signs of a piecewise-linear unit's integers, in one value that tables and units share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from sim.common.errors import InputError, require_range
from sim.reference.arithmetic import code_range

WIDTH_RANGE = (4, 32)


@dataclass(frozen=True)
class CodeFormat:
    """The input codes, the coefficients and the output codes, checked on construction.

    Parameters
    ----------
    in_bits, coef_bits, out_bits : int
        Widths, 4..32 bits.
    in_signed, out_signed : bool
        Whether a code is two's complement. A coefficient always is.

    Raises
    ------
    InputError
        If a field is out of its range; the line names it.
    """

    in_bits: int = 8
    in_signed: bool = True
    coef_bits: int = 8
    out_bits: int = 8
    out_signed: bool = True

    def __post_init__(self) -> None:
        for name in ("in_bits", "coef_bits", "out_bits"):
            require_range(name, getattr(self, name), *WIDTH_RANGE)
        for name in ("in_signed", "out_signed"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise InputError(f"{name} must be true or false, not {getattr(self, name)!r}")

    @classmethod
    def of(cls, thing: Any) -> Self:
        """The format of a table or a configuration: anything with the five fields as attributes."""
        return cls(**{field.name: getattr(thing, field.name) for field in fields(cls)})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The format from the keys of `content` that are its fields; a missing one has its default."""
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})

    @property
    def in_range(self) -> tuple[int, int]:
        """Smallest and largest input code."""
        return code_range(self.in_bits, self.in_signed)

    @property
    def coef_range(self) -> tuple[int, int]:
        """Smallest and largest slope or intercept."""
        return code_range(self.coef_bits, True)

    @property
    def out_range(self) -> tuple[int, int]:
        """Smallest and largest output code."""
        return code_range(self.out_bits, self.out_signed)
