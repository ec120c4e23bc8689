"""The device under test: a unit's Verilog and what a bench must know of its ports."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rtl.units import UNITS
from sim.common.files import description_sha256, read_text
from sim.reference import InputError, LoweredTable
from sim.reference.arithmetic import code_range
from sim.reference.code_format import CodeFormat
from sim.reference.row_cycles import RowSchedule
from sim.vectors.vector_set import TABLE_LISTS, VectorSet


@dataclass(frozen=True)
class Device:
    """A unit as Verilog.

    `ports` are the names of all its ports; `statics` its quasi-static inputs, port name to bits; `table` the bits of
    the table port's `select`, `address` and `data`, None if there is no such port, and `lists` the names and lengths
    of what is written through it, by `select`. `ranges` are the lowest and the highest value of each quasi-static
    input, of each list's words, and of a payload's field (`i__payload.FIELD`) that does not take all it could.
    `latency` is in cycles; `schedule` gives the cycles of a unit for rows. `edited` says that the text may differ from
    the file that its description is of.
    """

    module: str
    verilog: str
    ports: Sequence[str]
    in_bits: int
    out_bits: int
    statics: Mapping[str, int]
    table: Mapping[str, int] | None
    latency: int
    lists: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    schedule: RowSchedule | None = None
    edited: bool = False

    def cycles(self, vectors: VectorSet, first: int, last: int) -> int:
        """Cycles of the vectors `first` to `last` (excluded) as one stream that nothing stalls, ends included."""
        if self.schedule is None:
            return last - first + self.latency
        return self.schedule.cycles(vectors.lengths(first, last))


def device(vectors: VectorSet, module: str = "unit") -> Device:
    """Emit the unit that a set of vectors is for.

    Raises `InputError` if the configuration cannot be built, the set lacks an array that the unit is loaded with, or a
    value does not fit its port.
    """
    component = component_of(vectors)
    unit = emitted(component, vectors.unit, module)
    for side, bits in (("inputs", unit.in_bits), ("expected", unit.out_bits)):
        if vectors.bits(side) != bits:
            raise InputError(f"{vectors.name}: {side} must be {bits} bits wide, not {vectors.bits(side)}")
    ranges = {name.replace("i__payload", "inputs"): ends for name, ends in unit.ranges.items()}
    for key in (*unit.lists, *unit.statics, *ranges):
        if key not in vectors.arrays:
            raise InputError(f"{vectors.name}: missing array {key!r}")
    for key in (*unit.lists, *unit.statics):
        array, shape = vectors.arrays[key], unit.lists.get(key)
        if array.ndim != (1 if shape is None else 2):
            raise InputError(f"{vectors.name}: {key} must have {shape or 1} for each load, not {list(array.shape)}")
        if shape is not None and array.shape[1] != shape:
            raise InputError(f"{vectors.name}: {key} must be {shape} for the unit, not {array.shape[1]}")
    for key, (low, high) in ranges.items():
        array = vectors.arrays[key]
        if array.min() < low or array.max() > high:
            wrong = array.min() if array.min() < low else array.max()
            raise InputError(f"{vectors.name}: {key} must be in {low}..{high} for the unit, not {wrong}")
    return unit


def emitted(component: Any, unit: str, module: str = "unit") -> Device:
    """An Amaranth component as a device; `unit` is what the description calls it."""
    from rtl.emit import render

    verilog, description = render(component, module, unit)
    return _described(description, verilog)


def read_device(path: Path, edited: bool = False) -> tuple[Device, dict[str, Any]]:
    """An emitted unit from `FILE.v` and the description beside it, which is returned too.

    With `edited` the Verilog may be another than the one described, if a comment was added for instance.

    Raises `InputError` if a file is missing, the description is not in bitwright's format or was changed, or it is for
    another Verilog text.
    """
    verilog, source = read_text(path), path.with_suffix(".rtl.json")
    try:
        description = json.loads(read_text(source))
        if description["format"] != "bitwright-rtl" or description["version"] != 1:
            raise ValueError("another format")
        if "axis" in description:
            raise InputError(f"{path}: needs the unit's own ports: emit it without --ports axis")
        if description.get("sha256") != description_sha256(description):
            raise InputError(f"{source}: its own SHA-256 is not the one it names")
        if not edited and hashlib.sha256(verilog.encode()).hexdigest() != description["verilog"]["sha256"]:
            raise InputError(f"{path}: its SHA-256 is not the one in {source.name}")
        return replace(_described(description, verilog), edited=edited), description
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{source}: not a description that python -m rtl wrote ({error})") from None


def require_consistent(path: Path, description: Mapping[str, Any], component: Any) -> None:
    """Raise `InputError` unless the description of `path` is that of the component built from its parameters."""
    from rtl.emit import interface

    for key, value in interface(component).items():
        if key != "product" and description.get(key) != value:  # how a unit multiplies changes no result
            raise InputError(f"{path.with_suffix('.rtl.json')}: {key} must be what its parameters say")


def _described(description: Mapping[str, Any], verilog: str) -> Device:
    bits = {port["name"]: port["width"] for port in description["ports"] if port["width"]}
    table = {name: bits[f"table__{name}"] for name in ("select", "address", "data") if f"table__{name}" in bits}
    inputs = [port for port in description["ports"] if port["direction"] == "input" and port["width"]]
    statics = [port for port in inputs if port["name"] not in ("clk", "rst") and "__" not in port["name"]]
    lists = description.get("table", {}).get("load_order", [])
    return Device(
        module=description["module"],
        verilog=verilog,
        ports=tuple(bits),
        in_bits=bits["i__payload"],
        out_bits=bits["o__payload"],
        statics={port["name"]: port["width"] for port in statics},
        table=table or None,
        latency=description["latency"],
        lists={row["list"]: row["count"] for row in lists},
        ranges={
            **{row["list"]: tuple(row.get("range", code_range(row["bits"], row["signed"]))) for row in lists},
            **{port["name"]: code_range(port["width"], port["signed"]) for port in statics},
            **{name: (low, high) for name, (low, high) in description.get("ranges", {}).items()},
        },
        schedule=_schedule(description.get("schedule")),
    )


def _schedule(described: Mapping[str, Any] | None) -> RowSchedule | None:
    if described is None:
        return None
    return RowSchedule(tuple(described["delays"]), tuple(described["ways"]), described["rows"])


def component_of(vectors: VectorSet) -> Any:
    """The unit of a set as an Amaranth component. Raises `InputError` if the configuration cannot be built."""
    unit, load = UNITS[vectors.unit], None
    try:
        if vectors.configuration.get("storage") == "constants":
            if len(vectors.counts) != 1:
                raise InputError(f"storage constants holds one load, not {len(vectors.counts)}")
            load = vectors.loaded(0)
        return unit.component_class(unit.configuration(vectors.configuration, load))
    except InputError as error:
        raise InputError(f"{vectors.name}: configuration: {error}") from None


def lowered(vectors: VectorSet, load: int) -> LoweredTable:
    """The table of one load as the specification's object."""
    arrays = vectors.loaded(load)
    shifts = {key: arrays.get(key) for key in ("intercept_shift", "output_shift", "s")}
    widths = CodeFormat.from_dict(vectors.configuration).to_dict()
    return LoweredTable.from_dict({key: arrays[key] for key in TABLE_LISTS} | shifts | widths)
