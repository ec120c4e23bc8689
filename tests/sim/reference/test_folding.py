"""Tables of half a function, widths and signs of their own, and files that name them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.reference import InputError, PwlTable
from sim.reference.code_format import SIGNS, CodeFormat
from sim.reference.folding import SYMMETRIES, fold, unfold
from sim.vectors.pwl import random_table

HALVES = {
    "odd": np.tanh,
    "complement": lambda x: 1 / (1 + np.exp(-x)),
    "gated": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("symmetry", HALVES)
def test_folding_takes_both_halves_of_a_symmetric_function_to_one(symmetry):
    x = np.linspace(-6, 6, 25)
    magnitude, value = fold(symmetry, x, HALVES[symmetry](x))
    np.testing.assert_allclose(value, HALVES[symmetry](magnitude), atol=1e-15)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_unfolding_is_the_inverse_of_folding_on_integers(symmetry):
    x, y = np.arange(-8.0, 8.0), np.arange(16.0) - 5
    assert (unfold(symmetry, fold(symmetry, x, y)[1], x, 1) == y).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    symmetry=st.sampled_from(SYMMETRIES),
    signs=st.tuples(st.sampled_from(SIGNS), st.sampled_from(SIGNS)),
    widths=st.tuples(st.integers(4, 8), st.integers(4, 9), st.integers(2, 10)),
)
def test_what_the_hardware_stores_computes_what_the_table_defines(seed, symmetry, signs, widths):
    rng = np.random.default_rng(seed)
    slope_sign = "signed" if symmetry == "gated" and signs[0] == "negative" else signs[0]
    names = ("in_bits", "coef_bits", "intercept_bits")
    table = random_table(
        rng, int(rng.integers(2, 7)), seed % 3, symmetry=symmetry, slope_sign=slope_sign, intercept_sign=signs[1],
        **dict(zip(names, widths, strict=True)),
    )  # fmt: skip
    for scale in table.scales:
        output_scale = table.slope_frac_bits + scale - int(rng.integers(0, 8))
        lowered = table.lower(scale, output_scale)
        codes = lowered.codes()
        assert (lowered.accumulate(codes) == table.define(codes, scale)).all()
        assert (lowered.output(codes) == table.define(codes, scale, output_scale)).all()
        assert int(np.abs(lowered.accumulate(codes)).max()) < 1 << lowered.acc_bits - 1
        for name, (_, (low, high)) in lowered.code_format.lists.items():
            assert all(low <= value <= high for value in getattr(lowered, name))


def test_a_file_names_widths_and_signs_only_where_they_are_the_table_s_own():
    rng = np.random.default_rng(0)
    plain = random_table(rng, 4, 0, intercept_bits=8)
    assert plain.intercept_bits is None and "intercept_bits" not in plain.to_json()
    table = random_table(rng, 4, 0, intercept_bits=5, slope_sign="unsigned", symmetry="gated")
    assert {"intercept_bits": 5, "slope_sign": "unsigned", "symmetry": "gated"}.items() <= table.to_dict().items()
    assert "intercept_sign" not in table.to_dict()
    assert PwlTable.from_json(table.to_json()) == table
    assert len({table.digest, random_table(np.random.default_rng(0), 4, 0).digest}) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"breakpoints": (0,)}, "breakpoints[0] must be in 1..512, not 0"),
        (
            {"slope_frac_bits": -1, "intercept_frac_bits": -1},
            "slope_frac_bits must be at least 0 if symmetry is gated, not -1",
        ),
        ({"slope_sign": "negative"}, "slope_sign must be signed or unsigned if symmetry is gated, not 'negative'"),
        ({"slopes": (-1, 1), "slope_sign": "unsigned"}, "slopes[0] must be in 0..255, not -1"),
        ({"intercepts": (1, 0), "intercept_sign": "negative"}, "intercepts[0] must be in -255..0, not 1"),
        ({"intercepts": (8, 0), "intercept_bits": 4}, "intercepts[0] must be in -8..7, not 8"),
        ({"intercept_bits": 1}, "intercept_bits must be in 2..32, not 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(fields, message):
    common = dict(
        function="f", domain=(-1, 1), scales=(2,), slope_frac_bits=2, intercept_frac_bits=1, bp_frac_bits=2,
        slopes=(1, 2), intercepts=(0, 0), breakpoints=(3,), symmetry="gated",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        PwlTable(**{**common, **fields})
    assert str(caught.value) == message


def test_the_accumulator_of_a_plain_format_has_the_width_that_it_always_had():
    for bits, shift in ((8, 7), (16, 0), (4, 20)):
        assert CodeFormat(bits, coef_bits=bits).acc_bits(shift) == max(2 * bits, bits + shift) + 1
    assert CodeFormat(intercept_bits=5).acc_bits(0) == math.ceil(math.log2(128 * 128 + 16)) + 1
