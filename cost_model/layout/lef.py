"""The parts of a LEF file that placement and wires need: routing layers, cells' sizes and where their pins are.

The format is that of the LEF/DEF 5.8 Language Reference. Vias and obstructions are left to the router, which reads the
file itself.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cost_model.cells.identifiers import require_identifier
from cost_model.cells.liberty import number
from sim.common.files import read_text
from sim.reference import InputError

_NAMED = ("LAYER", "MACRO", "VIA", "VIARULE", "SITE", "NONDEFAULTRULE", "ARRAY")
_UNNAMED = ("UNITS", "PROPERTYDEFINITIONS", "SPACING", "NOISETABLE")
_SUPPLIES = ("POWER", "GROUND")


@dataclass(frozen=True)
class Layer:
    """A routing layer; lengths in um, the capacitance to ground of a wire of the layer's width in F for each um."""

    name: str
    horizontal: bool
    pitch: float
    offset: float
    width: float
    capacitance: float


@dataclass(frozen=True)
class Macro:
    """A cell: its size and the middle of each signal pin's first shape in um, and its power and ground pins."""

    name: str
    width: float
    height: float
    pins: dict[str, tuple[float, float]]
    supplies: dict[str, str]


@dataclass(frozen=True)
class Lef:
    """The layers from the lowest up, and the cells, of one or more LEF files; `texts` are the files."""

    texts: tuple[str, ...]
    layers: tuple[Layer, ...]
    macros: dict[str, Macro]

    @cached_property
    def sha256(self) -> str:
        """The hash of the texts."""
        return hashlib.sha256("".join(self.texts).encode()).hexdigest()

    def macro(self, name: str) -> Macro:
        """The cell `name`. Raises `InputError` if there is none."""
        if name not in self.macros:
            raise InputError(f"the LEF files must hold the cell {name} of the netlist, but do not")
        return self.macros[name]


def load(*paths: Path) -> Lef:
    """Read LEF files, the one with the layers first.

    Raises
    ------
    InputError
        If a file cannot be read or is cut short, or if layers with pitch and capacitance or cells are missing.
    """
    texts = tuple(read_text(path) for path in paths)
    layers: list[Layer] = []
    macros: dict[str, Macro] = {}
    for path, text in zip(paths, texts, strict=True):
        for kind, name, words in _blocks(text, path):
            if kind == "LAYER" and (layer := _layer(name, words, path)) is not None:
                layers.append(layer)
            elif kind == "MACRO":
                macros[name] = _macro(name, words, path)
    listed = ", ".join(map(str, paths))
    if len(layers) < 3:
        raise InputError(f"{listed}: must hold at least 3 routing layers, not {len(layers)}")
    if not macros:
        raise InputError(f"{listed}: must hold cells, but there are none")
    return Lef(texts, tuple(layers), macros)


def _blocks(text: str, path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """The named blocks of a file: their kind, name and words."""
    words = [word for line in text.splitlines() for word in line.split("#")[0].replace(";", " ; ").split()]
    at = 0
    while at < len(words) and words[at : at + 2] != ["END", "LIBRARY"]:
        kind = words[at].upper()
        if kind in _NAMED or kind in _UNNAMED:
            name = words[at + 1] if kind in _NAMED and at + 1 < len(words) else kind
            end = _end(words, at, name)
            if end is None:
                raise InputError(f"{path}: not a LEF file: {kind} {name[:40]} is not closed")
            yield kind, name, words[at + 2 : end]
            at = end + 2
        elif kind == "BEGINEXT" and "ENDEXT" in words[at:]:
            at = words.index("ENDEXT", at) + 1
        elif ";" in words[at:]:
            at = words.index(";", at) + 1
        else:
            raise InputError(f"{path}: not a LEF file: {kind[:40]} has no end")


def _end(words: Sequence[str], start: int, name: str) -> int | None:
    """The place of END `name`."""
    return next((k for k in range(start, len(words) - 1) if words[k] == "END" and words[k + 1] == name), None)


def _statements(words: Sequence[str]) -> Iterator[list[str]]:
    statement: list[str] = []
    for word in words:
        if word == ";":
            yield statement
            statement = []
        else:
            statement.append(word)


def _layer(name: str, words: Sequence[str], path: Path) -> Layer | None:
    """A routing layer; None if the layer is of another type."""
    require_identifier(name, f"{path}: the name of a layer")
    found = {row[0]: row[1:] for row in _statements(words) if row}
    if found.get("TYPE") != ["ROUTING"]:
        return None

    def value(key: str, default: str | None = None) -> float:
        given = found.get(key, [] if default is None else [default])
        return number(given[-1] if given else "", f"{path}: layer {name}: {key}")

    width = value("WIDTH")
    capacitance = value("CAPACITANCE") * width + 2 * value("EDGECAPACITANCE", "0")  # in pF for each um
    pitch = found.get("PITCH", [""])
    horizontal = found.get("DIRECTION") == ["HORIZONTAL"]
    step = number(pitch[-1 if horizontal else 0], f"{path}: layer {name}: PITCH")
    return Layer(name, horizontal, step, value("OFFSET", f"{step / 2}"), width, capacitance * 1e-12)


def _macro(name: str, words: Sequence[str], path: Path) -> Macro:
    what = f"{path}: cell {require_identifier(name, f'{path}: the name of a cell')}"
    size: list[float] = []
    pins: dict[str, tuple[float, float]] = {}
    supplies: dict[str, str] = {}
    at = 0
    while at < len(words):
        if words[at] == "PIN" and at + 1 < len(words):
            pin = words[at + 1]
            end = _end(words, at, pin)
            if end is None:
                raise InputError(f"{what}: PIN {pin[:40]} is not closed")
            body = list(words[at + 2 : end])
            use = body[body.index("USE") + 1] if "USE" in body else "SIGNAL"
            if use in _SUPPLIES:
                supplies[use] = require_identifier(pin, f"{what}: the name of a supply")
            elif "RECT" in body:
                corner = body.index("RECT") + 1
                x0, y0, x1, y1 = (number(word, f"{what}: pin {pin}: RECT") for word in body[corner : corner + 4])
                pins[pin] = ((x0 + x1) / 2, (y0 + y1) / 2)
            at = end + 2
        elif words[at] == "OBS":
            at = words.index("END", at) + 1
        else:
            end = words.index(";", at) if ";" in words[at:] else len(words)
            if words[at] == "SIZE":
                size = [number(word, f"{what}: SIZE") for word in (words[at + 1], words[at + 3])]
            at = end + 1
    if len(size) != 2 or min(size) <= 0:
        raise InputError(f"{what}: SIZE must be a width and a height above 0")
    return Macro(name, size[0], size[1], pins, supplies)
