"""The normaliser against `sim.reference.Normaliser`, with equality, on every input of its width."""

import numpy as np
import pytest

from rtl import emit, normaliser
from rtl.blocks.multiplication import as_operator
from rtl.blocks.storage import SETTLE
from rtl.normaliser import NormaliserConfig, NormaliserUnit
from sim.reference import InputError, Normaliser, PwlTable
from sim.reference.arithmetic import code_range
from tests.rtl.bench import Drive, icarus, simulate

DOMAINS = {"div": [(2, 1), (0.5, 3)], "rsqrt": [(1, 2), (0.25, 4)]}  # bottom and g: highest octaves, the paper's
CASES = [(function, *case) for function, cases in DOMAINS.items() for case in cases]


def secant_table(function: str, bottom: float, step: int, entries: int = 6) -> PwlTable:
    """The function's secants on an even grid, rounded to 2**-6 and 2**-5: no good fit, but the right shape."""
    edges = np.linspace(bottom, bottom * 2**step, entries + 1)
    values = 1 / edges if function == "div" else edges**-0.5
    slopes = np.diff(values) / np.diff(edges)
    intercepts = values[:-1] - slopes * edges[:-1]
    return PwlTable(
        function=function,
        domain=(bottom, bottom * 2**step),
        scales=(5,),
        slope_frac_bits=6,
        intercept_frac_bits=5,
        bp_frac_bits=5,
        slopes=tuple(int(v) for v in np.clip(np.round(slopes * 64), -128, 127)),
        intercepts=tuple(int(v) for v in np.clip(np.round(intercepts * 32), -128, 127)),
        breakpoints=tuple(int(v) for v in np.round(edges[1:-1] * 32)),
        normaliser_step=step,
    )


def config_of(case: tuple[str, float, int], bits: int, frac: int, signed: bool = True, **fields) -> NormaliserConfig:
    return NormaliserConfig(Normaliser(secant_table(*case), 5, bits, frac, signed), **fields)


def expected(config: NormaliserConfig, v: np.ndarray) -> list:
    if config.output == "code":
        return config.reference.output(v, config.output_scale, config.out_bits, config.out_signed).tolist()
    acc, exponent = config.reference.evaluate(v)
    return [{"acc": a, "exponent": e} for a, e in zip(acc.tolist(), exponent.tolist(), strict=True)]


def mismatches(config: NormaliserConfig, v: np.ndarray, **how) -> list:
    """(v, expected, got) wherever the unit differs from the specification."""
    words = [] if config.storage == "constants" else config.pwl.words(config.reference.lowered)
    got, _, _ = simulate(NormaliserUnit(config), v.tolist(), words, **how)
    if config.output == "acc":
        got = [{"acc": pair.acc, "exponent": pair.exponent} for pair in got]
    return [row for row in zip(v.tolist(), expected(config, v), got, strict=True) if row[1] != row[2]]


def corners(bits: int, signed: bool) -> np.ndarray:
    """Every power of two with its neighbours, both ends, and some random inputs of every magnitude."""
    low, high = code_range(bits, signed)
    rng = np.random.default_rng(bits)
    powers = [(1 << k) + d for k in range(bits) for d in (-1, 0, 1)]
    spread = [int(v) >> int(k) for v, k in zip(rng.integers(low, high, 60), rng.integers(0, bits, 60), strict=True)]
    return np.unique(np.clip([low, -1, 0, high, *powers, *spread], low, high))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("output_scale", [None, 7])
def test_corners_of_many_input_formats_equal_the_reference(case, output_scale):
    output = "acc" if output_scale is None else "code"
    for bits, frac, signed in ((2, 0, True), (8, 3, False), (16, 8, True), (24, 30, True), (32, -4, False)):
        config = config_of(case, bits, frac, signed, output=output, output_scale=output_scale, storage="constants")
        assert mismatches(config, corners(bits, signed)) == [], (bits, frac, signed)


@pytest.mark.parametrize(
    "output_scale, out_bits, out_signed", [(0, 8, True), (14, 16, True), (9, 8, False), (-3, 4, True)]
)
def test_output_scales_and_widths_equal_the_reference_with_a_loaded_table(output_scale, out_bits, out_signed):
    shape = dict(output_scale=output_scale, out_bits=out_bits, out_signed=out_signed)
    assert mismatches(config_of(("div", 2, 1), 12, 6, **shape), np.arange(-2048, 2048, 7)) == []


@pytest.mark.parametrize("stages", range(1, 11))
def test_every_depth_equals_the_reference_under_random_stalls_and_takes_one_beat_per_cycle_without(stages):
    config = config_of(("rsqrt", 1, 2), 16, 8, output_scale=7, stages=stages)
    v = corners(16, True)
    assert mismatches(config, v, seed=stages) == []
    words = config.pwl.words(config.reference.lowered)
    _, taken, given = simulate(NormaliserUnit(config), v.tolist(), words)
    assert np.diff(taken).tolist() == [1] * (len(v) - 1)
    assert {g - t for t, g in zip(taken, given, strict=True)} == {stages}


def test_a_plain_product_equals_the_reference():
    config = config_of(("rsqrt", 1, 2), 16, 8, output_scale=7, storage="constants")
    v = corners(16, True)
    assert simulate(NormaliserUnit(config, product=as_operator), v.tolist(), [])[0] == expected(config, v)


@pytest.mark.parametrize("storage", ["flops", "latches", "constants"])
def test_every_16_bit_input_equals_the_reference_in_icarus(storage, tmp_path):
    config = config_of(("div", 2, 1), 16, 8, output_scale=7, storage=storage)
    emit.emit(tmp_path / "unit.v", "normaliser", NormaliserUnit(config, latch_cell="unit_latch"))
    words = [] if storage == "constants" else config.pwl.words(config.reference.lowered)
    v = np.arange(-(1 << 15), 1 << 15)
    got = icarus(tmp_path / "unit.v", v.tolist(), (16, 8), Drive(words, settle=SETTLE.get(storage, 1)))
    assert got == [y & 255 for y in expected(config, v)]


def test_a_wrong_rounding_and_a_wrong_group_are_seen(monkeypatch):
    config = config_of(("div", 2, 1), 12, 6, output_scale=3, storage="constants")
    v = corners(12, True)
    assert mismatches(config, v) == []
    good = normaliser.round_and_saturate
    monkeypatch.setattr(normaliser, "round_and_saturate", lambda m, v, shape: good(m, (v[1:] << 1).as_signed(), shape))
    assert mismatches(config, v) != []
    monkeypatch.undo()
    monkeypatch.setattr(NormaliserConfig, "exponents", property(lambda self: [1 - k for k, _ in self.groups]))
    assert mismatches(config, v) != []


BAD = [
    ({"output": "acc", "output_scale": 3}, "output_scale must be given if and only if the output is a code"),
    ({}, "output_scale must be given if and only if the output is a code"),
    ({"output_scale": 3, "stages": 11}, "stages must be in 1..10, not 11"),
    ({"output_scale": 65}, "output_scale must be in -64..64, not 65"),
    ({"output_scale": 3, "out_bits": 2}, "out_bits must be in 4..32, not 2"),
    ({"output_scale": 3, "storage": "ram"}, "storage must be one of flops, latches, constants, not 'ram'"),
]


@pytest.mark.parametrize("fields, message", BAD, ids=lambda v: "" if isinstance(v, dict) else v[:40])
def test_a_bad_parameter_is_named_with_what_it_must_be(fields, message):
    with pytest.raises(InputError) as error:
        config_of(("div", 2, 1), 16, 8, **fields)
    assert str(error.value) == message
