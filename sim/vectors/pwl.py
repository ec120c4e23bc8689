"""Vectors for the piecewise-linear unit: fitted tables, random tables, and codes from a network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtl.pwl import PwlConfig
from sim.reference import LoweredTable, PwlTable
from sim.reference.arithmetic import holding
from sim.reference.code_format import CodeFormat
from sim.reference.pwl import frac_bits_range
from sim.vectors.vector_set import VectorSet, column

Load = tuple[LoweredTable, np.ndarray]  # a table and the codes to send through it


def pwl_set(
    name: str, loads: Sequence[Load], source: Mapping[str, Any], entries: int | None = None, **changes: Any
) -> VectorSet:
    """A set for the unit that holds every table of `loads`, with the outputs that the specification gives.

    The unit has the tables' widths, the largest table's entries unless told otherwise, and the default shift ranges
    unless a table needs more; `changes` are further fields of `rtl.pwl.PwlConfig`. The output is the accumulator where
    the tables have no output shift.
    """
    tables = [table for table, _ in loads]
    first = tables[0]
    acc = first.output_shift is None
    fields: dict[str, Any] = {
        "entries": entries or max(len(table.slopes) for table in tables),
        **first.code_format.to_dict(),
        "output": "acc" if acc else "code",
        "max_intercept_shift": max(first.in_bits - 1, *(table.intercept_shift for table in tables)),
    }
    if not acc:
        needed = [table.output_shift or 0 for table in tables]
        fields["max_output_shift"] = max(first.in_bits + first.coef_bits - 1, *needed)
    fields |= changes
    config = PwlConfig(**fields)
    width = config.out_shape.width
    held = [config.filled(table) | config.stored(table) for table in tables]
    arrays = {
        "inputs": np.concatenate([codes for _, codes in loads]).astype(np.int64),
        "expected": column(np.concatenate([_expected(table, codes) for table, codes in loads]), width),
        "counts": np.array([len(codes) for _, codes in loads], dtype=np.int64),
        **{key: np.array([row[key] for row in held], dtype=np.int64) for key in held[0]},
        "intercept_shift": np.array([table.intercept_shift for table in tables], dtype=np.int64),
        "s": np.array([table.s for table in tables], dtype=np.int64),
    }
    widths = {
        "inputs": (config.in_bits, config.in_signed),
        "expected": (width, acc or config.out_signed),
        **{name: holding(*ends) for name, (_, ends) in (config.code_format.lists | config.lists).items()},
    }
    if not acc:
        arrays["output_shift"] = np.array([table.output_shift for table in tables], dtype=np.int64)
    fields.pop("constants", None)  # a table that is wired in is the set's one load
    if fields.get("slope_form") == "any":
        del fields["slope_form"]  # named only where it differs
    return VectorSet(name, "pwl", fields, arrays, widths, dict(source))


def _expected(table: LoweredTable, codes: np.ndarray) -> np.ndarray:
    return table.accumulate(codes) if table.output_shift is None else table.output(codes)


def output_scale(table: PwlTable) -> int:
    """The largest scale exponent at which no in-domain output saturates, judged on the table's own values."""
    scale = max(table.scales)
    lowered = table.lower(scale)
    low, high = (int(np.clip(end * 2**scale, *table.code_format.in_range)) for end in table.domain)
    starts = np.array(lowered.thresholds)
    if lowered.code_format.folded:
        starts = np.concatenate([starts + 1, -starts - 1])
    codes = np.unique([low, high, *starts[(low <= starts) & (starts <= high)]])
    codes = np.unique(np.clip([*codes, *(codes - 1)], low, high))  # a line is largest at its ends
    peak = max(int(abs(lowered.accumulate(codes)).max()), 1)
    top = table.code_format.out_range[1]
    exponent = table.slope_frac_bits + scale
    while peak > top << max(table.slope_frac_bits + scale - exponent, 0):
        exponent -= 1
    return exponent


def fitted_set(
    name: str, table: PwlTable, output: str = "code", scales: Sequence[int] | None = None, **changes: Any
) -> VectorSet:
    """Every code of one table at `scales`: unless given, at every scale that 8-bit codes can have, for wider ones at
    the scales it was fitted for.

    Above 16 bits there are too many codes: corners and 10^4 random ones at each scale.
    """
    best = output_scale(table)
    rng = np.random.default_rng(0)
    loads = []
    for scale in every_scale(table) if scales is None else scales:
        lowered = table.lower(scale, None if output == "acc" else min(best, table.slope_frac_bits + scale))
        loads.append((lowered, every_code(lowered, rng)))
    return pwl_set(name, loads, {"table": table.digest, "function": table.function}, **changes)


def every_code(lowered: LoweredTable, rng: np.random.Generator) -> np.ndarray:
    """Every code of up to 16 bits; of more, corners and 10^4 random ones."""
    return lowered.codes() if lowered.in_bits <= 16 else corners(lowered, rng, 10_000)


def every_scale(table: PwlTable) -> Sequence[int]:
    """The scale exponents that `fitted_set` goes through."""
    return range(table.in_bits) if table.in_bits <= 8 else table.scales


def random_table(rng: np.random.Generator, entries: int, kind: int, **fields: Any) -> PwlTable:
    """Any table of the given size; `fields` are fields of `PwlTable`, such as widths.

    `kind` 0 spreads the breakpoints over the codes, 1 crowds them so that some are equal, 2 puts most of them where no
    code reaches.
    """
    code_format = CodeFormat.from_dict(fields)
    in_bits, coef_bits, signed = code_format.in_bits, code_format.coef_bits, code_format.in_signed
    b = int(rng.integers(0, in_bits))
    mu = int(rng.integers(0 if code_format.folded else -in_bits // 2, coef_bits // 2))
    mu = min(mu, frac_bits_range(in_bits, code_format.intercept_width)[1])
    limit = 1 << (in_bits - signed + b)
    spread = (min(limit, 1 << in_bits - signed), min(limit, max(entries // 4, 2)), limit)[kind]

    def any_of(ends: tuple[int, int], count: int) -> tuple[int, ...]:
        return tuple(rng.integers(ends[0], ends[1] + 1, count).tolist())

    values = {
        "function": "random",
        "domain": (-4, 4),
        "scales": tuple(range(in_bits)),
        "slope_frac_bits": min(mu + int(rng.integers(0, in_bits)), coef_bits + 4),
        "intercept_frac_bits": mu,
        "bp_frac_bits": b,
        "slopes": any_of(code_format.slope_range, entries),
        "intercepts": any_of(code_format.intercept_range, entries),
        "breakpoints": tuple(sorted(any_of((1 if code_format.folded else -spread, spread), entries - 1))),
    }
    return PwlTable(**{**values, **fields})


def random_set(
    name: str, seed: int, tables: int, entries: int, per_table: int = 0, output: str = "code", **fields: Any
) -> VectorSet:
    """`tables` random tables of 2 to `entries` entries for a unit of `entries`.

    With `per_table` 0 every table meets every code at every scale; otherwise one random scale each, its corners (the
    ends, every threshold and its neighbours) and that many random codes.
    """
    rng = np.random.default_rng(seed)
    code_format = CodeFormat.from_dict(fields)
    widths, in_bits = code_format.to_dict(), code_format.in_bits
    fields = {key: value for key, value in fields.items() if key not in widths}
    loads: list[Load] = []
    for k in range(tables):
        table = random_table(rng, entries if k % 2 else int(rng.integers(2, entries + 1)), k % 3, **widths)
        for s in range(in_bits) if not per_table else [int(rng.integers(0, in_bits))]:
            shift = int(rng.integers(0, in_bits + code_format.coef_bits))
            lowered = table.lower(s, None if output == "acc" else table.slope_frac_bits + s - shift)
            loads.append((lowered, corners(lowered, rng, per_table) if per_table else lowered.codes()))
    return pwl_set(name, loads, {"seed": seed}, entries, **fields)


def corners(lowered: LoweredTable, rng: np.random.Generator, count: int) -> np.ndarray:
    """The ends, zero, every threshold and its neighbours, and `count` random codes."""
    low, high = lowered.code_format.in_range
    near = np.array([(t - 1, t, t + 1) for t in lowered.thresholds]).ravel()
    if lowered.code_format.folded:
        near = np.concatenate([near + 1, -near - 1])
    ends = np.array([low, low + 1, -1, 0, 1, high - 1, high])
    return np.clip(np.concatenate([ends, near, rng.integers(low, high + 1, count)]), low, high)
