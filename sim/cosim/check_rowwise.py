"""A unit for rows in a file that `python -m rtl softmax`, `layernorm` or `rmsnorm` wrote, and the tables it is for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtl.rowwise.norm import NormConfig
from rtl.rowwise.softmax import SoftmaxConfig
from rtl.units import UNITS
from sim.cosim.dut import Device, read_device, require_consistent
from sim.reference import InputError, PwlTable, Softmax
from sim.reference.softmax import lower_exp

TABLES = {"softmax": ("exp", "div"), "layernorm": ("rsqrt",), "rmsnorm": ("rsqrt",)}  # unit -> its tables' functions


def row_unit(
    path: Path, tables: Sequence[PwlTable], wired: Mapping[str, Any] | None = None
) -> tuple[Device, SoftmaxConfig | NormConfig, dict[str, PwlTable]]:
    """The unit in a file, its configuration and its tables by function.

    Parameters
    ----------
    path : Path
        `FILE.v`, with `FILE.rtl.json` beside it.
    tables : Sequence[PwlTable]
        Those that it was made for, one of each function.
    wired : Mapping or None
        A norm's gain, bias, epsilon and shift, which a unit that stores none of them must be given; gains and biases
        are as many as its longest row has.

    Raises
    ------
    InputError
        If the unit is not one for rows, its description contradicts itself, or the tables are not those it was made
        for.
    """
    unit, description = read_device(path)
    name = description.get("unit")
    if name not in TABLES:
        raise InputError(f"{path}: unit must be one of {', '.join(TABLES)}, not {name}")
    try:
        config, chosen = row_config(description, tables, wired)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        source = path.with_suffix(".rtl.json")
        raise InputError(f"{source}: parameters and source must be those of {name} ({error!r})") from None
    require_consistent(path, description, UNITS[name].component_class(config))
    return unit, config, chosen


def row_config(
    description: Mapping[str, Any], tables: Sequence[PwlTable], wired: Mapping[str, Any] | None
) -> tuple[Any, dict[str, PwlTable]]:
    """The configuration that a description says, and its tables by function; see `row_unit`."""
    name, parameters, source = description["unit"], description["parameters"], description["source"]
    chosen = _tables(TABLES[name], tables, source)
    if name == "softmax":
        if wired is not None:
            raise InputError("a softmax has no gain and bias")
        bits = parameters.get("probability_bits", Softmax.probability_bits)
        exp = lower_exp(chosen["exp"], source["exp"]["lowered"]["s"], bits, parameters["exp_scale"])
        held = {"exp": exp.to_dict(), "div": chosen["div"].to_dict(), "div_scale": source["div"]["lowered"]["s"]}
        return UNITS[name].configuration({**parameters, "tables": held}), chosen
    for key, values in ({} if wired is None else wired).items():
        if key in ("gain", "bias") and len(values) != parameters["length"]:
            raise InputError(f"{key} must have {parameters['length']} integers, not {len(values)}")
    if parameters["storage"] == "constants" and wired is None:
        raise InputError("gain, bias, epsilon and shift are wired in and must be given too")
    held = {"rsqrt": chosen["rsqrt"].to_dict(), "rsqrt_scale": source["rsqrt"]["lowered"]["s"]}
    return UNITS[name].configuration({**parameters, "tables": held}, wired), chosen


def _tables(functions: Sequence[str], tables: Sequence[PwlTable], source: Mapping[str, Any]) -> dict[str, PwlTable]:
    """By function; each the one that the unit was made for."""
    given = [table.function for table in tables]
    if sorted(given) != sorted(functions):
        has = f"of {', '.join(given)}" if given else "none"
        raise InputError(f"needs a table of {' and one of '.join(functions)}, not {has}")
    chosen = {table.function: table for table in tables}
    for name, table in chosen.items():
        if table.digest != source[name]["table_sha256"]:
            raise InputError(f"was made for another table of {name} ({source[name]['table_sha256'][:12]})")
    return {name: chosen[name] for name in functions}
