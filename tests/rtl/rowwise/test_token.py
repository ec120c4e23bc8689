"""The token quantiser against `sim.reference.token`, with equality, and its cycles against the formula."""

import numpy as np
import pytest

from rtl.rowwise import token
from rtl.rowwise.token import TokenConfig, TokenUnit
from sim.reference import InputError
from tests.rtl.bench import simulate
from tests.rtl.elementwise import beats, mismatches, on


@pytest.mark.parametrize("divider_stages, stages", [(1, 1), (5, 2), (16, 2), (31, 1)])
def test_rows_of_every_magnitude_equal_the_specification_stalled_or_not(divider_stages, stages):
    config = TokenConfig(9, divider_stages=divider_stages, stages=stages)
    assert mismatches(config, TokenUnit, 150, load={}) == []
    assert mismatches(config, TokenUnit, 151, load={}, seed=stages) == []


@pytest.mark.parametrize("out_bits", [2, 4, 16])
def test_other_widths_equal_the_specification(out_bits):
    assert mismatches(TokenConfig(5, out_bits), TokenUnit, 120, load={}, seed=out_bits) == []


def test_every_magnitude_near_a_power_of_two_divides_exactly():
    powers = 1 << np.arange(16)
    x = np.concatenate([-powers, powers - 1, [32767, -32767]]).clip(-32768, 32767)
    inputs = {"x": x, "last": np.ones(len(x), dtype=np.int64)}  # rows of one code: each is its own magnitude
    assert on(inputs, TokenConfig(1, rows=64), TokenUnit, {}) == []


def test_the_cycles_are_the_formula_s():
    config = TokenConfig(11)
    inputs = config.random_inputs(np.random.default_rng(0), 100)
    sizes = np.diff(np.flatnonzero(inputs["last"]), prepend=-1).tolist()
    _, taken, given = simulate(TokenUnit(config), beats(inputs))
    assert given[-1] - taken[0] + 1 == config.schedule.cycles(sizes)


def test_a_wrong_rounding_is_seen(monkeypatch):
    monkeypatch.setattr(token, "shift_right", lambda value, shift: (value >> shift) << 1)
    assert mismatches(TokenConfig(9), TokenUnit, load={}) != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"row_length": 0}, "row_length must be in 1..65536, not 0"),
        ({"out_bits": 17}, "out_bits must be in 2..16, not 17"),
        ({"divider_stages": 32}, "divider_stages must be in 1..31, not 32"),
        ({"stages": 3}, "stages must be in 1..2, not 3"),
        ({"rows": 65}, "rows must be in 1..64, not 65"),
    ],
)
def test_a_bad_parameter_is_named(fields, message):
    with pytest.raises(InputError) as error:
        TokenConfig(**fields)
    assert str(error.value) == message
