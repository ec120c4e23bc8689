"""Folded tables, separate widths, known signs and trimmed shifts in gates, against the specification on every code."""

from itertools import product

import numpy as np
import pytest

from rtl.blocks.multiplication import PRODUCTS
from rtl.formal.stimulus import random_lowered
from rtl.pwl import Pwl, PwlConfig
from sim.reference import InputError
from sim.reference.code_format import SIGNS
from sim.reference.folding import SYMMETRIES
from tests.rtl.bench import simulate

FORMATS = [
    dict(coef_bits=slope, intercept_bits=intercept, slope_sign=sign, intercept_sign=other, symmetry=symmetry)
    for symmetry, (slope, intercept), (sign, other) in product(
        SYMMETRIES, [(7, 5), (5, 9)], [("signed", "unsigned"), ("unsigned", "negative"), ("negative", "signed")]
    )
    if (symmetry, sign) != ("gated", "negative")
]


def mismatches(config: PwlConfig, seed: int, product_name: str = "tree") -> list[tuple[int, int, int]]:
    """(code, expected, got) of every code where the unit differs from the specification for a random table."""
    lowered = random_lowered(np.random.default_rng(seed), config, results="inside")
    codes = lowered.codes()
    settings = {name: getattr(lowered, name) for name in config.shift_ports}
    unit = Pwl(config, product=PRODUCTS[product_name])
    got = simulate(unit, codes.tolist(), config.words(lowered), settings)[0]
    want = lowered.output(codes) if config.output == "code" else lowered.accumulate(codes)
    return [row for row in zip(codes.tolist(), want.tolist(), got, strict=True) if row[1] != row[2]]


@pytest.mark.parametrize("numbers", FORMATS, ids=lambda n: " ".join(map(str, n.values())))
def test_every_code_equals_the_reference(numbers):
    seed = FORMATS.index(numbers)
    fold_bits = seed % 7 if numbers["symmetry"] in ("gated", "complement") else 0
    shifts = dict(min_intercept_shift=seed % 3, max_intercept_shift=6)
    for k, output in enumerate(("code", "acc")):
        least = {} if output == "acc" else {"min_output_shift": seed % 4}
        config = PwlConfig(4, 6, output=output, stages=1 + seed % 5, fold_bits=fold_bits, **shifts, **least, **numbers)
        assert mismatches(config, seed, ("tree", "plain")[k]) == []


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_accumulator_holds_the_extremes(symmetry):
    """Every slope and intercept at an end of its range, the largest shift, the lowest code among the codes."""
    config = PwlConfig(4, 4, coef_bits=4, output="acc", intercept_bits=3, symmetry=symmetry, max_intercept_shift=4)
    if symmetry in ("gated", "complement"):
        config = PwlConfig(**config.to_dict() | {"fold_bits": 3})
    numbers = config.code_format
    for slope, intercept in product(numbers.slope_range, numbers.intercept_range):
        lowered = random_lowered(np.random.default_rng(0), config)
        lowered = type(lowered)(**lowered.to_dict() | {
            "slopes": (slope,) * 4, "intercepts": (intercept,) * 4, "intercept_shift": 4,
        })  # fmt: skip
        codes = lowered.codes()
        got = simulate(Pwl(config), codes.tolist(), config.words(lowered), {"intercept_shift": 4})[0]
        assert got == lowered.accumulate(codes).tolist()


def test_a_folded_threshold_takes_a_bit_less_and_a_shift_of_one_value_has_no_port():
    config = PwlConfig(intercept_bits=5, symmetry="odd", min_output_shift=4, max_output_shift=4)
    assert [bits for bits, _ in config.code_format.lists.values()] == [7, 8, 5]
    assert config.shift_ports == ["intercept_shift"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"symmetry": "even"}, "symmetry must be one of none, odd, complement, gated, not 'even'"),
        ({"symmetry": "odd", "in_signed": False}, "symmetry must be none if input codes are unsigned, not 'odd'"),
        ({"fold_bits": 3}, "fold_bits must be in 0..0, not 3"),
        ({"slope_sign": "+"}, f"slope_sign must be one of {', '.join(SIGNS)}, not '+'"),
        ({"min_intercept_shift": 8}, "min_intercept_shift must be in 0..7, not 8"),
        ({"min_output_shift": 1, "output_shift": 3}, "min_output_shift must not be given if output_shift is fixed"),
    ],
)
def test_a_mistake_is_one_line(fields, message):
    with pytest.raises(InputError) as caught:
        PwlConfig(**fields)
    assert str(caught.value) == message


def test_a_table_for_another_fold_or_a_smaller_shift_is_refused():
    config = PwlConfig(symmetry="gated", fold_bits=6, min_intercept_shift=2)
    lowered = random_lowered(np.random.default_rng(0), config)
    for change, message in (
        ({"fold_bits": 5}, "fold_bits of the table must be the unit's 6, not 5"),
        ({"intercept_shift": 1}, "intercept_shift of the table must be at least the unit's 2, not 1"),
    ):
        with pytest.raises(InputError, match=message):
            config.check_fit(type(lowered)(**lowered.to_dict() | change))
