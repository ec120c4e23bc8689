"""A cell library: areas, leakage, capacitances, energies and functions of its cells, in SI units.

**Energy of a transition.** An output transition costs the mean of `rise_power` and `fall_power` over its arcs, at a
nominal input slew and no load, plus half C V² for its load. An input transition costs the pin's own `internal_power`
(the group without `when`, else the mean of all); this includes the clock edges of flip-flops. Tables are read at no
load because some rise with the load by exactly half C V²: those of IHP's flip-flops, characterised with both outputs
loaded and one subtracted. Read at their load, they would count it twice. Arcs of an asynchronous clear or preset are
left out, and so is an output that nothing reads, because Q and its complement each carry the whole cell's energy.

**Leakage** of a cell is `cell_leakage_power`, else the mean over its `leakage_power` groups, added over supplies; if
there are groups with a condition, only those count. **A delay** is the mean of `cell_rise` or `cell_fall` over the arcs
of an output, at a nominal input slew.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean

from cost_model.cells import liberty
from cost_model.cells.identifiers import require_identifier, require_pin
from cost_model.cells.liberty import Group, Units
from cost_model.cells.surface import Surface, surfaces
from sim.common.files import require_regular
from sim.reference import InputError

GATE_EQUIVALENTS = Path(__file__).parents[1] / "data" / "gate_equivalents.lib"
NOMINAL_SLEW_S = 0.1e-9
LARGEST_FILE = 1 << 30  # bytes, uncompressed


@dataclass(frozen=True)
class Pin:
    """A pin: its capacitance in F, and for an output its function, energies per transition and delays to 1 and 0."""

    name: str
    output: bool
    capacitance_f: float
    function: str
    clock: bool
    energies: tuple[Surface, ...]
    rises: tuple[Surface, ...] = ()
    falls: tuple[Surface, ...] = ()

    def delays(self, load_f: float) -> tuple[float, float]:
        """(to 1, to 0) in s with that load, each the mean over the arcs; 0 if the library gives none."""
        rise, fall = (
            fmean(max(surface.at(NOMINAL_SLEW_S, load_f), 0.0) for surface in edge) if edge else 0.0
            for edge in (self.rises, self.falls)
        )
        return rise, fall

    @cached_property
    def energy(self) -> float:
        """The mean energy of a transition of this pin without its load, in J; 0 if the library gives none."""
        return fmean(surface.at(NOMINAL_SLEW_S, 0.0) for surface in self.energies) if self.energies else 0.0


@dataclass(frozen=True)
class Cell:
    """A cell. `state` is its `ff` or `latch` group's kind and attributes, empty if the cell is combinational.

    `leakage_w` is None if the library does not give it.
    """

    name: str
    area: Decimal
    leakage_w: float | None
    pins: dict[str, Pin]
    state: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> list[Pin]:
        return [pin for pin in self.pins.values() if pin.output]

    @property
    def inputs(self) -> list[Pin]:
        return [pin for pin in self.pins.values() if not pin.output]

    def inverted(self, pin: str) -> bool:
        """Whether an output of a flip-flop or latch is the complement of its state variable.

        Raises `InputError` if it is neither that nor the state.
        """
        text = re.sub(r"[\s()]", "", self.pins[pin].function)
        core = text.removesuffix("'").lstrip("!~")
        negations = len(text) - len(core)
        if core not in (self.state["variable"], self.state["inverse"]):
            raise InputError(f"cell {self.name}: {pin} must be the state or its complement, not {text!r}")
        return (negations + (core == self.state["inverse"])) % 2 == 1


@dataclass(frozen=True)
class Library:
    """The cells of one or more Liberty files; `cost_model.cells.library.load` reads one.

    Parameters
    ----------
    name, sha256 : str
        The library's name and the hash of its texts.
    texts : tuple of str
        The Liberty files.
    area_unit : str
        The unit of the cells' areas: "um2", or "GE" (NAND2 equivalents).
    voltage_v : float
        The nominal voltage in V; 0 if it is not given.
    cells : dict of str to Cell
        The cells that have an area above 0. Those with a three-state output and those not to be used are left out.
    unknown_area : frozenset of str
        The names of the others.
    """

    name: str
    sha256: str
    texts: tuple[str, ...]
    area_unit: str
    voltage_v: float
    cells: dict[str, Cell]
    unknown_area: frozenset[str]

    def cell(self, name: str) -> Cell:
        """The cell `name`. Raises `InputError` if the library lacks it or does not give its area."""
        if name in self.unknown_area:
            raise InputError(f"library {self.name}: the area of cell {name} is unknown")
        if name not in self.cells:
            raise InputError(f"library {self.name}: cell {name} is missing")
        return self.cells[name]

    @property
    def has_energies(self) -> bool:
        """Whether it gives energies, a voltage and physical areas, so that power can be in watts."""
        return self.voltage_v > 0 and self.area_unit == "um2" and any(p.energies for p in self._output_pins)

    @property
    def has_delays(self) -> bool:
        """Whether it gives delays."""
        return any(pin.rises or pin.falls for pin in self._output_pins)

    @property
    def _output_pins(self) -> list[Pin]:
        return [pin for cell in self.cells.values() for pin in cell.outputs]

    def charging(self, load: float) -> float:
        """The energy to charge or discharge a load, half C V² in J, or the capacitance if there is no voltage."""
        return 0.5 * self.voltage_v**2 * load if self.has_energies else load

    @cached_property
    def tie_cells(self) -> dict[str, tuple[str, str]]:
        """The (cell, pin) that drives each constant, by "0" and "1"."""
        found: dict[str, tuple[str, str]] = {}
        for cell in self.cells.values():
            for pin in cell.outputs if not cell.inputs else []:  # one cell may give both
                if (value := pin.function.strip("() ")) in ("0", "1"):
                    found.setdefault(value, (cell.name, pin.name))
        return found

    @cached_property
    def latch(self) -> Cell | None:
        """The smallest latch without clear and preset whose enable, data and state are pins."""
        found = [
            cell
            for cell in self.cells.values()
            if cell.state.get("kind") == "latch" and not cell.state.get("clear") and not cell.state.get("preset")
            if cell.state.get("enable", "").strip("() ") in cell.pins
            if cell.state.get("data_in", "").strip("() ") in cell.pins
            if any(pin.function.strip("() ") == cell.state["variable"] for pin in cell.outputs)
        ]
        return min(found, key=lambda cell: cell.area, default=None)

    @cached_property
    def buffer(self) -> str | None:
        """A buffer of middle strength, the model of the inputs' drivers."""
        buffers = [
            cell
            for cell in self.cells.values()
            if len(cell.inputs) == 1
            and len(cell.outputs) == 1
            and cell.outputs[0].function.strip("() ") == cell.inputs[0].name
        ]
        return sorted(buffers, key=lambda cell: cell.area)[min(1, len(buffers) - 1)].name if buffers else None


@lru_cache(maxsize=8)
def load(*paths: Path) -> Library:
    """Read a library.

    Parameters
    ----------
    *paths : Path
        Its Liberty files, plain or compressed by gzip; a library may come as several. The shipped gate equivalents if
        none is given.

    Raises
    ------
    InputError
        If a file cannot be read, is not a Liberty file, or has a name or a number that cannot be used; if two files
        have a cell of the same name or are for different voltages; or if no cell has an area.
    """
    paths = paths or (GATE_EQUIVALENTS,)
    texts = tuple(_read(path) for path in paths)
    parsed = [_library(text, path) for text, path in zip(texts, paths, strict=True)]
    first = parsed[0]
    cells: dict[str, Cell] = {}
    unknown: set[str] = set()
    for one, path in zip(parsed, paths, strict=True):
        if twice := sorted((set(one.cells) | one.unknown_area) & (set(cells) | unknown)):
            raise InputError(f"{path}: cell {twice[0]} is in another of the library's files too")
        if (one.voltage_v, one.area_unit) != (first.voltage_v, first.area_unit):
            raise InputError(f"{path}: nom_voltage must be that of {paths[0]}, {first.voltage_v:g}")
        cells |= one.cells
        unknown |= one.unknown_area
    if not cells:
        raise InputError(f"{', '.join(map(str, paths))}: must hold cells with areas, but there are none")
    if len(parsed) == 1:
        return first
    name = _common_start([one.name for one in parsed]).rstrip("_-.") or first.name
    digest = hashlib.sha256("".join(one.sha256 for one in parsed).encode()).hexdigest()
    return Library(name, digest, texts, first.area_unit, first.voltage_v, cells, frozenset(unknown))


def _common_start(names: Sequence[str]) -> str:
    shortest = min(names, key=len)
    return next((shortest[:k] for k, c in enumerate(shortest) if any(n[k] != c for n in names)), shortest)


def _read(path: Path) -> str:
    """The text of a file, uncompressed."""
    require_regular(path)
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                data = file.read(LARGEST_FILE + 1)
            if len(data) > LARGEST_FILE:
                raise InputError(f"{path}: must be at most {LARGEST_FILE >> 20} MiB uncompressed")
        return data.decode()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path}: damaged gzip file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: must be UTF-8 text") from None


def _library(text: str, path: Path) -> Library:
    root = liberty.parse(text, str(path))
    units = Units(root, str(path))
    cells: dict[str, Cell] = {}
    unknown: set[str] = set()
    for group in root.of_kind("cell"):
        name = require_identifier("".join(group.arguments[:1]), f"{path}: the name of a cell")
        if group.get("dont_use") == "true" or any(pin.get("three_state") for pin in group.of_kind("pin")):
            continue
        if name in cells or name in unknown:
            raise InputError(f"{path}: cell {name} is there twice")
        try:
            area = Decimal(group.get("area"))
        except InvalidOperation:
            unknown.add(name)
            continue
        if not area.is_finite() or area < 0:
            raise InputError(f"{path}: cell {name}: area must be a number from 0 on, not {group.get('area')!r}")
        if not area:  # what a library writes that does not know it, as OSU's do for latches
            unknown.add(name)
            continue
        cells[name] = _cell(group, area, units)
    name = root.arguments[0] if root.arguments else path.stem
    if not name.isprintable() or not 1 <= len(name) <= 200:
        raise InputError(f"{path}: the library's name must be 1 to 200 printable characters, not {name[:60]!r}")
    voltage = liberty.number(root.get("nom_voltage", "0"), f"{path}: nom_voltage")
    unit = "GE" if root.get("comment").startswith("gate equivalents") else "um2"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Library(name, digest, (text,), unit, voltage, cells, frozenset(unknown))


def _cell(group: Group, area: Decimal, units: Units) -> Cell:
    name = group.arguments[0]
    what = f"{units.source}: cell {name}"
    state = {}
    for kind in group.of_kind("ff", "latch"):
        variables = [require_identifier(v, f"{what}: a state variable") for v in kind.arguments[:2] if v]
        if not variables:
            raise InputError(f"{what}: {kind.kind} must name its state variable")
        state = {"kind": kind.kind, "variable": variables[0], "inverse": (*variables, "")[1]}
        state |= {key: value[0] for key, value in kind.attributes.items() if value}
    asynchronous = set(re.findall(r"\w+", state.get("clear", "") + " " + state.get("preset", "")))
    pins: dict[str, Pin] = {}
    for pin in group.of_kind("pin"):
        for pin_name in pin.arguments:
            pins[require_pin(pin_name, f"{what}: the name of a pin")] = _pin(pin, pin_name, units, asynchronous, what)
    return Cell(name, area, _leakage(group, units, what), pins, state)


def _leakage(group: Group, units: Units, what: str) -> float | None:
    """Leakage in W; None if the cell gives none."""
    if given := group.get("cell_leakage_power"):
        return liberty.number(given, f"{what}: cell_leakage_power") * units.leakage
    supplies: dict[str, list[Group]] = {}
    for one in group.of_kind("leakage_power"):
        supplies.setdefault(one.get("related_pg_pin"), []).append(one)
    if not supplies:
        return None
    total = 0.0
    for groups in supplies.values():
        conditional = [one for one in groups if one.get("when")]
        values = [liberty.number(one.get("value"), f"{what}: leakage_power value") for one in conditional or groups]
        total += fmean(values) * units.leakage
    return total


def _pin(group: Group, name: str, units: Units, asynchronous: set[str], cell: str) -> Pin:
    what = f"{cell}: pin {name}"
    powers = [p for p in group.of_kind("internal_power") if p.get("related_pin") not in asynchronous]
    always = [power for power in powers if not power.get("when")]
    output = group.get("direction") == "output"
    return Pin(
        name=name,
        output=output,
        capacitance_f=liberty.number(group.get("capacitance", "0"), f"{what}: capacitance") * units.capacitance,
        function=group.get("function"),
        clock=group.get("clock") == "true",
        energies=surfaces(always or powers, ("rise_power", "fall_power", "power"), units, units.energy, what),
        rises=surfaces(_arcs(group), ("cell_rise",), units, units.time, what) if output else (),
        falls=surfaces(_arcs(group), ("cell_fall",), units, units.time, what) if output else (),
    )


def _arcs(pin: Group) -> list[Group]:
    """The timing groups of an output that are delays from an input, without clear and preset."""
    return [t for t in pin.of_kind("timing") if t.get("timing_type", "combinational") in DELAYS]


DELAYS = ("combinational", "combinational_rise", "combinational_fall", "rising_edge", "falling_edge")
