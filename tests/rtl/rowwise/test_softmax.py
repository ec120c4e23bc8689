"""The softmax unit against `sim.reference.Softmax`, with equality, and its cycles against the formula."""

from dataclasses import replace

import numpy as np
import pytest

from rtl.rowwise import softmax
from rtl.rowwise.softmax import SoftmaxConfig, SoftmaxUnit
from sim.reference import InputError, Normaliser, Softmax
from sim.reference.softmax import lower_exp, scales_for, total_bits_for
from tests.rtl.rowwise.bench import lengths, run_rows
from tests.sim.tables import secant_table

EXP, DIV = secant_table("exp"), secant_table("div")
LONGEST = 11


def reference(row_length: int = LONGEST, scale: int = 4, exp_scale: int = 7, **changes) -> Softmax:
    exp = EXP.lower(scale, exp_scale)
    div = Normaliser(DIV, 5, total_bits_for(exp, row_length), exp_scale, False)
    return Softmax(exp, exp_scale, div, row_length, **changes)


def rows(seed: int, sizes: list[int], bits: int = 16) -> list[dict[str, np.ndarray]]:
    """Spread, constant, one-hot and saturating rows; a third has no mask and a sixth nothing else."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    made = []
    for k, n in enumerate(sizes):
        kind = k % 5
        score = np.clip(rng.normal(0, 10.0 ** rng.integers(0, 5), n), low, high).astype(int)
        if kind == 1:
            score[:] = rng.integers(low, high + 1)
        elif kind == 2:
            score[:] = low
            score[rng.integers(n)] = high
        elif kind == 3:
            score = rng.choice([low, low + 1, -1, 0, high - 1, high], n)
        valid = rng.random(n) < rng.choice([0, 0.3, 0.8, 1, 1, 1])
        made.append({"score": score, "valid": valid.astype(int)})
    return made


def run(config: SoftmaxConfig, inputs: list[dict[str, np.ndarray]], load: Softmax | None = None, **how):
    load = load or config.reference
    if config.storage != "constants":
        how["words"] = config.words(load)
        how["settings"] = {f"exp_{name}": getattr(load.exp, name) for name in config.exp.shift_ports}
    expected = [load.compute(row["score"], row["valid"]) for row in inputs]
    return run_rows(SoftmaxUnit(config), inputs, expected, **how)


@pytest.mark.parametrize("stages", [(1, 1, 1), (4, 5, 2), (9, 10, 3)])
def test_every_kind_and_length_of_row_equals_the_reference_stalled_or_not(stages):
    rng = np.random.default_rng(sum(stages))
    config = SoftmaxConfig(reference(), "constants", stages)
    sizes = lengths(rng, 1, LONGEST, 20)
    inputs = rows(sum(stages), sizes)
    for seed in (None, 1, 2):
        wrong, cycles = run(config, inputs, seed=seed)
        assert wrong == []
        assert cycles == config.schedule.cycles(sizes) if seed is None else cycles > config.schedule.cycles(sizes)


def test_16_bit_probabilities_with_a_reciprocal_of_16_bit_codes_equal_the_reference():
    exp = lower_exp(EXP, 4, 16, 10)
    div = Normaliser(replace(DIV, in_bits=16, scales=(13,)), 13, total_bits_for(exp, LONGEST), 10, False)
    config = SoftmaxConfig(Softmax(exp, 10, div, LONGEST, **scales_for(16)))
    assert run(config, rows(5, lengths(np.random.default_rng(5), 1, LONGEST, 10)), seed=5)[0] == []


def test_a_loaded_unit_serves_tables_at_other_scales():
    config = SoftmaxConfig(reference())
    inputs = rows(3, lengths(np.random.default_rng(3), 1, LONGEST, 5))
    for scale in (2, 5):
        assert run(config, inputs, reference(scale=scale), seed=scale)[0] == []


@pytest.mark.parametrize(
    "changes",
    [
        dict(row_length=1),
        dict(row_length=2, score_bits=8),
        dict(row_length=5, score_bits=32, exp_scale=5, probability_scale=3),
        dict(inverse_scale=0, probability_scale=7),
    ],
)
def test_other_geometries_equal_the_reference(changes):
    own = reference(**changes)
    config = SoftmaxConfig(own, "constants", rows=own.row_length)
    sizes = lengths(np.random.default_rng(5), 1, own.row_length, 12)
    assert run(config, rows(5, sizes, own.score_bits), seed=5)[0] == []


def test_a_fully_masked_row_gives_zeros_between_rows_that_are_not():
    row = {"score": np.array([5, 5, 5]), "valid": np.ones(3, int)}
    masked = row | {"valid": np.zeros(3, int)}
    alone = reference().compute(row["score"])
    assert alone.min() > 30
    expected = [alone, np.zeros(3, int), np.zeros(3, int), alone]
    wrong, _ = run_rows(SoftmaxUnit(SoftmaxConfig(reference(), "constants")), [row, masked, masked, row], expected)
    assert wrong == []


def test_a_reciprocal_that_is_negative_gives_zeros_as_in_the_reference():
    own = reference()
    table = replace(own.div.table, slopes=(-120,) * 8, intercepts=(-50,) * 8)
    own = replace(own, div=replace(own.div, table=table))
    inputs = rows(6, [LONGEST, 3, 1])
    assert max(own.compute(row["score"]).max() for row in inputs) == 0
    assert run(SoftmaxConfig(own, "constants"), inputs)[0] == []


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 64])
def test_the_cycles_are_the_formula_for_any_lengths_and_any_number_of_rows_inside(most):
    config = SoftmaxConfig(reference(), "constants", rows=most)
    schedule = config.schedule
    for seed, sizes in enumerate(([LONGEST] * 6, [1] * 30, lengths(np.random.default_rng(most), 1, LONGEST, 10))):
        wrong, cycles = run(config, rows(seed, sizes))
        assert (wrong, cycles) == ([], schedule.cycles(sizes))
        if schedule.unlimited is not None and min(sizes) >= schedule.unlimited:
            assert cycles == sum(sizes) + 2 * max(sizes) + schedule.latency


def test_the_latency_at_the_default_depths_is_what_the_readme_says():
    assert SoftmaxConfig(reference()).schedule.latency == 15
    assert SoftmaxConfig(reference()).schedule.cycles([LONGEST] * 9) == 9 * LONGEST + 2 * LONGEST + 15


def test_a_wrong_unit_is_seen(monkeypatch):
    config = SoftmaxConfig(reference(), "constants")
    inputs = rows(1, [LONGEST] * 12)
    assert run(config, inputs)[0] == []
    good = softmax.shift_right
    monkeypatch.setattr(softmax, "shift_right", lambda v, s: good(v, s) | 1)
    assert run(config, inputs)[0] != []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stages": (10, 5, 2)}, "stages[0] must be in 1..9, not 10"),
        ({"stages": (4, 5)}, "stages must be 3 depths, not 2"),
        ({"rows": 0}, "rows must be in 1..64, not 0"),
        ({"storage": "ram"}, "storage must be one of flops, latches, constants, not 'ram'"),
    ],
)
def test_a_bad_parameter_is_named_with_what_it_must_be(fields, message):
    with pytest.raises(InputError) as error:
        SoftmaxConfig(reference(), **fields)
    assert str(error.value) == message


def test_a_table_of_another_geometry_is_not_loaded():
    config = SoftmaxConfig(reference())
    assert len(config.words(reference(scale=2))) == 2 * (7 + 8 + 8)
    with pytest.raises(InputError, match="exp_scale of the softmax must be the unit's 7, not 6"):
        config.words(reference(exp_scale=6))
    with pytest.raises(InputError, match="row_length of the softmax must be the unit's 11, not 12"):
        config.words(reference(12))
    with pytest.raises(InputError, match="entries of the table must be at most the unit's 8, not 9"):
        config.words(replace(reference(), exp=secant_table("exp", 9).lower(4, 7)))
