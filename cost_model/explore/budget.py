"""What an approximation may cost in accuracy: limits on the figures of a fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ga_search.paper import RELEASED_MSE
from sim.reference import InputError

RELEASED_ENTRIES = 8


@dataclass(frozen=True)
class Budget:
    """Limits on the errors of a table, as `ga_search` measures them; None is no limit.

    Parameters
    ----------
    mse_full, mse_inside : float or None
        The most mean squared error of the accumulator on all codes and on those in the fitted domain.
    max_ulp : float or None
        The most error of a rounded output, in steps of its code.
    correctly_rounded : float or None
        The least share of correctly rounded outputs, 0..1.

    Raises
    ------
    InputError
        If no limit is given, or one is out of its range.
    """

    mse_full: float | None = None
    mse_inside: float | None = None
    max_ulp: float | None = None
    correctly_rounded: float | None = None

    def __post_init__(self) -> None:
        limits = {field.name: getattr(self, field.name) for field in fields(self)}
        if all(value is None for value in limits.values()):
            raise InputError(f"budget must limit one of {', '.join(limits)}")
        for name, value in limits.items():
            highest = 1.0 if name == "correctly_rounded" else float("inf")
            if value is not None and not 0 < value <= highest:
                raise InputError(f"{name} must be above 0 and at most {highest:g}, not {value!r}")

    @classmethod
    def released(cls, function: str) -> "Budget":
        """The errors of GQA-LUT's released table of 8 entries. Raises `InputError` if there is none of the function."""
        known = RELEASED_MSE.get((function, RELEASED_ENTRIES))
        if known is None:
            names = ", ".join(name for name, entries in RELEASED_MSE if entries == RELEASED_ENTRIES)
            raise InputError(f"--budget must be given for {function}; a released table is known of {names}")
        return cls(*known)

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Budget":
        """From texts such as "mse_full=3.8e-5". Raises `InputError` with the text that is not of this form."""
        limits: dict[str, float] = {}
        names = [field.name for field in fields(cls)]
        for text in texts:
            name, _, value = text.partition("=")
            try:
                limits[name] = float(value)
            except ValueError:
                raise InputError(f"--budget must be NAME=NUMBER, not {text!r}") from None
            if name not in names:
                raise InputError(f"--budget must be of {', '.join(names)}, not {name!r}")
        if len(limits) != len(texts):
            raise InputError(f"--budget must name each figure once, not {' '.join(texts)}")
        return cls(**limits)

    def met(self, row: Mapping[str, Any]) -> bool:
        """Whether the figures of a row, by name, are within every limit."""
        return self.excess(row) <= 1.0

    def excess(self, row: Mapping[str, Any]) -> float:
        """The worst figure in units of its limit; 1 or less is within the budget."""
        worst = 0.0
        for field in fields(self):
            limit, value = getattr(self, field.name), row[field.name]
            if limit is None:
                continue
            if value is None:
                return float("inf")
            if field.name == "correctly_rounded":  # a share of wrong ones, so that less is better here too
                limit, value = 1.0 - limit, 1.0 - value
            worst = max(worst, value / limit if limit else (float("inf") if value else 0.0))
        return worst
