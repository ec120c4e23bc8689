"""Output scales and weights of codes, by hand."""

import numpy as np
import pytest

from ga_search.functions import FUNCTIONS, Function, resolve
from ga_search.grid import Codes, build_grid, code_weights
from ga_search.metrics import output_scale
from sim.reference import InputError

CODES = Codes(8, True, tuple(range(7)))


@pytest.mark.parametrize(
    "name, bits, signed, scale",
    [
        ("gelu", 8, True, 4),  # 4 * 16 = 64; 4 * 32 = 128 is one too many
        ("gelu", 8, False, 5),
        ("tanh", 8, True, 6),
        ("sigmoid", 8, True, 7),  # 0.982 * 128 = 125.7
        ("exp", 8, True, 6),  # 1 * 128 is one too many
        ("exp", 8, False, 7),
        ("div", 8, True, 5),  # 2 at 0.5
        ("exp", 16, True, 14),
    ],
)
def test_the_output_scale_is_the_largest_that_does_not_saturate(name, bits, signed, scale):
    assert output_scale(FUNCTIONS[name], (bits, signed), CODES) == scale


def test_a_value_that_is_exactly_the_top_code_fits():
    function = Function("line", lambda x: x * 127 / 4)
    assert output_scale(function, (8, True), CODES) == 0


def test_each_scale_weighs_the_same_and_exp_counts_only_codes_up_to_0():
    weights = code_weights(FUNCTIONS["exp"], CODES, "full", None)
    np.testing.assert_allclose(weights.sum(axis=1), 1 / 7)
    assert (weights[:, :129] > 0).all() and (weights[:, 129:] == 0).all()
    inside = code_weights(FUNCTIONS["exp"], CODES, "inside", None)
    assert [int((row > 0).sum()) for row in inside] == [9, 17, 33, 65, 129, 129, 129]


def test_half_open_domains_and_unmeasured_scales():
    codes = Codes(8, False, (5, 7))
    inside = code_weights(resolve("div", (2.0, 4.0)), codes, "inside", None)
    assert [int((row > 0).sum()) for row in inside] == [64, 0]  # codes 64..127 at 2^-5; 2 is beyond the codes at 2^-7
    assert inside.sum() == pytest.approx(1.0)
    with pytest.raises(InputError, match="has weight"):
        code_weights(resolve("div", (2.0, 4.0)), Codes(8, True, (7,)), "inside", None)


def test_the_grid_merges_equal_points_and_keeps_the_total_weight():
    grid = build_grid(FUNCTIONS["gelu"], CODES)
    assert grid.points == 256 + 6 * 128 and grid.weight.sum() == pytest.approx(1.0)
    assert (np.diff(grid.position) > 0).all() and (grid.x == grid.position / 64).all()
    start, stop = np.array([0, 3, 500]), np.array([1024, 9, 500])
    for k, (a, b) in enumerate(zip(start, stop, strict=True)):
        w, x, f = grid.weight[a:b], grid.x[a:b], grid.value[a:b]
        sums = [(w * v).sum() for v in (np.ones_like(x), x, x * x, f, x * f, f * f)] + [b - a]
        np.testing.assert_allclose(grid.moments(start, stop)[:, k], sums, rtol=1e-9, atol=1e-12)
