"""A cell library: areas, leakage, capacitances, energies and functions of its cells, in SI units.

**Energy of a transition.** A cell's output that changes costs the mean of `rise_power` and `fall_power` over its arcs,
at a nominal input slew and no load, plus half C V² for its load; an input pin that changes costs its own
`internal_power` (the group without `when`, else the mean of all), which is how a flip-flop pays for its clock edges.
Tables are read at no load because some rise with it by exactly half C V²: those of IHP's flip-flops, characterised with
both outputs loaded and one subtracted. Read at their load, these would count it twice. Arcs of an asynchronous clear or
preset take no part, nor does an output that nothing reads: Q and its complement each carry the whole cell's energy.
"""

import hashlib
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np

from cost_model.cells import liberty
from cost_model.cells.liberty import Group
from sim.common.files import read_text
from sim.reference import InputError

GATE_EQUIVALENTS = Path(__file__).parents[1] / "data" / "gate_equivalents.lib"
NOMINAL_SLEW_S = 0.1e-9
_PREFIX = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}


@dataclass(frozen=True)
class Surface:
    """An energy in joules over (input slew in s, load in F), or over one of them, or constant."""

    values: np.ndarray
    slew_s: np.ndarray
    load_f: np.ndarray

    def at(self, slew_s: float, load_f: float) -> float:
        """Linear between the points, and along the last interval beyond them."""
        row = [_line(self.load_f, line, load_f) for line in self.values]
        return _line(self.slew_s, np.array(row), slew_s)


@dataclass(frozen=True)
class Pin:
    """A pin: its capacitance in F, its function where it is an output, its energies per transition."""

    name: str
    output: bool
    capacitance_f: float
    function: str
    clock: bool
    energies: tuple[Surface, ...]

    @cached_property
    def energy(self) -> float:
        """The mean energy of a transition of this pin without its load, in J; 0 where the library gives none."""
        return fmean(surface.at(NOMINAL_SLEW_S, 0.0) for surface in self.energies) if self.energies else 0.0


@dataclass(frozen=True)
class Cell:
    """A cell. `state` is its `ff` or `latch` group's kind and attributes, empty where the cell is combinational."""

    name: str
    area: Decimal
    leakage_w: float
    pins: dict[str, Pin]
    state: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Pin]:
        return [pin for pin in self.pins.values() if pin.output]

    @property
    def inputs(self) -> list[Pin]:
        return [pin for pin in self.pins.values() if not pin.output]


@dataclass(frozen=True)
class Library:
    """All cells of a Liberty file that have an area; `unknown_area` names those without."""

    name: str
    sha256: str
    text: str
    area_unit: str
    voltage_v: float
    cells: dict[str, Cell]
    unknown_area: frozenset[str]

    def cell(self, name: str) -> Cell:
        """A cell by name. Raises `InputError` where the library lacks it or does not give its area."""
        if name in self.unknown_area:
            raise InputError(f"library {self.name}: the area of cell {name} is unknown")
        if name not in self.cells:
            raise InputError(f"library {self.name}: cell {name} is missing")
        return self.cells[name]

    @property
    def has_energies(self) -> bool:
        """Whether figures in watts can come from it: it gives energies, a voltage and physical areas."""
        return self.voltage_v > 0 and self.area_unit == "um2" and any(p.energies for p in self._output_pins)

    @property
    def _output_pins(self) -> list[Pin]:
        return [pin for cell in self.cells.values() for pin in cell.outputs]

    def charging(self, load: float) -> float:
        """What charging or discharging a load costs: half C V² in J, or the capacitance itself where there is no V."""
        return 0.5 * self.voltage_v**2 * load if self.has_energies else load

    @cached_property
    def tie_cells(self) -> dict[str, tuple[str, str]]:
        """The cell and pin that give a constant, by "0" and "1"."""
        found: dict[str, tuple[str, str]] = {}
        for cell in self.cells.values():
            if not cell.inputs and len(cell.outputs) == 1 and cell.outputs[0].function in ("0", "1"):
                found.setdefault(cell.outputs[0].function, (cell.name, cell.outputs[0].name))
        return found

    @cached_property
    def buffer(self) -> str | None:
        """A buffer of middle strength: it stands for whatever drives the inputs."""
        buffers = [
            cell
            for cell in self.cells.values()
            if len(cell.inputs) == 1
            and len(cell.outputs) == 1
            and cell.outputs[0].function.strip("() ") == cell.inputs[0].name
        ]
        return sorted(buffers, key=lambda cell: cell.area)[min(1, len(buffers) - 1)].name if buffers else None


@lru_cache(maxsize=8)
def load(path: Path = GATE_EQUIVALENTS) -> Library:
    """Read a library. Raises `InputError` for a missing file or one that is no library with cells."""
    text = read_text(path)
    root = liberty.parse(text, str(path))
    name = root.arguments[0] if root.arguments else path.stem
    units = _Units(root, str(path))
    cells, unknown = {}, set()
    for group in root.of_kind("cell"):
        cell_name = group.arguments[0]
        if group.get("dont_use") == "true":
            continue
        try:
            area = Decimal(group.get("area"))
        except InvalidOperation:
            unknown.add(cell_name)
            continue
        cells[cell_name] = _cell(group, area, units)
    if not cells:
        raise InputError(f"{path}: must hold cells with areas, but there are none")
    voltage = float(root.get("nom_voltage", "0"))
    unit = "GE" if root.get("comment").startswith("gate equivalents") else "um2"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Library(name, digest, text, unit, voltage, cells, frozenset(unknown))


class _Units:
    """Scales from the file's units to SI."""

    def __init__(self, root: Group, source: str) -> None:
        load = root.attributes.get("capacitive_load_unit", ("1", "pf"))
        self.capacitance = float(load[0]) * _PREFIX[load[1].lower()[:-1]]
        self.time = self._scale(root.get("time_unit", "1ns"), "s", source)
        self.leakage = self._scale(root.get("leakage_power_unit", "1nW"), "W", source)
        volt = self._scale(root.get("voltage_unit", "1V"), "V", source)
        self.energy = self.capacitance * volt**2  # Liberty's own definition of the unit of internal power
        self.templates = {
            t.arguments[0]: t for t in root.of_kind("power_lut_template", "lu_table_template") if t.arguments
        }

    @staticmethod
    def _scale(text: str, unit: str, source: str) -> float:
        match = re.fullmatch(rf"\s*([\d.]+)\s*([fpnum]?){unit}\s*", text, re.IGNORECASE)
        if not match:
            raise InputError(f"{source}: a unit must be like 1n{unit}, not {text!r}")
        return float(match[1]) * _PREFIX[match[2].lower()]


def _cell(group: Group, area: Decimal, units: _Units) -> Cell:
    state = {}
    for kind in group.of_kind("ff", "latch"):
        state = {"kind": kind.kind, "variable": kind.arguments[0], "inverse": (*kind.arguments, "", "")[1]}
        state |= {key: value[0] for key, value in kind.attributes.items()}
    leakage = float(group.get("cell_leakage_power", "0")) * units.leakage
    asynchronous = set(re.findall(r"\w+", state.get("clear", "") + " " + state.get("preset", "")))
    pins = {pin.arguments[0]: _pin(pin, units, asynchronous) for pin in group.of_kind("pin")}
    return Cell(group.arguments[0], area, leakage, pins, state)


def _pin(group: Group, units: _Units, asynchronous: set[str]) -> Pin:
    powers = [p for p in group.of_kind("internal_power") if p.get("related_pin") not in asynchronous]
    always = [power for power in powers if not power.get("when")]
    surfaces = []
    for power in always or powers:
        for edge in power.of_kind("rise_power", "fall_power", "power"):
            surfaces.append(_surface(edge, units))
    return Pin(
        name=group.arguments[0],
        output=group.get("direction") == "output",
        capacitance_f=float(group.get("capacitance", "0")) * units.capacitance,
        function=group.get("function"),
        clock=group.get("clock") == "true",
        energies=tuple(surfaces),
    )


def _surface(edge: Group, units: _Units) -> Surface:
    template = units.templates.get(edge.arguments[0] if edge.arguments else "", Group(""))
    rows = np.array([liberty.numbers(row) for row in edge.attributes["values"]]) * units.energy
    axes: dict[str, np.ndarray] = {"slew": np.zeros(1), "load": np.zeros(1)}
    order = []
    for position in ("1", "2"):
        variable = template.get(f"variable_{position}")
        index = edge.get(f"index_{position}") or template.get(f"index_{position}")
        if variable and index:
            axis = "load" if "capacitance" in variable else "slew"
            order.append(axis)
            axes[axis] = np.array(liberty.numbers(index))
    if order == ["load", "slew"]:
        rows = rows.T
    slew, load = axes["slew"] * units.time, axes["load"] * units.capacitance
    return Surface(rows.reshape(len(slew), len(load)), slew, load)


def _line(x: np.ndarray, y: np.ndarray, at: float) -> float:
    if len(x) == 1:
        return float(y[0])
    k = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    return float(y[k] + (y[k + 1] - y[k]) * (at - x[k]) / (x[k + 1] - x[k]))
