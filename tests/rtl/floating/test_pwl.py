"""The floating-point piecewise-linear unit against `FloatTable`: every pattern of an 8-bit format, at every depth."""

import numpy as np
import pytest

from rtl.blocks.storage import SETTLE
from rtl.floating.pwl import FloatPwl, FloatPwlConfig
from sim.reference import InputError, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FP16, FP32
from tests.rtl.bench import Drive, icarus
from tests.rtl.floating.patterns import TINY, run

EVERY = np.arange(1 << TINY.bits)


def random_table(seed: int, entries: int) -> FloatTable:
    """Any 8-bit patterns; no threshold is NaN."""
    rng = np.random.default_rng(seed)
    numbers = EVERY[~floating.decode(TINY, EVERY).nan]
    thresholds = rng.choice(numbers, entries - 1)
    thresholds = thresholds[np.argsort(floating.order(TINY, thresholds))]
    return FloatTable(TINY, *(tuple(x.tolist()) for x in (thresholds, *rng.integers(0, 256, (2, entries)))))


def outputs(folder, config: FloatPwlConfig, table: FloatTable, seed: int = 0) -> list[int]:
    words = [] if config.constants else config.words(table)
    unit = FloatPwl(config, latch_cell="unit_latch")
    if config.storage == "latches":
        from rtl import emit

        emit.emit(folder / "unit.v", "fp-pwl", unit)
        settle = SETTLE["latches"]
        return icarus(folder / "unit.v", EVERY.tolist(), (8, 8), Drive(words, seed=seed, settle=settle))
    return run(folder, unit, [EVERY], [8], 8, words, seed).tolist()


@pytest.mark.parametrize("stages", range(1, 14))
def test_every_pattern_at_every_depth_equals_the_specification_under_stalls(stages, tmp_path):
    table = random_table(stages, 5)
    assert FloatPwlConfig.deepest(5, TINY) == 13
    config = FloatPwlConfig(5, TINY, stages=stages)
    assert outputs(tmp_path, config, table, seed=stages) == table.evaluate(EVERY).tolist()


@pytest.mark.parametrize("entries", [2, 9, 64])
def test_other_sizes_equal_the_specification_the_intercept_selected_early_or_late(entries, tmp_path):
    config = FloatPwlConfig(entries, TINY, stages=6)
    assert config.late_intercept == (entries == 2)
    table = random_table(entries, entries)
    assert outputs(tmp_path, config, table) == table.evaluate(EVERY).tolist()


@pytest.mark.parametrize("storage", ["latches", "constants"])
def test_the_other_storage_styles_equal_the_specification(storage, tmp_path):
    table = random_table(20, 6)
    config = FloatPwlConfig(6, TINY, storage, table if storage == "constants" else None)
    assert outputs(tmp_path, config, table, seed=1) == table.evaluate(EVERY).tolist()


def test_a_shorter_table_in_a_larger_unit_equals_the_specification_at_infinity_too(tmp_path):
    table = random_table(30, 3)
    assert outputs(tmp_path, FloatPwlConfig(8, TINY), table) == table.evaluate(EVERY).tolist()


def test_a_configuration_or_a_table_that_does_not_fit_is_one_line():
    table = random_table(0, 5)
    for fields, message in (
        (dict(entries=65), "entries must be in 2..64, not 65"),
        (dict(storage="ram"), "storage must be one of flops, latches, constants, not 'ram'"),
        (dict(storage="constants"), "constants must be a table if and only if storage is constants"),
        (dict(stages=14), "stages must be in 1..13, not 14"),
        (dict(number=FP16, entries=40, stages=13), "stages must be in 1..12, not 13"),
        (dict(number=TINY, entries=4, storage="constants", constants=table),
         "entries of the table must be at most the unit's 4, not 5"),
    ):  # fmt: skip
        with pytest.raises(InputError) as error:
            FloatPwlConfig(**fields)
        assert str(error.value) == message
    with pytest.raises(InputError, match=r"format of the table must be the unit's fp32, not 3 \+ 4 bits"):
        FloatPwlConfig(number=FP32).check_fit(table)
