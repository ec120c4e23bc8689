"""An emitted file against the specification: `FILE.v` as it is, not a unit emitted anew."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtl.pwl import SHIFTS
from rtl.rowwise.norm import NormConfig
from rtl.rowwise.softmax import SoftmaxConfig
from rtl.units import UNITS
from sim.cosim.check_rowwise import TABLES, row_config
from sim.cosim.dut import Device, read_device, require_consistent
from sim.reference import InputError, LoweredTable, PwlTable
from sim.reference.arithmetic import code_range
from sim.reference.float_pwl import FloatTable
from sim.reference.norm import spread_bits_for
from sim.vectors.floating import OPERATIONS, fitted_float_pwl_set, mac_set, operator_set
from sim.vectors.normaliser import normaliser_set
from sim.vectors.pwl import every_code, output_scale, pwl_set
from sim.vectors.random_rows import random_rows
from sim.vectors.random_unit import random_unit_set
from sim.vectors.requant import requant_set
from sim.vectors.rowwise import norm_set, random_norm, softmax_set
from sim.vectors.vector_set import VectorSet, column

VECTORS = 4_000  # random ones, which Icarus has the time for
ROWS = (8, 400)  # at least, at most
ONE_TABLE = ("pwl", "normaliser", "fp-pwl")
EVERY = 16  # bits of an input of which every value is tried


@dataclass(frozen=True)
class Given:
    """What a file is checked with.

    Parameters
    ----------
    tables : tuple[PwlTable, ...]
        The tables of a unit that has some.
    parameters : Mapping or None
        Gain, bias, epsilon and shift of a norm; a unit that has them wired in needs them.
    edited : bool
        The Verilog may differ from the file that the description is of: its hash is not compared.
    seed : int
        Decides random vectors.
    """

    tables: tuple[PwlTable, ...] = ()
    parameters: Mapping[str, Any] | None = None
    edited: bool = False
    seed: int = 0


def check_set(path: Path, given: Given) -> tuple[Device, VectorSet]:
    """The unit in a file and vectors for it.

    A piecewise-linear unit gets every code at every scale that its table was fitted for, or if it is for one scale
    alone (its table wired in, or a shift fixed), at the one that its description records.

    Parameters
    ----------
    path : Path
        `FILE.v` that `python -m rtl` wrote, with `FILE.rtl.json` beside it.
    given : Given
        Tables and parameters of the unit.

    Raises
    ------
    InputError
        If the unit is not one that is checked by itself, its description contradicts itself, or what is given does not
        fit it.
    """
    device, description = read_device(path, given.edited)
    name = description.get("unit")
    if name not in _CHECKS and not (name in UNITS and UNITS[name].is_reference):
        known = (*_CHECKS, *(unit for unit in UNITS if UNITS[unit].is_reference))
        raise InputError(f"{path}: unit must be one of {', '.join(known)}, not {name}")
    try:
        _require_suitable(name, given)
        config, make = _CHECKS.get(name, _reference)(description, given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        source = path.with_suffix(".rtl.json")
        raise InputError(f"{source}: parameters and source must be those of {name} ({error!r})") from None
    require_consistent(path, description, UNITS[name].component_class(config))
    vectors = make(path.stem)
    return device, replace(vectors, configuration={**vectors.configuration, **description["parameters"]})


def _require_suitable(name: str, given: Given) -> None:
    functions = TABLES.get(name)
    if functions is None:
        if name not in ONE_TABLE and given.tables:
            raise InputError(f"{name} has no table: --table must not be given")
        if name in ONE_TABLE and len(given.tables) != 1:
            raise InputError(f"{name} has one table: --table must be given once, not {len(given.tables)} times")
    if given.parameters is not None and name not in ("layernorm", "rmsnorm"):
        raise InputError(f"--parameters are those of a norm, not of {name}")


Checked = tuple[Any, Callable[[str], VectorSet]]  # the configuration, and the set of a name, once that is consistent


def _source(table: PwlTable) -> dict[str, Any]:
    return {"table": table.digest, "function": table.function}


def _pwl(description: Mapping[str, Any], given: Given) -> Checked:
    table = given.tables[0]
    parameters = description["parameters"]
    tables = _lowered(description, table)
    config = UNITS["pwl"].configuration(parameters, tables[0].to_dict())
    for lowered in tables:
        config.check_fit(lowered)

    def make(name: str) -> VectorSet:
        shape = {key: getattr(config, key) for key in ("entries", "in_bits", "coef_bits", "stages", "slope_form")}
        most = {f"max_{key}": config.largest(key) for key in SHIFTS[: 1 + (config.output == "code")]}
        rng = np.random.default_rng(given.seed)
        loads = [(one, every_code(one, rng)) for one in tables]
        vectors = pwl_set(name, loads, _source(table), **shape, **most)
        width = config.out_shape.width
        defined = column(np.concatenate([_defined(table, *load) for load in loads]), width)
        return replace(vectors, arrays={**vectors.arrays, "expected": defined})

    return config, make


def _defined(table: PwlTable, lowered: LoweredTable, codes: np.ndarray) -> np.ndarray:
    """The outputs by the table's own definition, so that a fault in what is loaded is seen too."""
    shift = lowered.output_shift
    return table.define(codes, lowered.s, None if shift is None else table.slope_frac_bits + lowered.s - shift)


def _lowered(description: Mapping[str, Any], table: PwlTable) -> list[LoweredTable]:
    """`table` at each scale to be checked."""
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
    return tables


def _normaliser(description: Mapping[str, Any], given: Given) -> Checked:
    table = given.tables[0]
    config = UNITS["normaliser"].configuration({**description["parameters"], "table": table.to_dict()})

    def make(name: str) -> VectorSet:
        low, high = code_range(config.reference.input_bits, config.reference.input_signed)
        if config.reference.input_bits <= EVERY:
            inputs = np.arange(low, high + 1)
        else:
            powers = 1 << np.arange(config.magnitude_bits)  # where the shift changes, from both sides
            random = np.random.default_rng(given.seed).integers(low, high, VECTORS, endpoint=True)
            inputs = np.concatenate([[low, 0, high], powers, powers - 1, random, random >> random % 40])
        fields = {key: getattr(config, key) for key in ("out_bits", "out_signed", "stages")}
        return normaliser_set(name, config.reference, inputs, _source(table), config.output_scale, **fields)

    return config, make


def _float_pwl(description: Mapping[str, Any], given: Given) -> Checked:
    table = given.tables[0]
    parameters = description["parameters"]
    number = UNITS["fp-pwl"].configuration({**parameters, "storage": "flops"}).number
    config = UNITS["fp-pwl"].configuration(parameters, FloatTable.of_table(number, table).stored())
    return config, lambda name: fitted_float_pwl_set(name, number, table, entries=config.entries, stages=config.stages)


def _requant(description: Mapping[str, Any], given: Given) -> Checked:
    config = UNITS["requant"].configuration(description["parameters"])
    return config, lambda name: requant_set(name, given.seed, VECTORS, **config.to_dict())


def _mac(description: Mapping[str, Any], given: Given) -> Checked:
    config = UNITS["fp-mac"].configuration(description["parameters"])
    return config, lambda name: mac_set(name, config.number, config.sum, given.seed, VECTORS, config.stages)


def _operator(description: Mapping[str, Any], given: Given) -> Checked:
    unit = description["unit"]
    config = UNITS[unit].configuration(description["parameters"])
    return config, lambda name: operator_set(name, unit, config.number, given.seed, VECTORS, config.stages)


def _softmax(description: Mapping[str, Any], given: Given) -> Checked:
    config: SoftmaxConfig = row_config(description, given.tables, given.parameters)[0]

    def make(name: str) -> VectorSet:
        reference, rng = config.reference, np.random.default_rng(given.seed)
        rows = random_rows(rng, _rows(reference.row_length), 1, reference.row_length, reference.score_bits, masked=True)
        return softmax_set(name, [(reference, rows)], {"seed": given.seed}, stages=config.stages, rows=config.rows)

    return config, make


def _norm(description: Mapping[str, Any], given: Given) -> Checked:
    config: NormConfig = row_config(description, given.tables, given.parameters)[0]

    def make(name: str) -> VectorSet:
        reference, rng = config.reference, np.random.default_rng(given.seed)
        values = given.parameters
        if values is None:
            widths = {"in_bits": reference.in_bits, "out_bits": reference.out_bits}
            made = random_norm(
                rng, reference.rsqrt.table, reference.length, reference.epsilon, reference.centring, **widths
            )
            values = {"gain": made.gain, "bias": made.bias, "shift": made.shift}
        norm = reference if config.storage == "constants" else replace(reference, **_loadable(reference, values))
        rows = random_rows(rng, _rows(norm.length), 2, norm.length, norm.in_bits)
        changes = {"stages": config.stages, "rows": config.rows}
        return norm_set(name, [(norm, rows)], {"seed": given.seed}, reference, **changes)

    return config, make


def _loadable(reference: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """A norm's values, with the normaliser for its epsilon."""
    epsilon = values.get("epsilon", reference.epsilon)
    bits = spread_bits_for(len(values["gain"]), epsilon, reference.in_bits)
    return {**values, "rsqrt": replace(reference.rsqrt, input_bits=bits)}


def _rows(longest: int) -> int:
    return int(np.clip(5 * VECTORS // longest, *ROWS))


def _reference(description: Mapping[str, Any], given: Given) -> Checked:
    unit = description["unit"]
    config = UNITS[unit].configuration(description["parameters"])
    return config, lambda name: random_unit_set(name, unit, config, given.seed, VECTORS)


_CHECKS: dict[str, Callable[[Mapping[str, Any], Given], Checked]] = {
    "pwl": _pwl,
    "normaliser": _normaliser,
    "requant": _requant,
    "fp-pwl": _float_pwl,
    "fp-mac": _mac,
    **dict.fromkeys(OPERATIONS, _operator),
    "softmax": _softmax,
    **dict.fromkeys(("layernorm", "rmsnorm"), _norm),
}
