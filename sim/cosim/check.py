"""An emitted file against a table: `FILE.v` as it is, not a unit emitted anew."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.hdl import Fragment

from rtl.emit import ports
from rtl.pwl import Pwl, PwlConfig
from sim.cosim.dut import Device, read_device
from sim.reference import InputError, LoweredTable, PwlTable
from sim.vectors.pwl import every_code, output_scale, pwl_set
from sim.vectors.vector_set import VectorSet

SHIFTS = ("intercept_shift", "output_shift")


def check_set(path: Path, table: PwlTable) -> tuple[Device, VectorSet]:
    """The unit in `path` and the vectors of `table` for it: every code at every scale it was fitted for, or where the
    unit is for one scale alone (its table wired in, or a shift fixed), at the one its description records.

    Raises `InputError` where the unit is no piecewise-linear one, its description contradicts itself, or the table does
    not fit it.
    """
    unit, description = read_device(path)
    if description.get("unit") != "pwl":
        raise InputError(f"{path}: unit must be pwl, not {description.get('unit')}")
    try:
        config, tables = _loads(description, table)
        for lowered in tables:
            config.check_fit(lowered)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path.with_suffix('.rtl.json')}: parameters and source must be pwl's ({error!r})") from None
    component = Pwl(config)
    Fragment.get(component, None)  # or Amaranth warns of a component that nobody used
    for key, value in {**component.describe(), "ports": ports(component)}.items():
        if description.get(key) != json.loads(json.dumps(value)):
            raise InputError(f"{path.with_suffix('.rtl.json')}: {key} must be what its parameters say")
    shape = {key: getattr(config, key) for key in ("entries", "in_bits", "coef_bits", "stages")}
    most = {f"max_{name}": config.largest(name) for name in SHIFTS[: 1 + (config.output == "code")]}
    source = {"table": table.digest, "function": table.function}
    rng = np.random.default_rng(0)
    vectors = pwl_set(path.stem, [(one, every_code(one, rng)) for one in tables], source, **shape, **most)
    return unit, replace(vectors, configuration=description["parameters"])


def _loads(description: Mapping[str, Any], table: PwlTable) -> tuple[PwlConfig, list[LoweredTable]]:
    """The unit that a description tells of, and `table` at each scale to be checked."""
    parameters = description["parameters"]
    wired, fixed = parameters["storage"] == "constants", [parameters[name] for name in SHIFTS]
    recorded = description.get("source", {}).get("lowered")
    if (wired or fixed != [None, None]) and recorded is not None:
        scales = [recorded["s"]]
    else:
        scales = [s for s in table.scales if fixed[0] in (None, table.lower(s).intercept_shift)]
    if not scales:
        raise InputError(f"the fixed intercept_shift of {fixed[0]} is that of no scale of the table")
    tables = []
    for s in scales:
        unit = table.slope_frac_bits + s  # the accumulator's scale
        best = min(output_scale(table), unit) if fixed[1] is None else unit - fixed[1]
        tables.append(table.lower(s, None if parameters["output"] == "acc" else best))
    return PwlConfig(**unit_fields(parameters, tables[0])), tables


def unit_fields(parameters: Mapping[str, Any], table: LoweredTable) -> dict[str, Any]:
    """The fields of `rtl.pwl.PwlConfig` from a description's parameters, which name the largest value of a fixed shift
    too; `table` is the one that the unit holds, if it is wired in.
    """
    fields = {key: value for key, value in parameters.items() if key != "acc_bits"}
    for name in SHIFTS:
        if fields[name] is not None or (name == "output_shift" and fields["output"] == "acc"):
            fields[f"max_{name}"] = None
    return fields | {"constants": table if fields["storage"] == "constants" else None}
