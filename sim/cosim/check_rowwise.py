"""A unit for rows in a file that `python -m rtl softmax`, `layernorm` or `rmsnorm` wrote, and the tables it is for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Fragment

from rtl.emit import ports
from rtl.rowwise.norm import NormConfig, NormUnit
from rtl.rowwise.softmax import SoftmaxConfig, SoftmaxUnit
from sim.cosim.dut import Device, read_device
from sim.reference import InputError, Norm, Normaliser, PwlTable, Softmax
from sim.reference.norm import spread_bits_for
from sim.reference.softmax import total_bits_for

TABLES = {"softmax": ("exp", "div"), "layernorm": ("rsqrt",), "rmsnorm": ("rsqrt",)}  # unit -> its tables' functions


def row_unit(
    path: Path, tables: Sequence[PwlTable], wired: Mapping[str, Any] | None = None
) -> tuple[Device, SoftmaxConfig | NormConfig, dict[str, PwlTable]]:
    """The unit in `path`, its configuration and its `tables` by function. `wired` are a norm's gain, bias, epsilon and
    shift, which a unit that stores none of them must be given; gains and biases are as many as its longest row has.

    Raises `InputError` where the unit is none for rows, its description contradicts itself, or the tables are not those
    it was made for.
    """
    unit, description = read_device(path)
    name = description.get("unit")
    if name not in TABLES:
        raise InputError(f"{path}: unit must be one of {', '.join(TABLES)}, not {name}")
    source = path.with_suffix(".rtl.json")
    try:
        chosen = _tables(path, TABLES[name], tables, description["source"])
        build: Any = _softmax if name == "softmax" else _norm
        config = build(path, description, chosen, wired)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: parameters and source must be those of {name} ({error!r})") from None
    component = SoftmaxUnit(config) if isinstance(config, SoftmaxConfig) else NormUnit(config)
    Fragment.get(component, None)  # or Amaranth warns of a component that nobody used
    for key, value in {**component.describe(), "ports": ports(component)}.items():
        if description.get(key) != json.loads(json.dumps(value)):
            raise InputError(f"{source}: {key} must be what its parameters say")
    return unit, config, chosen


def _tables(
    path: Path, functions: Sequence[str], tables: Sequence[PwlTable], source: Mapping[str, Any]
) -> dict[str, PwlTable]:
    """By function; each the one that the unit was made for."""
    given = [table.function for table in tables]
    if sorted(given) != sorted(functions):
        raise InputError(f"{path}: needs a table of {' and one of '.join(functions)}, not of {', '.join(given)}")
    chosen = {table.function: table for table in tables}
    for name, table in chosen.items():
        if table.digest != source[name]["table_sha256"]:
            raise InputError(f"{path}: was made for another table of {name} ({source[name]['table_sha256'][:12]})")
    return {name: chosen[name] for name in functions}


def _softmax(
    path: Path, description: Mapping[str, Any], tables: Mapping[str, PwlTable], wired: Mapping[str, Any] | None
) -> SoftmaxConfig:
    if wired is not None:
        raise InputError(f"{path}: a softmax has no gain and bias")
    parameters, source = description["parameters"], description["source"]
    exp = tables["exp"].lower(source["exp"]["lowered"]["s"], parameters["exp_scale"])
    bits = total_bits_for(exp, parameters["row_length"])
    div = Normaliser(tables["div"], source["div"]["lowered"]["s"], bits, parameters["exp_scale"], False)
    numbers = ("row_length", "inverse_scale", "probability_scale", "score_bits")
    reference = Softmax(exp, parameters["exp_scale"], div, **{name: parameters[name] for name in numbers})
    return SoftmaxConfig(reference, **_fields(parameters))


def _norm(
    path: Path, description: Mapping[str, Any], tables: Mapping[str, PwlTable], wired: Mapping[str, Any] | None
) -> NormConfig:
    parameters, source = description["parameters"], description["source"]
    length, epsilon, in_bits = parameters["length"], parameters["max_epsilon"], parameters["in_bits"]
    for name, given in ({} if wired is None else wired).items():
        if name in ("gain", "bias") and len(given) != length:
            raise InputError(f"{path}: {name} must have {length} integers, not {len(given)}")
    zeros = (0,) * length
    values: dict[str, Any] = {"gain": zeros, "bias": zeros, "epsilon": epsilon, "shift": 0}
    if parameters["storage"] == "constants":
        if wired is None:
            raise InputError(f"{path}: gain, bias, epsilon and shift are wired in and must be given too")
        values = dict(wired)
    scale = source["rsqrt"]["lowered"]["s"]
    rsqrt = Normaliser(tables["rsqrt"], scale, spread_bits_for(length, values["epsilon"], in_bits), 0, False)
    widths = {name: parameters[name] for name in ("in_bits", "out_bits")}
    reference = Norm(rsqrt=rsqrt, centring=parameters["centring"], **values, **widths)
    return NormConfig(reference, **_fields(parameters))


def _fields(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "storage": parameters["storage"],
        "stages": tuple(parameters["stages"]),
        "rows": parameters["rows"],
    }
