"""The Liberty format as a tree of groups, and its units; `cost_model.cells.library` interprets them."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from sim.reference import InputError

_PREFIX = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_TOKEN = re.compile(
    r"""\s*(?:
      /\*.*?\*/ | //[^\n]* | \\\s*\n           # comments, continued lines
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<mark>[{}();:,])
    | (?P<word>[^\s{}();:,"]+)
    )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Group:
    """`kind (arguments) { ... }`: attributes by name (the last one counts) and groups in order."""

    kind: str
    arguments: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def get(self, name: str, default: str = "") -> str:
        """The first value of a simple attribute."""
        return self.attributes.get(name, (default,))[0]

    def of_kind(self, *kinds: str) -> Iterator["Group"]:
        """The groups of these kinds, in order."""
        return (group for group in self.groups if group.kind in kinds)


def parse(text: str, source: str = "library") -> Group:
    """The `library` group of a Liberty text. Raises `InputError` with `source` and the line if it is not valid."""
    tokens = [(m.lastgroup, m.group(m.lastgroup), m.start()) for m in _TOKEN.finditer(text) if m.lastgroup]
    top, position = Group(""), 0
    stack = [top]

    def fail(what: str, at: int) -> InputError:
        line = text.count("\n", 0, tokens[min(at, len(tokens) - 1)][2] if tokens else 0) + 1
        return InputError(f"{source}: not a Liberty file: {what} near line {line}")

    def token(at: int) -> str:
        if at >= len(tokens):
            raise fail("it ends too early", at)
        return tokens[at][1]

    while position < len(tokens):
        kind, value, _ = tokens[position]
        if value == "}" and kind == "mark":
            if len(stack) == 1:
                raise fail("a } too many", position)
            stack.pop()
            position += 1
        elif value == ";" and kind == "mark":
            position += 1
        elif kind == "word" and token(position + 1) == ":":
            end = position + 2
            parts = []
            while token(end) not in (";", "}") and not (
                end > position + 2 and token(end + 1) in (":", "(") and tokens[end][0] == "word"
            ):
                parts.append(token(end))  # an expression such as VDD + 0.5, or an attribute without its semicolon
                end += 1
            stack[-1].attributes[value] = (" ".join(part.strip('"') for part in parts),)
            position = end
        elif kind == "word" and token(position + 1) == "(":
            end = position + 2
            arguments = []
            while token(end) != ")":
                if token(end) != ",":
                    arguments.append(token(end).strip('"'))
                end += 1
            position = end + 1
            if position < len(tokens) and token(position) == "{":
                group = Group(value, tuple(arguments))
                stack[-1].groups.append(group)
                stack.append(group)
                position += 1
            else:
                stack[-1].attributes[value] = tuple(arguments)
        else:
            raise fail(f"{value[:20]!r} is out of place", position)
    if len(stack) > 1:
        raise fail(f"the group {stack[-1].kind} is not closed", position)
    if any(value == "include_file" for _, value, _ in tokens):
        raise InputError(f"{source}: include_file is not supported: give each file by itself")
    libraries = list(top.of_kind("library"))
    if len(libraries) != 1:
        raise InputError(f"{source}: must hold one library, not {len(libraries)}")
    return libraries[0]


def number(text: str, what: str) -> float:
    """A finite number. Raises `InputError` with `what` if it is not one."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{what} must be a number, not {text[:40]!r}")
    return value


def numbers(text: str, what: str) -> list[float]:
    """The numbers of a list such as "0.1, 0.2"."""
    return [number(part, what) for part in text.replace(",", " ").split()]


class Units:
    """Scales from a library's units to SI, its templates of tables, and its file's name for messages."""

    def __init__(self, root: Group, source: str) -> None:
        self.source = source
        load = root.attributes.get("capacitive_load_unit", ("1", "pf"))
        if len(load) != 2 or load[1].lower() not in ("ff", "pf", "nf", "uf", "f"):
            raise InputError(f"{source}: capacitive_load_unit must be like (1, pf), not ({', '.join(load)[:40]})")
        factor = number(load[0], f"{source}: capacitive_load_unit")
        self.capacitance = factor * _PREFIX[load[1].lower().removesuffix("f")]
        self.time = self._scale(root.get("time_unit", "1ns"), "s", source)
        self.leakage = self._scale(root.get("leakage_power_unit", "1nW"), "W", source)
        volt = self._scale(root.get("voltage_unit", "1V"), "V", source)
        self.energy = self.capacitance * volt**2  # Liberty's own definition of the unit of internal power
        self.templates = {
            t.arguments[0]: t for t in root.of_kind("power_lut_template", "lu_table_template") if t.arguments
        }

    @staticmethod
    def _scale(text: str, unit: str, source: str) -> float:
        match = re.fullmatch(rf"\s*(\d+\.?\d*|\.\d+)\s*([fpnum]?){unit}\s*", text, re.IGNORECASE)
        if not match:
            raise InputError(f"{source}: a unit must be like 1n{unit}, not {text[:40]!r}")
        return float(match[1]) * _PREFIX[match[2].lower()]
