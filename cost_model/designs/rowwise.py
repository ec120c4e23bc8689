"""Softmax, LayerNorm and RMSNorm as designs.

**The work** is made of the real numbers of `cost_model.designs.design`, row after row of the unit's full length: scores
at the EXP table's scale for softmax, codes at the largest power of two that holds them all for the norms. A norm's
gains are normal around 1 and its biases around 0, with a deviation of 0.2 (seed 0), unless they are given; its shift
brings the outputs to the input's scale. They are a stand-in for a network's own scores and residual stream, of which
`python -m sim vectors --from sentence` has the real ones.

**The checks** are rows of every kind and many lengths (`sim.vectors.random_rows.random_rows`), with the unit's own
tables, and, where these are stored, with random ones too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cost_model.designs.design import INPUTS, Design
from ga_search import NETWORK_DOMAINS, fit_table
from rtl.rowwise.norm import NormConfig
from rtl.rowwise.softmax import SoftmaxConfig
from sim.cosim.check_rowwise import row_unit
from sim.reference import InputError, Norm, Normaliser, PwlTable
from sim.reference.arithmetic import code_range
from sim.reference.norm import BIAS_BITS, GAIN_BITS, MAX_LENGTH, MAX_SHIFT, normal_frac_bits_for, spread_bits_for
from sim.reference.softmax import MAX_ROW_LENGTH, total_bits_for
from sim.vectors.normaliser import top_scale
from sim.vectors.pwl import random_table
from sim.vectors.random_rows import Rows, random_rows
from sim.vectors.rowwise import fitted_softmax, norm_set, random_norm, softmax_set

UNITS = {"softmax": None, "layernorm": True, "rmsnorm": False}  # unit -> centring of a norm
LENGTHS = {"softmax": 128, "layernorm": 384, "rmsnorm": 384}
LIMITS = {"softmax": (1, MAX_ROW_LENGTH), "layernorm": (2, MAX_LENGTH), "rmsnorm": (2, MAX_LENGTH)}  # of a length
SCORE_SCALE, POWER_SCALE = 4, 7  # scale exponents of the scores and of EXP's output
MAX_EPSILON = (1 << 32) - 1
CHECK_ELEMENTS = 2500  # of each load of the checks, about
WORK_ELEMENTS = 4096


def row_design(unit: str, length: int | None = None, memories_inside: bool = False, **fields: Any) -> Design:
    """Softmax, layernorm or rmsnorm with fitted tables of 8 entries, for rows of up to `length`.

    `fields` are those of `rtl.rowwise.softmax.SoftmaxConfig` and `rtl.rowwise.norm.NormConfig`. Raises `InputError` for
    what these refuse.
    """
    if unit not in UNITS:
        raise InputError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}")
    length = LENGTHS[unit] if length is None else length
    if unit == "softmax":
        exp, div = fitted("exp"), fitted("div")
        config = SoftmaxConfig(fitted_softmax(exp, div, SCORE_SCALE, POWER_SCALE, length), **fields)
        return softmax_design(config, exp, memories_inside)
    rsqrt, zeros = fitted("rsqrt"), (0,) * length
    normaliser = Normaliser(rsqrt, top_scale(rsqrt), spread_bits_for(length, MAX_EPSILON), 0, False)
    return norm_design(
        NormConfig(Norm(zeros, zeros, 0, MAX_EPSILON, normaliser, bool(UNITS[unit])), **fields),
        memories_inside=memories_inside,
    )


def emitted_row_design(
    path: Path, tables: Sequence[PwlTable], wired: Mapping[str, Any] | None = None, memories_inside: bool = False
) -> Design:
    """The unit in a Verilog file from `python -m rtl softmax`, `layernorm` or `rmsnorm`, with the tables it is for.

    Raises `InputError` if file, description and tables do not belong together.
    """
    device, config, chosen = row_unit(path, tables, wired)
    if isinstance(config, SoftmaxConfig):
        design = softmax_design(config, chosen["exp"], memories_inside)
    else:
        design = norm_design(config, wired, memories_inside)
    return replace(design, name=path.stem, emitted=device)


def softmax_design(config: SoftmaxConfig, exp: PwlTable, memories_inside: bool = False) -> Design:
    """The unit of `config`, whose EXP table is `exp`."""
    reference, fields = config.reference, _fields(config)
    length, scale = reference.row_length, reference.exp.s
    codes = np.floor(np.load(INPUTS).astype(np.float64) * 2.0**scale + 0.5)
    codes = np.clip(codes, *code_range(reference.score_bits, True)).astype(np.int64)
    source = {"exp": exp.digest, "div": reference.div.table.digest}
    work = softmax_set("work", [(reference, _work_rows(codes, length))], source, **fields)
    rng = np.random.default_rng(0)

    def rows() -> Rows:
        return random_rows(rng, _count(1, length), 1, length, reference.score_bits, masked=True)

    loads = [(reference, rows())]
    if config.storage != "constants":
        lowered = _random(rng, exp).lower(scale, reference.exp_scale)
        bits = total_bits_for(lowered, length)
        div = replace(reference.div, table=_random(rng, reference.div.table), input_bits=bits)
        loads.append((replace(reference, exp=lowered, div=div), rows()))
    check = softmax_set("random", loads, {"seed": 0}, **fields)
    parameters = {"row_length": length, **fields}
    return Design(
        "softmax", f"INT{reference.score_bits}", work, (check,), parameters=parameters, memories_inside=memories_inside
    )


def norm_design(config: NormConfig, values: Mapping[str, Any] | None = None, memories_inside: bool = False) -> Design:
    """The unit of `config`; `values` are gain, bias, epsilon and shift of the work, where it is not to be made up."""
    reference, fields = config.reference, _fields(config)
    unit, length = "layernorm" if reference.centring else "rmsnorm", reference.length
    wired = config.storage == "constants"
    own = reference if wired else _with(reference, **(_made_up(reference) if values is None else dict(values)))
    work = norm_set("work", [(own, _work_rows(_stream(reference.in_bits), length))], _source(own), reference, **fields)
    rng = np.random.default_rng(0)

    def rows() -> Rows:
        return random_rows(rng, _count(2, length), 2, length, reference.in_bits)

    loads = [(own, rows())]
    if not wired:
        widths = {"in_bits": reference.in_bits, "out_bits": reference.out_bits}
        table = reference.rsqrt.table
        drawn = random_norm(rng, table, length, reference.epsilon, reference.centring, **widths)
        kept = {name: getattr(drawn, name) for name in ("gain", "bias", "shift", "epsilon")}
        loads.append((_with(reference, **kept, table=_random(rng, table)), rows()))
    check = norm_set("random", loads, {"seed": 0}, reference, **fields)
    parameters = {"length": length, **fields}
    return Design(
        unit, f"INT{reference.in_bits}", work, (check,), parameters=parameters, memories_inside=memories_inside
    )


@lru_cache(maxsize=8)
def fitted(function: str, entries: int = 8) -> PwlTable:
    """The table of a network: a normaliser's highest octaves, EXP with the finer coefficients."""
    return fit_table(function, entries, domain=NETWORK_DOMAINS.get(function))


def _fields(config: SoftmaxConfig | NormConfig) -> dict[str, Any]:
    return {"storage": config.storage, "stages": config.stages, "rows": config.rows}


def _source(norm: Norm) -> dict[str, Any]:
    return {"rsqrt": norm.rsqrt.table.digest}


def _count(shortest: int, longest: int) -> int:
    return int(np.clip(2 * CHECK_ELEMENTS // (shortest + longest), 8, 200))


def _work_rows(values: np.ndarray, length: int) -> Rows:
    """At least four rows of `length`, and as many as there are values for; the values start anew where they end."""
    count = max(min(len(values), WORK_ELEMENTS) // length, 4)
    return Rows.of_batch(np.resize(values, (count, length)))


def _stream(bits: int) -> np.ndarray:
    """The real numbers as codes of `bits` at the largest power of two that holds them all."""
    values = np.load(INPUTS).astype(np.float64)
    low, high = code_range(bits, True)
    exponent = int(np.floor(np.log2(high / np.abs(values).max())))
    return np.clip(np.floor(values * 2.0**exponent + 0.5), low, high).astype(np.int64)


def _made_up(reference: Norm) -> dict[str, Any]:
    """Gains around 1 and biases around 0; an output code stands for 2**-(out_bits - 4), so that +-8 fit."""
    rng = np.random.default_rng(0)
    frac = GAIN_BITS - 3
    normal = normal_frac_bits_for(reference.length) + frac
    gain = np.floor(rng.normal(1, 0.2, reference.length) * 2.0**frac + 0.5)
    bias = np.floor(rng.normal(0, 0.2, reference.length) * 2.0**normal + 0.5)
    gain, bias = (
        np.clip(values, *code_range(bits, True)).astype(int) for values, bits in ((gain, GAIN_BITS), (bias, BIAS_BITS))
    )
    shift = int(np.clip(normal - (reference.out_bits - 4), 0, MAX_SHIFT))
    epsilon = min(max(round(1e-5 * reference.length**2), 1), reference.epsilon)
    return {"gain": tuple(gain.tolist()), "bias": tuple(bias.tolist()), "shift": shift, "epsilon": epsilon}


def _with(reference: Norm, table: PwlTable | None = None, **values: Any) -> Norm:
    """`reference` with other values and, where given, another table of its geometry."""
    bits = spread_bits_for(len(values["gain"]), values["epsilon"], reference.in_bits)
    rsqrt = replace(reference.rsqrt, table=table or reference.rsqrt.table, input_bits=bits)
    return replace(reference, rsqrt=rsqrt, **values)


def _random(rng: np.random.Generator, table: PwlTable) -> PwlTable:
    """Any table of the same geometry."""
    kept = ("function", "domain", "normaliser_step", "slope_frac_bits", "intercept_frac_bits")
    return random_table(
        rng, table.entries, 0, **{name: getattr(table, name) for name in kept}, **table.code_format.to_dict()
    )
