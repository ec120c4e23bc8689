"""Vectors for the floating-point units: operations, multiply-accumulate, and the piecewise-linear unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtl.floating.mac import MacConfig
from rtl.floating.operators import OperatorConfig
from rtl.floating.pwl import FloatPwlConfig
from sim.reference import PwlTable, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FORMATS, FloatFormat
from sim.vectors import floating_operands as operands
from sim.vectors.pwl import every_code, every_scale
from sim.vectors.vector_set import TABLE_LISTS, VectorSet

OPERATIONS = {"fp-mul": "multiply", "fp-add": "add", "fp-compare": "compare"}
CORNERS = 256
Load = tuple[FloatTable, np.ndarray]  # a table and the patterns to send through it


def operator_set(name: str, unit: str, number: FloatFormat, seed: int, count: int, stages: int = 1) -> VectorSet:
    """At least `count` vectors, shuffled, so that any cut of the set has every kind.

    Every pair of landmarks, every pair of exponents, ties, the products at both ends of the range, cancellations, and
    random patterns. For formats of 16 bits or fewer, where `count` is enough for every pair of 256 corner values, those
    too, and then `count` is that of the random patterns alone.
    """
    rng = np.random.default_rng(seed)
    a, b = _pairs(number, rng, count)
    operation = OPERATIONS[unit]
    if operation == "compare":
        expected = floating.greater_equal(number, a, b).astype(np.int64)
    else:
        expected = getattr(floating, operation)(number, a, b)
    config = OperatorConfig(operation, number, stages)
    return _operand_set(name, unit, config.to_dict(), {"a": a, "b": b}, expected, config.out_bits, seed)


def mac_set(
    name: str, number: FloatFormat, accumulator: FloatFormat, seed: int, count: int, stages: int = 4
) -> VectorSet:
    """At least `count` vectors: the operators' pairs as a and b; addends that cancel, tie with or meet the product."""
    rng = np.random.default_rng(seed)
    a, b = _pairs(number, rng, count)
    zero = np.zeros_like(a)
    product = floating.multiply_add(number, accumulator, a, b, zero)
    limit = (1 << accumulator.bits) - 1
    near = np.clip(product + rng.integers(-3, 4, len(a)), 0, limit) ^ accumulator.sign_bit
    shifted = product + (rng.integers(-3, 4, len(a)) - rng.choice([0, accumulator.fraction_bits], len(a)))
    shifted = np.clip(shifted, 0, limit) & limit
    apart = rng.choice([-1, 1], len(a)) * rng.integers(0, accumulator.fraction_bits + 4, len(a))
    aligned = np.clip(product + (apart << accumulator.fraction_bits), 0, limit)
    random = rng.integers(0, limit + 1, len(a))
    landmark = rng.choice(operands.landmarks(accumulator), len(a))
    kind = rng.choice(5, len(a), p=[0.25, 0.2, 0.3, 0.15, 0.1])
    addend = np.choose(kind, [near, shifted, aligned, random, landmark])
    expected = floating.multiply_add(number, accumulator, a, b, addend)
    config = MacConfig(number, accumulator, stages)
    columns = {"a": a, "b": b, "addend": addend}
    return _operand_set(name, "fp-mac", config.to_dict(), columns, expected, config.out_bits, seed)


def _pairs(number: FloatFormat, rng: np.random.Generator, count: int) -> np.ndarray:
    corners = number.bits <= 16 and count > CORNERS**2
    beside = [operands.every_pair(operands.corner_values(number, rng, CORNERS))] if corners else []
    pairs = [operands.every_pair(operands.landmarks(number))]
    pairs += [
        make(number, rng, max(count // 20, 1))
        for make in (operands.near_products, operands.tie_products, operands.tie_sums, operands.cancellations)
    ]
    left = count - sum(part.shape[1] for part in pairs)
    each = left * 3 // 4 // (number.special + 1) ** 2
    if each > 0:
        pairs.append(operands.exponent_pairs(number, rng, each))
    random = count if corners else max(count - sum(part.shape[1] for part in pairs), 0)
    pairs += [*beside, operands.anything(number, rng, random)]
    return rng.permutation(np.concatenate(pairs, axis=1), axis=1)


def _operand_set(
    name: str,
    unit: str,
    configuration: dict[str, Any],
    columns: dict[str, np.ndarray],
    expected: np.ndarray,
    out_bits: int,
    seed: int,
) -> VectorSet:
    number = FloatFormat(**configuration["number"])
    widths = {f"inputs.{key}": (out_bits if key == "addend" else number.bits, False) for key in columns}
    arrays = {f"inputs.{key}": column for key, column in columns.items()} | {
        "expected": expected,
        "counts": np.array([len(expected)], dtype=np.int64),
    }
    return VectorSet(name, unit, configuration, arrays, widths | {"expected": (out_bits, False)}, {"seed": seed})


def float_pwl_set(name: str, loads: Sequence[Load], source: dict[str, Any], **changes: Any) -> VectorSet:
    """A set for the unit that holds every table of `loads`; `changes` are fields of `rtl.floating.pwl.FloatPwlConfig`.

    The unit has the largest table's entries unless told otherwise.
    """
    tables = [table for table, _ in loads]
    number = tables[0].format
    fields = {"entries": max(table.entries for table in tables), **changes}
    config = FloatPwlConfig(number=number, **fields)
    padded = [config.padded(table) for table in tables]
    arrays = {
        "inputs": np.concatenate([x for _, x in loads]),
        "expected": np.concatenate([table.evaluate(x) for table, x in loads]),
        "counts": np.array([len(x) for _, x in loads], dtype=np.int64),
        **{key: np.array([row[key] for row in padded], dtype=np.int64) for key in TABLE_LISTS},
    }
    widths: dict[str, tuple[int, bool]] = dict.fromkeys(("inputs", "expected", *TABLE_LISTS), (number.bits, False))
    fields.pop("constants", None)  # a table that is wired in is the set's one load
    return VectorSet(name, "fp-pwl", {"number": config.to_dict()["number"], **fields}, arrays, widths, source)


def fitted_float_pwl_set(
    name: str, number: FloatFormat, table: PwlTable, random: int = 500, **changes: Any
) -> VectorSet:
    """An integer table's coefficients as numbers: every code of every scale as a number, corners, random patterns.

    Codes of different scales that are one number come once. Above 16 bits there are too many codes: as for the integer
    unit, corners and 10^4 random ones of each scale. `changes` are fields of `rtl.floating.pwl.FloatPwlConfig`.
    """
    rng = np.random.default_rng(0)
    lowered = [table.lower(scale) for scale in every_scale(table)]
    codes = [np.ldexp(every_code(each, rng).astype(float), -each.s) for each in lowered]
    patterns = floating.encode(number, np.unique(np.concatenate(codes)))
    own = FloatTable.of_table(number, table)
    source = {"table": table.digest, "function": table.function}
    return float_pwl_set(
        name, [(own, np.concatenate([patterns, corner_patterns(rng, own, random)]))], source, **changes
    )


def random_float_pwl_set(
    name: str, number: FloatFormat, seed: int, tables: int, entries: int, each: int, **changes: Any
) -> VectorSet:
    """`tables` random tables of 2 to `entries` entries, each with its corners and `each` random patterns."""
    rng = np.random.default_rng(seed)
    loads = []
    for k in range(tables):
        table = random_float_table(rng, number, entries if k % 2 else int(rng.integers(2, entries + 1)), k % 3)
        loads.append((table, corner_patterns(rng, table, each)))
    return float_pwl_set(name, loads, {"seed": seed}, entries=entries, **changes)


def random_float_table(rng: np.random.Generator, number: FloatFormat, entries: int, kind: int) -> FloatTable:
    """Any table: `kind` 0 is moderate, as a function's would be, 1 has random patterns, 2 landmarks among them."""
    sizes = (entries - 1, entries, entries)
    if kind == 0:
        lists = [floating.encode(number, rng.normal(0, 2, size)) for size in sizes]
    else:
        lists = [rng.integers(0, 1 << number.bits, size) for size in sizes]
    if kind == 2:
        marks = operands.landmarks(number)
        lists = [np.where(rng.random(len(x)) < 0.3, rng.choice(marks, len(x)), x) for x in lists]
    thresholds = np.where(floating.decode(number, lists[0]).nan, number.smallest - 1, lists[0])
    thresholds = thresholds[np.argsort(floating.order(number, thresholds))]
    return FloatTable(number, *(tuple(x.tolist()) for x in (thresholds, lists[1], lists[2])))


def corner_patterns(rng: np.random.Generator, table: FloatTable, count: int) -> np.ndarray:
    """The landmarks, every threshold and its neighbours with either sign; `count` random ones, half moderate."""
    number = table.format
    near = np.array([t + d for t in table.thresholds for d in (-1, 0, 1)], dtype=np.int64) % (1 << number.bits)
    moderate = floating.encode(number, rng.normal(0, 2, count // 2))
    random = rng.integers(0, 1 << number.bits, count - count // 2)
    return np.concatenate([operands.landmarks(number), near, near ^ number.sign_bit, moderate, random])


def float_suite(seed: int, quick: bool, units: Sequence[str]) -> list[VectorSet]:
    """Every floating-point unit; in full, each operation on 10^6 vectors and the whole unit at every depth."""
    sets = []
    count = 2_000 if quick else 1_000_000
    for unit in OPERATIONS:
        if unit not in units:
            continue
        for name, number in FORMATS.items():
            if not quick or name == "fp16":
                stages = {"fp-mul": 3, "fp-add": 4, "fp-compare": 1}[unit]
                sets.append(operator_set(f"random-{unit}-{name}", unit, number, seed, count, stages))
    if "fp-mac" in units:
        sets += _macs(seed, quick)
    if "fp-pwl" in units:
        sets += _pwls(seed, quick)
    return sets


def _macs(seed: int, quick: bool) -> list[VectorSet]:
    sets = []
    for product, accumulator, stages in (
        ("fp16", "fp32", (4, 1, 8)),
        ("fp16", "fp16", (3, 9)),
        ("fp32", "fp32", (3, 6, 10)),
    ):
        for depth in stages if not quick else stages[: product != accumulator]:
            name = f"random-fp-mac-{product}-{accumulator}-{depth}"
            count = 2_000 if quick else 100_000
            sets.append(mac_set(name, FORMATS[product], FORMATS[accumulator], seed, count, depth))
    return sets


def _pwls(seed: int, quick: bool) -> list[VectorSet]:
    sets = []
    for name, number in FORMATS.items():
        deepest = FloatPwlConfig.deepest(8, number)
        for stages in (7,) * (name == "fp32") if quick else range(1, deepest + 1):
            set_name = f"random-fp-pwl-{name}-8-{stages}"
            storage = "latches" if stages % 4 == 2 else "flops"
            tables, each = (3, 200) if quick else (12, 2_000)
            sets.append(random_float_pwl_set(set_name, number, seed, tables, 8, each, stages=stages, storage=storage))
        if not quick:
            sets += [
                random_float_pwl_set(f"random-fp-pwl-{name}-64", number, seed, 6, 64, 5_000, stages=5),
                random_float_pwl_set(f"random-fp-pwl-{name}-2", number, seed, 20, 2, 1_000, stages=3),
                _hard_wired(f"random-fp-pwl-{name}-hard-wired", number, seed),
            ]
    return sets


def _hard_wired(name: str, number: FloatFormat, seed: int) -> VectorSet:
    """One table, wired into the unit."""
    rng = np.random.default_rng(seed)
    table = random_float_table(rng, number, 8, 0)
    vectors = float_pwl_set(name, [(table, corner_patterns(rng, table, 20_000))], {"seed": seed}, stages=4)
    configuration = {**vectors.configuration, "storage": "constants"}
    return VectorSet(name, vectors.unit, configuration, vectors.arrays, vectors.widths, vectors.source)
