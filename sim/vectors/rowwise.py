"""Vectors for the units that work on rows: softmax, LayerNorm and RMSNorm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ga_search.methods.secants import secant_table
from rtl.pwl import table_lists
from rtl.rowwise.norm import SHAPE, NormConfig, shorter
from rtl.rowwise.softmax import SoftmaxConfig, numbers
from sim.reference import LoweredTable, Norm, Normaliser, PwlTable, Softmax
from sim.reference.arithmetic import code_range
from sim.reference.norm import BIAS_BITS, GAIN_BITS, MAX_SHIFT, normal_frac_bits_for, spread_bits_for
from sim.reference.softmax import lower_exp, total_bits_for
from sim.vectors.normaliser import top_scale
from sim.vectors.pwl import random_table
from sim.vectors.random_rows import Rows
from sim.vectors.vector_set import TABLE_LISTS, VectorSet

EXP_SHIFTS = ("intercept_shift", "output_shift")


def softmax_set(
    name: str, loads: Sequence[tuple[Softmax, Rows]], source: Mapping[str, Any], **changes: Any
) -> VectorSet:
    """A set for the unit of the first load's geometry, which every load must have.

    `changes` are further fields of `rtl.rowwise.softmax.SoftmaxConfig`.
    """
    first = loads[0][0]
    config = SoftmaxConfig(first, **changes)
    for reference, _ in loads:
        config.words(reference)  # refuses what does not fit
    rows = [rows for _, rows in loads]
    arrays = {
        "inputs.score": _join([part.codes for part in rows]),
        "inputs.valid": _join([np.ones_like(p.codes) if p.valid is None else p.valid for p in rows]),
        "inputs.last": _join([part.last for part in rows]),
        "expected.probability": _join([part.evaluate(reference.compute) for reference, part in loads]),
        "expected.last": _join([part.last for part in rows]),
        "counts": np.array([len(part.codes) for part in rows], dtype=np.int64),
        **_lists("exp", [reference.exp for reference, _ in loads]),
        **_lists("div", [reference.div.lowered for reference, _ in loads]),
        **{
            f"exp_{key}": np.array([getattr(reference.exp, key) for reference, _ in loads], dtype=np.int64)
            for key in EXP_SHIFTS
        },
        "s": np.array([reference.exp.s for reference, _ in loads], dtype=np.int64),
    }
    widths = {
        "inputs.score": (first.score_bits, True),
        **dict.fromkeys(("inputs.valid", "inputs.last", "expected.last"), (1, False)),
        "expected.probability": (first.probability_bits, True),
        **_list_widths([("exp", config.exp), ("div", config.div.pwl)]),
    }
    content = config.to_dict()
    configuration = {key: content[key] for key in (*numbers(first), "tables", *changes)}
    return VectorSet(name, "softmax", configuration, arrays, widths, dict(source))


def norm_set(
    name: str,
    loads: Sequence[tuple[Norm, Rows]],
    source: Mapping[str, Any],
    reference: Norm | None = None,
    **changes: Any,
) -> VectorSet:
    """A set for the unit of `reference`, unless given the first load's norm; rows may be shorter than a load's norm.

    `changes` are further fields of `rtl.rowwise.norm.NormConfig`.
    """
    reference = reference or loads[0][0]
    config = NormConfig(reference, **changes)
    for norm, _ in loads:
        config.words(norm)  # refuses what does not fit
    rows = [rows for _, rows in loads]

    def expected(norm: Norm, part: Rows) -> np.ndarray:
        return part.evaluate(lambda codes, _: shorter(norm, codes.shape[-1]).compute(codes))

    arrays = {
        "inputs.code": _join([part.codes for part in rows]),
        "inputs.last": _join([part.last for part in rows]),
        "expected.code": _join([expected(norm, part) for norm, part in loads]),
        "expected.last": _join([part.last for part in rows]),
        "counts": np.array([len(part.codes) for part in rows], dtype=np.int64),
        **_lists("rsqrt", [norm.rsqrt.lowered for norm, _ in loads]),
        **{
            key: np.array([_filled(getattr(norm, key), reference.length) for norm, _ in loads], dtype=np.int64)
            for key in ("gain", "bias")
        },
        **{key: np.array([getattr(norm, key) for norm, _ in loads], dtype=np.int64) for key in ("epsilon", "shift")},
    }
    widths = {
        "inputs.code": (reference.in_bits, True),
        "expected.code": (reference.out_bits, True),
        **dict.fromkeys(("inputs.last", "expected.last"), (1, False)),
        **_list_widths([("rsqrt", config.rsqrt.pwl)]),
        "gain": (GAIN_BITS, True),
        "bias": (BIAS_BITS, True),
    }
    content = config.to_dict()
    configuration = {key: content[key] for key in (*SHAPE, "max_epsilon", "tables", *changes)}
    unit = "layernorm" if reference.centring else "rmsnorm"
    return VectorSet(name, unit, configuration, arrays, widths, dict(source))


def random_softmax(
    rng: np.random.Generator, exp_scale: int, row_length: int, wild: bool = False, **fields: int
) -> Softmax:
    """Tables near the functions' own, so that every code of the output comes, or where `wild` any at all."""
    table, width = near_table(rng, "exp", wild), fields.get("probability_bits", Softmax.probability_bits)
    exp = lower_exp(table, int(rng.integers(max(exp_scale - 6, 0), 7)), width, exp_scale)
    bits = total_bits_for(exp, row_length)
    div = Normaliser(near_table(rng, "div", wild), 5, bits, exp_scale, False)
    return Softmax(exp, exp_scale, div, row_length, **fields)


def fitted_softmax(exp: PwlTable, div: PwlTable, scale: int, exp_scale: int, row_length: int, **fields: int) -> Softmax:
    """A softmax through two fitted tables, scores at 2**-scale."""
    lowered = lower_exp(exp, scale, fields.get("probability_bits", Softmax.probability_bits), exp_scale)
    bits = total_bits_for(lowered, row_length)
    return Softmax(lowered, exp_scale, Normaliser(div, top_scale(div), bits, exp_scale, False), row_length, **fields)


def random_norm(
    rng: np.random.Generator, rsqrt: PwlTable, length: int, epsilon: int, centring: bool, **widths: int
) -> Norm:
    """Random gains and biases, with a shift that brings most outputs into the codes and some beyond."""
    out_bits = widths.get("out_bits", 16)
    gain_bits = int(rng.integers(6, GAIN_BITS + 1))
    normal = normal_frac_bits_for(length) + gain_bits - 1
    shift = int(np.clip(normal + rng.integers(-1, 4) - out_bits + 1, 0, MAX_SHIFT))
    gain = rng.integers(*code_range(gain_bits, True), length, endpoint=True)
    bias = np.clip(rng.normal(0, 2.0 ** (normal - 2), length), *code_range(BIAS_BITS, True)).astype(int)
    bits = spread_bits_for(length, epsilon, widths.get("in_bits", 16))
    normaliser = Normaliser(rsqrt, top_scale(rsqrt), bits, 0, False)
    return Norm(tuple(gain.tolist()), tuple(bias.tolist()), shift, epsilon, normaliser, centring, **widths)


def near_table(rng: np.random.Generator, function: str, wild: bool = False) -> PwlTable:
    """The function's secants with coefficients that are a few units off; where `wild`, any table of its geometry."""
    table = secant_table(function)
    if wild:
        kept = ("function", "domain", "normaliser_step", "slope_frac_bits", "intercept_frac_bits")
        return random_table(rng, table.entries, 0, **{key: getattr(table, key) for key in kept})

    def moved(values: tuple[int, ...]) -> tuple[int, ...]:
        low, high = code_range(table.coef_bits, True)
        return tuple(np.clip(values + rng.integers(-3, 4, len(values)), low, high).tolist())

    return replace(table, slopes=moved(table.slopes), intercepts=moved(table.intercepts))


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.int64)


def _filled(values: tuple[int, ...], length: int) -> tuple[int, ...]:
    return values + (0,) * (length - len(values))


def _lists(name: str, tables: Sequence[LoweredTable]) -> dict[str, np.ndarray]:
    return {f"{name}_{key}": np.array([getattr(table, key) for table in tables], dtype=np.int64) for key in TABLE_LISTS}


def _list_widths(tables: Sequence[tuple[str, Any]]) -> dict[str, tuple[int, bool]]:
    return {
        list_name: (bits, signed)
        for name, config in tables
        for list_name, _, bits, signed in table_lists(config, f"{name}_")
    }
