"""The tables of a Liberty file: an energy or a delay over input slew and load."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cost_model.cells import liberty
from cost_model.cells.liberty import Group, Units
from sim.reference import InputError


@dataclass(frozen=True)
class Surface:
    """An energy in J or a delay in s over (input slew in s, load in F), or over one of them, or constant."""

    values: np.ndarray
    slew_s: np.ndarray
    load_f: np.ndarray

    def at(self, slew_s: float, load_f: float) -> float:
        """The value by linear interpolation; the outermost interval is extrapolated."""
        row = [_line(self.load_f, line, load_f) for line in self.values]
        return _line(self.slew_s, np.array(row), slew_s)


def surfaces(
    groups: Sequence[Group], kinds: tuple[str, ...], units: Units, scale: float, what: str
) -> tuple[Surface, ...]:
    """The tables of these kinds in some groups, scaled to SI. Raises `InputError` with `what` if one is damaged."""
    return tuple(
        _surface(edge, units, scale, f"{what}: {edge.kind}") for group in groups for edge in group.of_kind(*kinds)
    )


def _surface(edge: Group, units: Units, scale: float, what: str) -> Surface:
    template = units.templates.get(edge.arguments[0] if edge.arguments else "", Group(""))
    lines = [liberty.numbers(line, f"{what}: values") for line in edge.attributes.get("values", ())]
    axes: dict[str, np.ndarray] = {"slew": np.zeros(1), "load": np.zeros(1)}
    order = []
    for position in ("1", "2"):
        variable = template.get(f"variable_{position}")
        index = edge.get(f"index_{position}") or template.get(f"index_{position}")
        if variable and index:
            axis = "load" if "capacitance" in variable else "slew"
            order.append(axis)
            axes[axis] = np.array(liberty.numbers(index, f"{what}: index_{position}"))
            if not len(axes[axis]) or (np.diff(axes[axis]) <= 0).any():
                raise InputError(f"{what}: index_{position} must rise, not {index[:40]!r}")
    slew, load = axes["slew"] * units.time, axes["load"] * units.capacitance
    values = np.array([value for line in lines for value in line]) * scale
    if values.size != slew.size * load.size:
        raise InputError(f"{what}: must have {slew.size * load.size} values for its indices, not {values.size}")
    if order == ["load", "slew"]:
        return Surface(values.reshape(load.size, slew.size).T, slew, load)
    return Surface(values.reshape(slew.size, load.size), slew, load)


def _line(x: np.ndarray, y: np.ndarray, at: float) -> float:
    if len(x) == 1:
        return float(y[0])
    k = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    return float(y[k] + (y[k + 1] - y[k]) * (at - x[k]) / (x[k + 1] - x[k]))
