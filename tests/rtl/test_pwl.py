"""The piecewise-linear unit against `sim.reference`, with equality and in every storage style."""

import dataclasses

import numpy as np
import pytest

from rtl import emit, pwl
from rtl.blocks.storage import SETTLE
from rtl.formal.stimulus import random_lowered
from rtl.pwl import Pwl, PwlConfig
from sim.reference import InputError, LoweredTable
from sim.reference.arithmetic import code_range
from tests.rtl.bench import Drive, icarus, simulate


def corner_codes(rng: np.random.Generator, config: PwlConfig, lowered: LoweredTable, count: int = 40) -> np.ndarray:
    """Both ends, both sides of each threshold, zero, and `count` random codes."""
    low, high = code_range(config.in_bits, config.in_signed)
    near = [t + d for t in lowered.thresholds for d in (-1, 0, 1)]
    return np.unique(np.clip([low, 0, high, *near, *rng.integers(low, high + 1, count)], low, high))


def expected(config: PwlConfig, lowered: LoweredTable, codes: np.ndarray) -> list[int]:
    return (lowered.output(codes) if config.output == "code" else lowered.accumulate(codes)).tolist()


def shifts(config: PwlConfig, lowered: LoweredTable) -> dict[str, int]:
    """The values of the shift ports that the unit has."""
    return {name: getattr(lowered, name) for name in config.shift_ports}


def mismatches(config: PwlConfig, lowered: LoweredTable, codes: np.ndarray, **how) -> list[tuple[int, int, int]]:
    """(code, expected, got) wherever the unit differs from the specification."""
    words = [] if config.storage == "constants" else config.words(lowered)
    got, _, _ = simulate(Pwl(config), codes.tolist(), words, shifts(config, lowered), **how)
    rows = zip(codes.tolist(), expected(config, lowered, codes), got, strict=True)
    return [row for row in rows if row[1] != row[2]]


def test_every_code_equals_the_reference_for_random_tables():
    rng = np.random.default_rng(0)
    for config in (PwlConfig(), PwlConfig(in_signed=False), PwlConfig(output="acc"), PwlConfig(out_signed=False)):
        for _ in range(3):
            lowered = random_lowered(rng, config)
            codes = np.arange(code_range(8, config.in_signed)[0], code_range(8, config.in_signed)[1] + 1)
            assert mismatches(config, lowered, codes) == []


@pytest.mark.parametrize(
    "in_bits, coef_bits, out_bits",
    [
        (4, 4, 4),
        (4, 32, 6),
        (32, 4, 5),
        *(pytest.param(bits, bits, bits, marks=pytest.mark.slow) for bits in (16, 32)),
    ],
)
def test_other_widths_and_entries_equal_the_reference_on_corners(in_bits, coef_bits, out_bits):
    rng = np.random.default_rng(1)
    for entries, in_signed, out_signed, output in (
        (2, True, True, "code"), (5, False, True, "acc"), (8, True, False, "code"),
        (64 if coef_bits < 32 else 12, False, False, "code"),  # Python's simulator takes long over a wide tree
    ):  # fmt: skip
        config = PwlConfig(entries, in_bits, in_signed, coef_bits, out_bits, out_signed, output)
        for _ in range(2 if coef_bits < 32 else 1):
            lowered = random_lowered(rng, config)
            assert mismatches(config, lowered, corner_codes(rng, config, lowered, 10)) == []


@pytest.mark.parametrize("bits, output, depths", [
    (8, "code", range(1, 8)), (8, "acc", range(1, 6)), pytest.param(32, "code", (2, 7), marks=pytest.mark.slow),
    pytest.param(25, "acc", (1, 5), marks=pytest.mark.slow),
])  # fmt: skip
def test_every_depth_equals_the_reference_under_random_stalls_and_takes_one_beat_per_cycle_without(
    bits, output, depths
):
    rng = np.random.default_rng(2)
    for stages in depths:
        config = PwlConfig(5, bits, bits == 8 or stages % 2 == 0, bits, bits, output=output, stages=stages)
        lowered = random_lowered(rng, config)
        codes = corner_codes(rng, config, lowered, 40 if bits == 8 else 10)
        assert mismatches(config, lowered, codes, seed=stages) == []
        _, taken, given = simulate(Pwl(config), codes.tolist(), config.words(lowered), shifts(config, lowered))
        assert np.diff(taken).tolist() == [1] * (len(codes) - 1)
        assert [g - t for t, g in zip(taken, given, strict=True)] == [stages] * len(codes)
    most = depths[-1]
    with pytest.raises(InputError, match=rf"stages must be in 1\.\.{most}, not {most + 1}"):
        PwlConfig(in_bits=bits, coef_bits=bits, output=output, stages=most + 1)


@pytest.mark.parametrize("in_bits, coef_bits, in_signed", [
    (8, 8, True), (8, 5, False), (5, 9, True), (4, 4, False), (4, 12, False), (7, 4, True), (5, 7, True),
])  # fmt: skip
def test_every_pair_of_widths_and_signs_equals_the_reference_on_every_code(in_bits, coef_bits, in_signed):
    rng = np.random.default_rng(10)
    for stages, output in ((1, "code"), (7, "code"), (3, "acc")):
        config = PwlConfig(6, in_bits, in_signed, coef_bits, output=output, stages=stages)
        for _ in range(3):
            lowered = random_lowered(rng, config)
            assert mismatches(config, lowered, lowered.codes()) == []


def test_a_hard_wired_table_and_fixed_shifts_equal_the_reference():
    rng = np.random.default_rng(3)
    for output in ("code", "acc"):
        for _ in range(3):
            loose = PwlConfig(output=output)
            lowered = random_lowered(rng, loose)
            config = PwlConfig.hard_wired(lowered)
            assert (config.output, config.storage, config.shift_ports) == (output, "constants", [])
            assert mismatches(config, lowered, lowered.codes()) == []


def test_a_fixed_shift_has_no_port_and_equals_the_reference():
    rng = np.random.default_rng(8)
    config = PwlConfig(intercept_shift=5, output_shift=12)
    lowered = dataclasses.replace(random_lowered(rng, PwlConfig()), intercept_shift=5, output_shift=12)
    assert config.shift_ports == [] and PwlConfig(intercept_shift=5).shift_ports == ["output_shift"]
    assert mismatches(config, lowered, lowered.codes()) == []


def test_any_maximum_of_the_shifts_equals_the_reference_and_a_maximum_of_0_has_no_port():
    rng = np.random.default_rng(9)
    for intercept, output in ((0, 0), (5, 3), (8, 17), (0, 9), (27, 0)):
        config = PwlConfig(max_intercept_shift=intercept, max_output_shift=output)
        assert len(config.shift_ports) == (intercept > 0) + (output > 0)
        lowered = dataclasses.replace(random_lowered(rng, config), intercept_shift=intercept, output_shift=output)
        assert mismatches(config, lowered, lowered.codes()) == []


def test_a_configuration_can_be_varied_with_replace():
    config = PwlConfig(intercept_shift=3)
    assert dataclasses.replace(config, stages=2).largest("intercept_shift") == 3
    assert dataclasses.replace(PwlConfig(), output_shift=5).largest("output_shift") == 5
    assert (PwlConfig().largest("intercept_shift"), PwlConfig().largest("output_shift")) == (7, 15)


def test_a_shorter_and_narrower_table_in_a_wider_unit_equals_the_reference():
    rng = np.random.default_rng(4)
    config = PwlConfig(entries=12, in_bits=10, coef_bits=9)
    lowered = random_lowered(rng, PwlConfig(entries=5))
    assert mismatches(config, lowered, lowered.codes()) == []


@pytest.mark.parametrize("storage", ["flops", "latches", "constants"])
def test_the_emitted_verilog_equals_the_reference_in_icarus(storage, tmp_path):
    rng = np.random.default_rng(5)
    lowered = random_lowered(rng, PwlConfig(entries=6))
    config = PwlConfig.hard_wired(lowered) if storage == "constants" else PwlConfig(entries=6, storage=storage)
    unit = Pwl(config, latch_cell="unit_latch")
    emit.emit(tmp_path / "unit.v", "pwl", unit)
    words = [] if storage == "constants" else config.words(lowered)
    for seed in (0, 1):
        drive = Drive(words, shifts(config, lowered), seed, SETTLE.get(storage, 1))
        got = icarus(tmp_path / "unit.v", lowered.codes().tolist(), (8, 8), drive)
        assert got == (lowered.output(lowered.codes()) & 255).tolist()


def test_a_flipped_table_bit_a_late_threshold_and_a_lost_round_bit_are_each_seen(monkeypatch):
    config = PwlConfig(entries=2, intercept_shift=0, output_shift=1)
    lowered = LoweredTable(thresholds=(3,), slopes=(1, 1), intercepts=(5, 6), intercept_shift=0, output_shift=1, s=0)

    def outputs(loaded: LoweredTable) -> list[int]:
        return simulate(Pwl(config), lowered.codes().tolist(), config.words(loaded))[0]

    good = expected(config, lowered, lowered.codes())
    assert outputs(lowered) == good
    assert outputs(dataclasses.replace(lowered, slopes=(1, 0))) != good
    assert outputs(dataclasses.replace(lowered, thresholds=(4,))) != good  # what > for >= would do
    monkeypatch.setattr(pwl, "shift_right", lambda value, shift: ((value >> shift) << 1).as_signed())
    assert outputs(lowered) != good


BAD = [
    ({"entries": 1}, "entries must be in 2..64, not 1"),
    ({"in_bits": 33}, "in_bits must be in 4..32, not 33"),
    ({"storage": "ram"}, "storage must be one of flops, latches, constants, not 'ram'"),
    ({"output": "float"}, "output must be one of code, acc, not 'float'"),
    ({"stages": 0}, "stages must be in 1..7, not 0"),
    (
        {"intercept_shift": 3, "max_intercept_shift": 4},
        "max_intercept_shift must not be given if intercept_shift is fixed",
    ),
    ({"output_shift": -1}, "output_shift must be in 0..17, not -1"),
    ({"output": "acc", "output_shift": 1}, "output_shift must not be given if the output is the accumulator"),
    ({"storage": "constants"}, "constants must be a lowered table if and only if storage is constants"),
]  # fmt: skip


@pytest.mark.parametrize("fields, message", BAD, ids=lambda v: "" if isinstance(v, dict) else v[:40])
def test_a_bad_parameter_is_named_with_what_it_must_be(fields, message):
    with pytest.raises(InputError) as error:
        PwlConfig(**fields)
    assert str(error.value) == message


def test_a_table_wider_than_the_unit_is_refused():
    lowered = random_lowered(np.random.default_rng(7), PwlConfig(entries=8, coef_bits=10))
    with pytest.raises(InputError, match="entries of the table must be at most the unit's 7, not 8"):
        PwlConfig(entries=7).words(lowered)
    with pytest.raises(InputError, match="coef_bits of the table must be at most the unit's 8, not 10"):
        PwlConfig().words(lowered)
    with pytest.raises(InputError, match="intercept_shift of the table must be at most the unit's 7, not 9"):
        PwlConfig(coef_bits=10).words(dataclasses.replace(lowered, intercept_shift=9))
