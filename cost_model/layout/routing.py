"""Routing of a placed netlist by qrouter: the DEF file and script that it reads, and the wires of the one it writes.

qrouter (`apt-get install qrouter`) routes on the tracks of the lowest layers. Rails are what abutting cells give; there
are no power straps, no clock tree (the clock is one net) and no fill cells.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor
from pathlib import Path

from cost_model.layout.lef import Layer, Lef
from cost_model.layout.placement import Placement, terminals
from cost_model.netlist.netlist import Netlist
from sim.reference import InputError

UNITS = 1000  # of the DEF files for each um
LAYERS = 5  # at most: the thick layers above are for supplies
PROGRAM = "qrouter"


@dataclass(frozen=True)
class Wires:
    """The routed wires: the length of each net on each layer in um, and the nets that are not whole."""

    lengths: Mapping[int, Mapping[str, float]]
    vias: int
    failed: tuple[int, ...]

    @property
    def length(self) -> float:
        """The length of all wires in um."""
        return sum(sum(layers.values()) for layers in self.lengths.values())

    def capacitances(self, lef: Lef) -> dict[int, float]:
        """The capacitance of each net's wires to ground in F, by the LEF file's values; vias have none."""
        per_um = {layer.name: layer.capacitance for layer in lef.layers}
        return {net: sum(per_um[name] * um for name, um in row.items()) for net, row in self.lengths.items()}


def run(design: str, script: str, lef: Lef, folder: Path) -> Wires:
    """qrouter's wires for a placed netlist (`design`), run in `folder`. Raises `InputError` if it gives none."""
    for k, text in enumerate(lef.texts):
        (folder / f"{k}.lef").write_text(text)
    (folder / "unit.def").write_text(design)
    (folder / "route.tcl").write_text(script)
    done = subprocess.run(
        [PROGRAM, "-noc", "-nog", "-s", "route.tcl"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    result = folder / "routed.def"
    if not result.exists():
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise InputError(f"qrouter gives no wires: {' '.join(lines[-1:])[:300]}")
    failed = folder / "failed"
    names = re.findall(r"\bn(\d+)\b", failed.read_text()) if failed.exists() else []
    return read_wires(result.read_text(), lef, [int(name) for name in names])


def used(lef: Lef) -> tuple[Layer, ...]:
    """The layers with wires."""
    return lef.layers[:LAYERS]


def script(lef: Lef) -> str:
    """qrouter's script: a first pass, more effort while nets fail, and a pass that makes wires shorter."""
    supplies = next((macro.supplies for macro in lef.macros.values() if len(macro.supplies) == 2), {})
    lines = ["verbose 0", *(f"read_lef {k}.lef" for k in range(len(lef.texts))), f"catch {{layers {len(used(lef))}}}"]
    lines += ["via stack all"]
    lines += [f"{word} {supplies[use]}" for use, word in (("POWER", "vdd"), ("GROUND", "gnd")) if use in supplies]
    return "\n".join([*lines, _ROUTE])


_ROUTE = """\
read_def unit.def
set left [stage1]
foreach size {10 20 40 80} {
  if {$left > 0} { set left [stage2 mask $size effort 10] }
}
foreach effort {20 50 100} {
  if {$left > 0} { set left [stage2 mask none effort $effort] }
}
if {$left == 0} { set left [stage3] }
if {$left > 0} { set left [stage2 mask none effort 100] }
cleanup all
write_def routed.def
if {$left > 0} { write_failed failed }
quit
"""


def design(netlist: Netlist, lef: Lef, placement: Placement) -> str:
    """The placed and unrouted netlist as DEF: cells u<number>, pins p<net>, nets n<net>."""
    x0, y0, x1, y1 = placement.die
    lines = ["VERSION 5.6 ;", "NAMESCASESENSITIVE ON ;", 'DIVIDERCHAR "/" ;', 'BUSBITCHARS "[]" ;', "DESIGN unit ;"]
    lines += [f"UNITS DISTANCE MICRONS {UNITS} ;", f"DIEAREA {_point(x0, y0)} {_point(x1, y1)} ;", ""]
    for layer in used(lef):
        low, high = (y0, y1) if layer.horizontal else (x0, x1)
        first = layer.offset - floor((layer.offset - low) / layer.pitch + 1e-9) * layer.pitch
        count = floor((high - first) / layer.pitch + 1e-9) + 1
        axis = "Y" if layer.horizontal else "X"
        lines.append(f"TRACKS {axis} {_units(first)} DO {count} STEP {_units(layer.pitch)} LAYER {layer.name} ;")
    lines += ["", f"COMPONENTS {len(placement.cells)} ;"]
    for k, (instance, cell) in enumerate(zip(netlist.instances, placement.cells, strict=True)):
        lines.append(f"- u{k} {instance.cell.name} + PLACED {_point(cell.x, cell.y)} {cell.orientation} ;")
    lines += ["END COMPONENTS", "", f"PINS {len(placement.pins)} ;"]
    for net, pin in placement.pins.items():
        lines.append(
            f"- p{net} + NET n{net} + LAYER {pin.layer.name} ( 0 0 ) ( 1 1 ) + PLACED {_point(pin.x, pin.y)} N ;"
        )
    nets = terminals(netlist)
    lines += ["END PINS", "", f"NETS {len(nets)} ;"]
    for net, ends in nets.items():
        port = [f"( PIN p{net} )"] if net in placement.pins else []
        lines.append(f"- n{net}\n  " + "\n  ".join([*port, *(f"( u{k} {pin} )" for k, pin in ends)]) + " ;")
    return "\n".join([*lines, "END NETS", "", "END DESIGN", ""])


def _units(um: float) -> int:
    return round(um * UNITS)


def _point(x: float, y: float) -> str:
    return f"( {_units(x)} {_units(y)} )"


def read_wires(text: str, lef: Lef, failed: Sequence[int] = ()) -> Wires:
    """The wires of a routed DEF file whose nets are called n<number>."""
    scale = re.search(r"UNITS DISTANCE MICRONS (\d+)", text)
    section = re.search(r"^NETS \d+ ;(.*)^END NETS", text, re.MULTILINE | re.DOTALL)
    if not scale or not section:
        raise InputError("the routed DEF file must have UNITS and NETS")
    layers = {layer.name for layer in lef.layers}
    lengths: dict[int, dict[str, float]] = {}
    vias = 0
    for block in section[1].split("- n")[1:]:
        name, _, wires = block.partition("+ ROUTED")
        net = int(name.split()[0])
        row: dict[str, float] = {}
        for layer, points, count in _paths(wires.replace(";", " ").split(), layers):
            um = sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(points)) / int(scale[1])
            row[layer] = row.get(layer, 0.0) + um
            vias += count
        lengths[net] = row
    return Wires(lengths, vias, tuple(failed))


def _paths(words: Sequence[str], layers: set[str]) -> Iterator[tuple[str, list[tuple[int, int]], int]]:
    """The paths of a net: layer, points, and how many vias; a * repeats the coordinate before."""
    layer, points, vias = "", [], 0
    at = 0
    while at < len(words):
        word = words[at]
        if word == "(":
            x, y = words[at + 1 : at + 3]
            points.append((points[-1][0] if x == "*" else int(x), points[-1][1] if y == "*" else int(y)))
            at = words.index(")", at)
        elif word in layers:
            if layer:
                yield layer, points, vias
            layer, points, vias = word, [], 0
        elif word not in ("NEW", "+", "ROUTED"):
            vias += 1
        at += 1
    if layer:
        yield layer, points, vias
