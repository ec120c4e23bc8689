"""Which vectors a regression is made of. `quick` keeps every kind of case and few of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtl.units import UNITS, simulated
from sim.reference import InputError, Normaliser, PwlTable
from sim.reference.floating import FORMATS
from sim.vectors.array_suite import array_suite
from sim.vectors.floating import fitted_float_pwl_set, float_suite
from sim.vectors.normaliser import every_input, normaliser_set, top_scale
from sim.vectors.pwl import fitted_set, random_set, random_table
from sim.vectors.random_unit import random_unit_set
from sim.vectors.requant import requant_set
from sim.vectors.rowwise_suite import fitted_row_suite, row_suite
from sim.vectors.vector_set import VectorSet

# name, tables, entries, the unit: 200 tables; every depth of a unit for codes, both outputs, all four pairs of signs
# and, with `_hard_wired`, every storage are among them
EIGHT_BIT: tuple[tuple[str, int, int, dict[str, Any]], ...] = (
    ("int8-8", 50, 8, {}),
    ("int8-16-acc", 40, 16, {"output": "acc", "stages": 2}),
    ("int8-5-unsigned", 30, 5, {"in_signed": False, "out_signed": False, "storage": "latches", "stages": 1}),
    ("int8-64", 20, 64, {"stages": 6}),
    ("int8-2", 10, 2, {"stages": 4}),
    ("int8-8-to-unsigned", 20, 8, {"out_signed": False, "stages": 5}),
    ("int8-12-from-unsigned", 20, 12, {"in_signed": False, "stages": 7}),
    ("int8-3", 10, 3, {"stages": 2}),
)
OTHER_WIDTHS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("int4-8", 8, {"in_bits": 4, "coef_bits": 4, "out_bits": 4}),
    ("int16-8", 8, {"in_bits": 16, "coef_bits": 16, "out_bits": 16, "stages": 4}),
    ("int16-8-acc", 8, {"in_bits": 16, "coef_bits": 16, "out_bits": 16, "stages": 4, "output": "acc"}),
    ("int32-8", 8, {"in_bits": 32, "coef_bits": 32, "out_bits": 32, "stages": 5}),
    ("int32-8-acc", 8, {"in_bits": 32, "coef_bits": 32, "out_bits": 32, "stages": 5, "output": "acc"}),
    ("int32-3-shallow", 3, {"in_bits": 32, "coef_bits": 32, "out_bits": 32, "stages": 2}),
    ("int32-4-deep", 4, {"in_bits": 32, "coef_bits": 32, "out_bits": 32, "stages": 7}),
    ("mixed-13", 13, {"in_bits": 8, "coef_bits": 12, "out_bits": 16, "stages": 5}),
    (
        "folded-6",
        6,
        {
            "coef_bits": 7,
            "intercept_bits": 5,
            "slope_sign": "unsigned",
            "intercept_sign": "negative",
            "symmetry": "odd",
            "stages": 2,
        },
    ),
)
QUICK = ("int4-8", "int8-8", "int8-16-acc", "int8-5-unsigned", "int16-8", "int32-8", "int32-8-acc")


def random_suite(seed: int = 0, quick: bool = False, units: Sequence[str] | None = None) -> list[VectorSet]:
    """Random tables and operands for every unit, in many configurations; for every simulated unit unless given."""
    units = simulated() if units is None else units
    sets: list[VectorSet] = []
    if "pwl" in units:
        sets += _pwl(seed, quick)
    if "normaliser" in units:
        sets += _normaliser(seed, quick)
    if "requant" in units:
        sets.append(requant_set("random-requant-int8", seed, 2_000 if quick else 100_000))
        if not quick:
            wide = {"in_bits": 40, "out_bits": 16, "out_signed": False, "max_shift": 30, "stages": 4}
            sets.append(requant_set("random-requant-wide", seed + 1, 100_000, **wide))
    if "array" in units:
        sets += array_suite(seed, quick)
    sets += row_suite(seed, quick, units) + float_suite(seed, quick, units)
    for name in units:
        if UNITS[name].is_reference:
            count = 2_000 if quick else 100_000
            sets.append(random_unit_set(f"random-{name}", name, UNITS[name].default(), seed, count))
    return sets


def _pwl(seed: int, quick: bool) -> list[VectorSet]:
    sets = []
    for k, (name, tables, entries, fields) in enumerate(EIGHT_BIT):
        if not quick or name in QUICK:
            sets.append(random_set(f"random-{name}", 100 * seed + k, 3 if quick else tables, entries, **fields))
    tables, each = (3, 200) if quick else (20, 5_000)
    for k, (name, entries, fields) in enumerate(OTHER_WIDTHS):
        if not quick or name in QUICK:
            sets.append(random_set(f"random-{name}", 100 * seed + 50 + k, tables, entries, each, **fields))
    if not quick:
        sets += [_hard_wired(100 * seed + 90)]
    return sets


def _hard_wired(seed: int) -> VectorSet:
    """One table at one scale, wired into the unit."""
    vectors = random_set("random-hard-wired", seed, 1, 8, per_table=2_000)
    return VectorSet(
        vectors.name,
        vectors.unit,
        {**vectors.configuration, "storage": "constants", "stages": 3},
        vectors.arrays,
        vectors.widths,
        vectors.source,
    )


def _normaliser(seed: int, quick: bool) -> list[VectorSet]:
    rng = np.random.default_rng(seed)
    sets = []
    for function, domain, step, unit in (
        ("div", (2.0, 4.0), 1, {"output_scale": 6}),
        ("rsqrt", (1.0, 4.0), 2, {}),
        ("div", (0.5, 4.0), 3, {"output_scale": 9, "out_bits": 16, "stages": 6}),
    ):
        table = random_table(rng, 8, 1, function=function, domain=domain, normaliser_step=step)
        name = f"random-normaliser-{function}-{step}"
        if not quick:
            sets.append(every_input(name, table, **unit))
        elif step < 3:
            reference = Normaliser(table, top_scale(table), 16, 8)
            powers = 1 << np.arange(14)  # where the shift changes, from both sides
            inputs = np.concatenate(
                [[-(1 << 15), -1, 0], powers, powers - 1, powers + 1, rng.integers(1, 1 << 15, 500)]
            )
            sets.append(
                normaliser_set(name, reference, np.clip(inputs, -(1 << 15), (1 << 15) - 1), {"seed": seed}, **unit)
            )
    return sets


def fitted_suite(folder: Path, units: Sequence[str] | None = None) -> list[VectorSet]:
    """Every table file of `folder`: every code at every scale, every 16-bit input of a normaliser, and rows.

    The floating-point unit gets each table's coefficients and codes as numbers, in FP32 and FP16. It and the normaliser
    have no tables of half a function.
    """
    units = simulated() if units is None else units
    sets = []
    tables = load_tables(folder)
    for name, table in tables:
        if "pwl" in units:
            sets.append(fitted_set(f"fitted-{name}", table))
        if table.code_format.folded:
            continue
        if "fp-pwl" in units:
            sets += [fitted_float_pwl_set(f"fitted-fp-pwl-{key}-{name}", n, table) for key, n in FORMATS.items()]
        if "normaliser" in units and table.normaliser_step is not None:
            sets.append(every_input(f"fitted-normaliser-{name}", table, output_scale=8, out_bits=16))
            sets.append(every_input(f"fitted-normaliser-{name}-acc", table))
    return sets + fitted_row_suite(dict(tables), units)


# what `python -m ga_search` writes beside its tables
NO_TABLE = ("run.json", ".row.json", ".gqa-lut.json")


def load_tables(folder: Path) -> list[tuple[str, PwlTable]]:
    """(name, table) of every table file of `folder` and its subfolders; the name is the path with - for /.

    What `python -m ga_search` writes beside its tables is passed over.

    Raises `InputError` if any other JSON file is not a table, or there are no tables.
    """
    paths = [p for p in sorted(folder.rglob("*.json")) if not p.name.endswith(NO_TABLE)]
    if not paths:
        raise InputError(f"{folder}: must hold table files, but there are none")
    return [("-".join(path.relative_to(folder).with_suffix("").parts), PwlTable.load(path)) for path in paths]
