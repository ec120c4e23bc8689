"""Which rows a regression of softmax and the norms is made of: in full, more than 10^5 random ones of each unit, and as
many short ones, which Icarus has the time for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.reference import Norm, PwlTable
from sim.reference.softmax import scales_for
from sim.vectors.random_rows import Rows, random_rows
from sim.vectors.rowwise import (
    fitted_softmax,
    near_table,
    norm_set,
    random_norm,
    random_softmax,
    softmax_set,
)
from sim.vectors.vector_set import VectorSet

NORMS = {"layernorm": True, "rmsnorm": False}  # unit -> centring
# name, loads, rows of each, longest row, exponent of the powers, softmax's numbers, the unit's fields
SOFTMAX: tuple[tuple[str, int, int, int, int, dict[str, int], dict[str, Any]], ...] = (
    ("40", 12, 6_500, 40, 7, {}, {}),
    ("200", 4, 1_000, 200, 7, {}, {"stages": (8, 9, 3)}),
    ("512", 1, 600, 512, 7, {}, {}),
    ("32-bit", 4, 1_000, 24, 6, {"score_bits": 32, "probability_scale": 4}, {"rows": 1, "stages": (1, 1, 1)}),
    ("8-bit", 4, 3_000, 16, 7, {"score_bits": 8, "inverse_scale": 10}, {"rows": 16, "storage": "latches"}),
    ("1", 1, 500, 1, 7, {}, {"storage": "constants", "stages": (3, 4, 2)}),
    ("17", 1, 3_000, 17, 7, {}, {"storage": "constants", "rows": 2}),
    ("short", 4, 25_000, 4, 7, {}, {}),
    ("16", 4, 1_000, 48, 10, scales_for(16), {"stages": (4, 5, 3)}),
    ("16-1024", 1, 200, 1024, 11, scales_for(16), {}),
)
# name, loads, rows of each, longest row, largest epsilon, widths, the unit's fields
NORM: tuple[tuple[str, int, int, int, int, dict[str, int], dict[str, Any]], ...] = (
    ("40", 12, 6_500, 40, (1 << 32) - 1, {}, {}),
    ("200", 4, 1_000, 200, 1 << 40, {"out_bits": 8}, {"stages": (11, 8)}),
    ("768", 1, 800, 768, 1 << 32, {}, {}),
    ("8-bit", 4, 3_000, 24, 1 << 20, {"in_bits": 8, "out_bits": 8}, {"rows": 1, "stages": (1, 1)}),
    ("12-bit", 4, 1_500, 16, 1, {"in_bits": 12}, {"rows": 16, "storage": "latches"}),
    ("2", 1, 500, 2, 1 << 30, {}, {"storage": "constants", "stages": (3, 4)}),
    ("17", 1, 3_000, 17, 5, {}, {"storage": "constants", "rows": 2}),
    ("short", 4, 25_000, 4, 1 << 16, {}, {}),
)
QUICK = {"softmax": ("40", "16"), "layernorm": ("40",), "rmsnorm": ("17",)}
WILD = 4  # one load in so many has random tables
FITTED_ROWS = 8_000
LONGEST = 128


def row_suite(
    seed: int, quick: bool, units: Sequence[str], cases: Mapping[str, Sequence[str]] | None = None
) -> list[VectorSet]:
    """Random tables, gains and biases, on rows of every kind and length.

    `quick` keeps some dozens of rows of each case, and of the cases those of `QUICK`; `cases`, names for each unit,
    chooses others.
    """
    if cases is None:
        cases = (
            QUICK if quick else {"softmax": [case[0] for case in SOFTMAX]} | {u: [c[0] for c in NORM] for u in NORMS}
        )
    sets = []
    for name, loads, count, longest, exp_scale, numbers, fields in SOFTMAX:
        if "softmax" in units and name in cases["softmax"]:
            rng = np.random.default_rng((seed, *name.encode()))
            work = [
                (
                    random_softmax(rng, exp_scale, longest, wild=k % WILD == WILD - 1, **numbers),
                    random_rows(rng, 40 if quick else count, 1, longest, numbers.get("score_bits", 16), masked=True),
                )
                for k in range(min(loads, 2) if quick else loads)
            ]
            sets.append(softmax_set(f"random-softmax-{name}", work, {"seed": seed}, **fields))
    for unit, centring in NORMS.items():
        for name, loads, count, longest, epsilon, widths, fields in NORM:
            if unit in units and name in cases[unit]:
                rng = np.random.default_rng((seed, *f"{unit}-{name}".encode()))
                part = (min(loads, 2), 40) if quick else (loads, count)
                reference, work = _norms(rng, part, centring, longest, epsilon, widths)
                sets.append(norm_set(f"random-{unit}-{name}", work, {"seed": seed}, reference, **fields))
    return sets


def _norms(
    rng: np.random.Generator,
    part: tuple[int, int],
    centring: bool,
    longest: int,
    epsilon: int,
    widths: Mapping[str, int],
) -> tuple[Norm, list[tuple[Norm, Rows]]]:
    """The longest norm with the largest epsilon, and `part` loads and rows of each; the first load is that norm's."""
    reference = random_norm(rng, near_table(rng, "rsqrt"), longest, epsilon, centring, **widths)
    work = []
    for k in range(part[0]):
        length = longest if k < 2 else int(rng.integers(2, longest + 1))
        small = epsilon if not k else max(int(2 ** rng.uniform(0, epsilon.bit_length() - 1)), 1)
        table = near_table(rng, "rsqrt", wild=k % WILD == WILD - 1)
        norm = reference if not k else random_norm(rng, table, length, small, centring, **widths)
        work.append((norm, random_rows(rng, part[1], 2, length, widths.get("in_bits", 16))))
    return reference, work


def fitted_row_suite(tables: Mapping[str, PwlTable], units: Sequence[str]) -> list[VectorSet]:
    """The units with fitted tables: a softmax for each EXP table and reciprocal, norms for each reciprocal root.

    Only a normaliser's highest octaves are taken: 1/x on [2, 4), 1/sqrt(x) on [1, 4).
    """
    named = {name: table for name, table in tables.items() if table.in_bits == 8}
    divs = {n: t for n, t in named.items() if t.function == "div" and t.normaliser_step == 1}
    roots = {n: t for n, t in named.items() if t.function == "rsqrt" and t.normaliser_step == 2}
    sets = []
    for k, (name, exp) in enumerate((n, t) for n, t in named.items() if t.function == "exp" and "softmax" in units):
        for other, div in divs.items():
            rng = np.random.default_rng(k)
            lowest = next(s for s in range(8) if exp.slope_frac_bits + s >= 7)
            work = [
                (fitted_softmax(exp, div, scale, 7, LONGEST), random_rows(rng, FITTED_ROWS // 4, 1, LONGEST, 16, True))
                for scale in range(lowest + 1, lowest + 5)
            ]
            sets.append(softmax_set(f"fitted-softmax-{name}-{other}", work, {"exp": exp.digest, "div": div.digest}))
    for unit, centring in NORMS.items():
        for k, (name, rsqrt) in enumerate(roots.items() if unit in units else ()):
            rng = np.random.default_rng(k)
            reference = random_norm(rng, rsqrt, LONGEST, (1 << 32) - 1, centring)
            work = [
                (
                    random_norm(rng, rsqrt, LONGEST, epsilon, centring),
                    random_rows(rng, FITTED_ROWS // 4, 2, LONGEST, 16),
                )
                for epsilon in (1, 1000, 1 << 24, (1 << 32) - 1)
            ]
            sets.append(norm_set(f"fitted-{unit}-{name}", work, {"rsqrt": rsqrt.digest}, reference))
    return sets
