"""The norm units against `sim.reference.Norm`, with equality, and their cycles against the formula."""

from dataclasses import replace

import numpy as np
import pytest

from rtl.rowwise import norm
from rtl.rowwise.norm import NormConfig, NormUnit, shorter
from sim.reference import InputError, Norm, Normaliser
from sim.reference.norm import spread_bits_for
from tests.rtl.rowwise.bench import lengths, run_rows
from tests.sim.tables import secant_table

RSQRT = secant_table("rsqrt")
LONGEST = 11


def reference(length: int = LONGEST, seed: int = 0, epsilon: int = 1000, shift: int = 12, **changes) -> Norm:
    rng = np.random.default_rng(seed)
    gain, bias = rng.integers(-(1 << 15), 1 << 15, length), rng.integers(-(1 << 26), 1 << 26, length)
    rsqrt = Normaliser(RSQRT, 5, spread_bits_for(length, epsilon, changes.get("in_bits", 16)), 0, False)
    return Norm(tuple(gain.tolist()), tuple(bias.tolist()), shift, epsilon, rsqrt, **changes)


def rows(seed: int, sizes: list[int], bits: int = 16) -> list[dict[str, np.ndarray]]:
    """Spread, constant, one-hot and saturating rows."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    made = []
    for k, n in enumerate(sizes):
        kind = k % 5
        code = np.clip(rng.normal(0, 10.0 ** rng.integers(0, 6), n), low, high).astype(int)
        if kind == 1:
            code[:] = rng.choice([low, -1, 0, high])
        elif kind == 2:
            code = np.where(np.arange(n) == rng.integers(n), high, low)
        elif kind == 3:
            code = rng.choice([low, low + 1, -1, 0, high - 1, high], n)
        made.append({"code": code})
    return made


def run(config: NormConfig, inputs: list[dict[str, np.ndarray]], load: Norm | None = None, **how):
    load = load or config.reference
    if config.storage != "constants":
        how["words"] = config.words(load)
        how["settings"] = {"epsilon": load.epsilon, "shift": load.shift}
    expected = [shorter(load, len(row["code"])).compute(row["code"]) for row in inputs]
    return run_rows(NormUnit(config), inputs, expected, **how)


@pytest.mark.parametrize("centring", [True, False], ids=["layernorm", "rmsnorm"])
@pytest.mark.parametrize("stages", [(1, 1), (6, 5), (12, 8)])
def test_every_kind_and_length_of_row_equals_the_reference_stalled_or_not(centring, stages):
    rng = np.random.default_rng(sum(stages))
    config = NormConfig(reference(centring=centring), "constants", stages)
    sizes = lengths(rng, 2, LONGEST, 15)
    inputs = rows(sum(stages), sizes)
    for seed in (None, 1):
        wrong, cycles = run(config, inputs, seed=seed)
        assert wrong == []
        assert cycles == config.schedule.cycles(sizes) if seed is None else cycles > config.schedule.cycles(sizes)


@pytest.mark.parametrize("centring", [True, False], ids=["layernorm", "rmsnorm"])
def test_a_loaded_unit_serves_other_gains_epsilons_and_shorter_norms(centring):
    config = NormConfig(reference(epsilon=(1 << 32) - 1, centring=centring))
    for length, epsilon, shift in ((LONGEST, 1, 0), (7, 1 << 31, 31), (2, 12345, 14)):
        load = reference(length, length, epsilon, shift, centring=centring)
        assert run(config, rows(3, lengths(np.random.default_rng(3), 2, length, 5)), load, seed=3)[0] == []


@pytest.mark.parametrize(
    "changes",
    [
        dict(length=2, in_bits=4, out_bits=4),
        dict(length=3, in_bits=8, out_bits=16, centring=False, shift=20),
        dict(length=16, in_bits=16, out_bits=8, epsilon=1 << 48, shift=18),
    ],
)
def test_other_geometries_equal_the_reference(changes):
    own = reference(**changes)
    config = NormConfig(own, "constants", rows=2)
    sizes = lengths(np.random.default_rng(5), 2, own.length, 12)
    assert run(config, rows(5, sizes, own.in_bits), seed=5)[0] == []


def test_a_constant_row_gives_the_bias():
    own = replace(reference(8, shift=4), bias=tuple(range(-64, 64, 16)))
    inputs = [{"code": np.full(8, value)} for value in (-(1 << 15), -1, 0, 1, (1 << 15) - 1)]
    wrong, _ = run_rows(NormUnit(NormConfig(own, "constants")), inputs, [np.arange(-4, 4)] * 5)
    assert wrong == []


@pytest.mark.parametrize("most", [1, 2, 4, 64])
def test_the_cycles_are_the_formula_for_any_lengths_and_any_number_of_rows_inside(most):
    config = NormConfig(reference(), "constants", rows=most)
    schedule = config.schedule
    for seed, sizes in enumerate(([LONGEST] * 5, [2] * 20, lengths(np.random.default_rng(most), 2, LONGEST, 5))):
        wrong, cycles = run(config, rows(seed, sizes))
        assert (wrong, cycles) == ([], schedule.cycles(sizes))
        if schedule.unlimited is not None and min(sizes) >= schedule.unlimited:
            assert cycles == sum(sizes) + max(sizes) + schedule.latency


def test_the_latency_at_the_default_depths_is_what_the_readme_says():
    assert NormConfig(reference()).schedule.latency == 14
    assert NormConfig(reference()).schedule.cycles([LONGEST] * 9) == 9 * LONGEST + LONGEST + 14


def test_a_wrong_unit_is_seen(monkeypatch):
    config = NormConfig(reference(), "constants")
    inputs = rows(1, [LONGEST] * 8)
    assert run(config, inputs)[0] == []
    good = norm._steps_up
    monkeypatch.setattr(norm, "_steps_up", lambda rest: good(rest >> 2))
    assert run(config, inputs)[0] != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stages": (13, 5)}, "stages[0] must be in 1..12, not 13"),
        ({"stages": (6, 9)}, "stages[1] must be in 1..8, not 9"),
        ({"rows": 65}, "rows must be in 1..64, not 65"),
        ({"storage": "ram"}, "storage must be one of flops, latches, constants, not 'ram'"),
    ],
)
def test_a_bad_parameter_is_named_with_what_it_must_be(fields, message):
    with pytest.raises(InputError) as error:
        NormConfig(reference(), **fields)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "load, message",
    [
        (reference(12), r"gain's length must be in 2\.\.11, not 12"),
        (reference(epsilon=1001), r"epsilon must be in 1\.\.1000, not 1001"),
        (reference(centring=False), "centring of the norm must be the unit's True, not False"),
        (reference(in_bits=8), "in_bits of the norm must be the unit's 16, not 8"),
    ],
)
def test_a_norm_of_another_geometry_is_not_loaded(load, message):
    with pytest.raises(InputError, match=message):
        NormConfig(reference()).words(load)
