"""Placement of a netlist in rows by graywolf: its input files, its result, and cells on the grid of the rows.

graywolf (`apt-get install graywolf`) chooses rows and the order in them. Here each row's cells are then set side by
side on the grid of the lowest vertical layer, every second row upside down so that rows share their rails. The free
sites of `Core.filled` are spread evenly. Ports become pins on the edge, in the order that graywolf gives them.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from pathlib import Path

from cost_model.layout.lef import Layer, Lef
from cost_model.netlist.netlist import Netlist
from sim.reference import InputError

UNITS = 50  # of graywolf for each um: coarse, because it multiplies lengths in 32 bits
MARGIN_TRACKS = 12  # of the lowest horizontal layer, between the rows and the edge with the pins
PROGRAM = "graywolf"


@dataclass(frozen=True)
class Core:
    """The choices of placement: how full the rows are, 0.3..1, and the seed."""

    filled: float = 0.9
    seed: int = 12345

    def __post_init__(self) -> None:
        if not 0.3 <= self.filled <= 1:
            raise InputError(f"filled must be in 0.3..1, not {self.filled}")


@dataclass(frozen=True)
class Cell:
    """Where a cell is: its lower left corner in um, its row, and its orientation, N or FS (upside down)."""

    x: float
    y: float
    row: int
    orientation: str


@dataclass(frozen=True)
class Pin:
    """Where a port's bit is in um, and on which layer."""

    x: float
    y: float
    layer: Layer


@dataclass(frozen=True)
class Placement:
    """Cells by their number in the netlist, pins by net, and the rows' and the die's corners (x0, y0, x1, y1) in um."""

    cells: tuple[Cell, ...]
    pins: Mapping[int, Pin]
    rows: int
    core: tuple[float, float, float, float]
    die: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """The area of the rows in um2."""
        return (self.core[2] - self.core[0]) * (self.core[3] - self.core[1])


def port_nets(netlist: Netlist) -> list[int]:
    """The nets of ports, each once."""
    return list(dict.fromkeys(bit for _, bits in netlist.ports.values() for bit in bits if isinstance(bit, int)))


def terminals(netlist: Netlist) -> dict[int, list[tuple[int, str]]]:
    """The (number of the cell, pin) pairs of each net that joins two places or more."""
    found: dict[int, list[tuple[int, str]]] = {}
    for k, instance in enumerate(netlist.instances):
        for pin, net in instance.nets.items():
            if isinstance(net, int):
                found.setdefault(net, []).append((k, pin))
    ports = set(port_nets(netlist))
    return {net: ends for net, ends in found.items() if len(ends) + (net in ports) > 1}


def run(cells: str, parameters: str, folder: Path) -> dict[str, tuple[int, int, int]]:
    """graywolf's placement of a netlist (`cel`), run in `folder`. Raises `InputError` if it gives none."""
    (folder / "unit.cel").write_text(cells)
    (folder / "unit.par").write_text(parameters)
    done = subprocess.run([PROGRAM, "-n", "unit"], cwd=folder, capture_output=True, text=True, check=False)
    result = folder / "unit.pl1"
    if not result.exists():
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise InputError(f"graywolf gives no placement: {' '.join(lines[-1:])[:300]}")
    return read_placed(result.read_text())


def cel(netlist: Netlist, lef: Lef) -> str:
    """The netlist for graywolf: each cell's outline and pins around its middle, and a pad for each port's bit."""
    nets = terminals(netlist)
    lines = []
    for k, instance in enumerate(netlist.instances):
        macro = lef.macro(instance.cell.name)
        width, height = (round(size * UNITS) for size in (macro.width, macro.height))
        left, bottom = -(width // 2), -(height // 2)
        lines += [f"cell {k + 1} u{k}", f"left {left} right {left + width} bottom {bottom} top {bottom + height}"]
        for pin, net in instance.nets.items():
            if net in nets:
                if pin not in macro.pins:
                    raise InputError(f"the LEF files' cell {macro.name} must have the library's pin {pin}")
                x, y = macro.pins[pin]
                lines.append(
                    f"pin name {pin} signal n{net} layer 1 {left + round(x * UNITS)} {bottom + round(y * UNITS)}"
                )
    half = [max(round(layer.pitch * UNITS / 2), 1) for layer in _grid(lef)]
    for number, net in enumerate((net for net in port_nets(netlist) if net in nets), start=1):
        (x, y) = half
        lines += [f"pad {number} name twpin_{net}", f"corners 4 -{x} -{y} -{x} {y} {x} {y} {x} -{y}"]
        lines += [f"pin name p{net} signal n{net} layer 1 0 0", ""]
    return "\n".join(lines) + "\n"


def _grid(lef: Lef) -> tuple[Layer, Layer]:
    """The lowest vertical layer, whose pitch is the grid in x, and the lowest horizontal one, in y."""
    found = [next((layer for layer in lef.layers if layer.horizontal == way), None) for way in (False, True)]
    vertical, horizontal = found
    if vertical is None or horizontal is None:
        raise InputError("the LEF files must have horizontal and vertical routing layers")
    return vertical, horizontal


def parameters(lef: Lef, core: Core) -> str:
    """graywolf's parameters: grids, layers, and rows that are even and flipped in turn."""
    vertical, horizontal = _grid(lef)
    steps = {layer.name: max(round(layer.pitch * UNITS), 2) for layer in lef.layers[:4]}
    layers = lef.layers[:4]
    rules = [f"layer {layer.name} 0.1 0.03 {'horizontal' if layer.horizontal else 'vertical'}" for layer in layers]
    rules += [f"via via{k}{k + 1} {low.name} {high.name}" for k, (low, high) in enumerate(pairwise(layers), 1)]
    rules += [f"width {name} {step // 2}" for name, step in steps.items()]
    rules += [f"width via{k}{k + 1} {min(steps.values()) // 2}" for k in range(1, len(layers))]
    rules += [f"spacing {name} {name} {step - step // 2}" for name, step in steps.items()]
    x, y = steps[vertical.name], steps[horizontal.name]
    return "\n".join([
        "RULES", *rules, "ENDRULES", "",
        "*vertical_wire_weight : 1.0", "*vertical_path_weight : 1.0", "*padspacing : variable", "*rowSep : 0.0 0",
        f"*track.pitch : {x}", f"*minimum_pad_space : {x}", f"*gridX : {x}", f"*gridY : {y}", "*gridOffsetX : 0",
        "*gridOffsetY : 0", "*graphics.wait : off", "*last_chance.wait : off", f"*random.seed : {core.seed}",
        "TWMC*chip.aspect.ratio : 1.0",
        f"TWSC*feedThruWidth : {x} layer 1", "TWSC*do.global.route : on", "TWSC*ignore_feeds : true",
        "TWSC*call_row_evener : true", "TWSC*even_rows_maximally : true",
        "GENR*row_to_tile_spacing : 1", "GENR*flip_alternate_rows : 1", "",
    ])  # fmt: skip


def read_placed(text: str) -> dict[str, tuple[int, int, int]]:
    """x, y and row of each cell and pad of graywolf's result, in its units; rows count from 1, pads' are below 0."""
    try:
        rows = [(name, int(x), int(y), int(row)) for name, x, y, _, _, _, row in map(str.split, text.splitlines())]
    except ValueError:
        raise InputError("graywolf's placement cannot be read") from None
    return {name: (x, y, row) for name, x, y, row in rows}


def legal(netlist: Netlist, lef: Lef, core: Core, placed: Mapping[str, tuple[int, int, int]]) -> Placement:
    """The placement on the grid: rows from 0 up, cells in graywolf's order, pins on the edge of the die."""
    site = _grid(lef)[0].pitch
    macros = [lef.macro(instance.cell.name) for instance in netlist.instances]
    sites = [ceil(macro.width / site - 1e-6) for macro in macros]
    height = max(macro.height for macro in macros)
    rows: dict[int, list[int]] = {}
    for k in range(len(macros)):
        if f"u{k}" not in placed:
            raise InputError(f"graywolf's placement must have the cell u{k}, but does not")
        rows.setdefault(placed[f"u{k}"][2], []).append(k)
    order = [sorted(rows[row], key=lambda k: placed[f"u{k}"][0]) for row in sorted(rows)]
    width = ceil(max(max(sum(sites[k] for k in row) for row in order), sum(sites) / core.filled / len(order)))
    cells: dict[int, Cell] = {}
    for number, row in enumerate(order):
        free, at = width - sum(sites[k] for k in row), 0
        for position, k in enumerate(row, start=1):
            gap = free * position // (len(row) + 1)
            cells[k] = Cell((at + gap) * site, number * height, number, "FS" if number % 2 else "N")
            at += sites[k]
    box = (0.0, 0.0, width * site, len(order) * height)
    pins, die = _pins(netlist, lef, placed, box)
    return Placement(tuple(cells[k] for k in range(len(macros))), pins, len(order), box, die)


def _pins(
    netlist: Netlist, lef: Lef, placed: Mapping[str, tuple[int, int, int]], box: Sequence[float]
) -> tuple[dict[int, Pin], tuple[float, float, float, float]]:
    """Each port's bit on a track of its own on the nearest edge, and the die."""
    vertical, horizontal = _grid(lef)
    upper = next(layer for layer in lef.layers[1:] if layer.horizontal)
    margin = MARGIN_TRACKS * horizontal.pitch
    x0, x1 = (_track(vertical, x) for x in (box[0] - margin, box[2] + margin))
    y0, y1 = (_track(upper, y) for y in (box[1] - margin, box[3] + margin))
    corners = [placed[f"u{k}"][:2] for k in range(len(netlist.instances))]
    low_x, low_y = (min(corner[axis] for corner in corners) for axis in (0, 1))
    wide, high = (max(max(corner[axis] for corner in corners) - low, 1) for axis, low in ((0, low_x), (1, low_y)))
    taken: set[tuple[str, int]] = set()
    pins: dict[int, Pin] = {}
    for net in port_nets(netlist):
        if f"twpin_{net}" not in placed:
            continue
        x, y, _ = placed[f"twpin_{net}"]
        right, up = (x - low_x) / wide, (y - low_y) / high  # 0..1 inside the rows
        side = min(("left", right), ("right", 1 - right), ("bottom", up), ("top", 1 - up), key=lambda pair: pair[1])[0]
        layer = upper if side in ("left", "right") else vertical
        share, length = (up, box[3]) if layer is upper else (right, box[2])
        wanted = floor(min(max(share, 0.0), 1.0) * length / layer.pitch / 2)
        step = next(k for k in _outwards(wanted) if (side, k) not in taken)
        taken.add((side, step))
        along = layer.offset + 2 * step * layer.pitch
        where = {"left": (x0, along), "right": (x1, along), "bottom": (along, y0), "top": (along, y1)}[side]
        pins[net] = Pin(*where, layer)
    return pins, (x0 - vertical.pitch, y0 - upper.pitch, x1 + vertical.pitch, y1 + upper.pitch)


def _track(layer: Layer, at: float) -> float:
    """The nearest track of a layer."""
    return layer.offset + round((at - layer.offset) / layer.pitch) * layer.pitch


def _outwards(start: int) -> Iterator[int]:
    yield start
    distance = 1
    while True:
        yield start + distance
        if start >= distance:
            yield start - distance
        distance += 1
