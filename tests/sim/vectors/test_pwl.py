"""The vectors for the piecewise-linear unit contain the cases that they are made for."""

import dataclasses

import numpy as np
import pytest

from sim.reference import InputError, PwlTable
from sim.reference.arithmetic import code_range
from sim.vectors.pwl import fitted_set, output_scale, random_set, random_table


def gelu_like(**changes) -> PwlTable:
    values = dict(
        function="gelu", domain=(-4, 4), scales=tuple(range(7)), slope_frac_bits=6, intercept_frac_bits=6,
        bp_frac_bits=6, slopes=(0, -5, 4, 68, 64), intercepts=(0, -14, -2, 0, 0), breakpoints=(-180, -60, 0, 150),
    )  # fmt: skip
    return PwlTable(**{**values, **changes})


def test_a_fitted_table_meets_every_code_at_every_scale():
    vectors = fitted_set("gelu", gelu_like())
    assert vectors.counts.tolist() == [256] * 8 and vectors.arrays["s"].tolist() == list(range(8))
    assert np.array_equal(vectors.arrays["inputs"].reshape(8, 256), np.tile(np.arange(-128, 128), (8, 1)))
    for load, scale in enumerate(range(8)):
        lowered = gelu_like().lower(scale, min(output_scale(gelu_like()), 6 + scale))
        assert np.array_equal(vectors.arrays["expected"].reshape(8, 256)[load], lowered.output(lowered.codes()))
    assert vectors.source == {"table": gelu_like().digest, "function": "gelu"}
    acc = fitted_set("gelu", gelu_like(), "acc")
    assert "output_shift" not in acc.arrays and acc.widths["expected"] == (17, True)
    wide = fitted_set("wide", dataclasses.replace(gelu_like(), in_bits=16, scales=(8, 14), bp_frac_bits=14))
    assert wide.counts.tolist() == [1 << 16] * 2 and wide.arrays["s"].tolist() == [8, 14]


def test_the_output_scale_is_the_largest_that_saturates_nothing_in_the_domain():
    for factor in (1, 2, 5):
        table = gelu_like(slopes=tuple(v * factor // 5 for v in gelu_like().slopes))
        lowered = table.lower(6)
        inside = np.arange(-256, 256)[64:448]
        inside = inside[(inside >= -128) & (inside <= 127)]
        peak = abs(lowered.accumulate(inside)).max()
        best = output_scale(table)
        assert peak * 2.0 ** (best - 12) <= 127 < peak * 2.0 ** (best + 1 - 12)


def test_random_tables_have_equal_unreachable_and_distinct_thresholds_and_every_size():
    vectors = random_set("r", seed=0, tables=30, entries=16)
    thresholds = vectors.arrays["thresholds"]
    low, high = code_range(8, True)
    inner = [row[(row > low) & (row < high)] for row in thresholds]
    assert any((np.diff(row) == 0).any() for row in inner)  # equal ones that codes do reach
    assert any((row == high).any() for row in thresholds) and any((row == low).any() for row in thresholds)
    assert any(len(np.unique(row)) == 15 for row in thresholds)
    rng = np.random.default_rng(0)
    sizes = {random_table(rng, 2 + k, k % 3).entries for k in range(60)}
    assert sizes == set(range(2, 62))


def test_random_sets_saturate_sometimes_and_not_always():
    expected = random_set("r", seed=0, tables=30, entries=8).arrays["expected"]
    ends = np.isin(expected, (-128, 127)).mean()
    assert 0.1 < ends < 0.9


@pytest.mark.parametrize("bits, signed", [(4, True), (16, False), (32, True)])
def test_a_wide_set_meets_the_ends_and_every_threshold_with_its_neighbours(bits, signed):
    widths = dict(in_bits=bits, coef_bits=bits, out_bits=bits, in_signed=signed)
    vectors = random_set("w", seed=3, tables=6, entries=8, per_table=50, **widths)
    low, high = code_range(bits, signed)
    first = 0
    for load, count in enumerate(vectors.counts.tolist()):
        codes = set(vectors.arrays["inputs"][first : first + count].tolist())
        first += count
        assert {low, high} <= codes
        for t in vectors.arrays["thresholds"][load].tolist():
            assert {max(t - 1, low), t, min(t + 1, high)} <= codes
    assert vectors.configuration["in_signed"] is signed


def test_the_seed_decides_every_byte(tmp_path):
    first, same, other = (random_set("r", seed=s, tables=3, entries=8) for s in (5, 5, 6))
    assert first.save(tmp_path / "a").read_bytes() == same.save(tmp_path / "b").read_bytes()
    assert first.save(tmp_path / "a").read_bytes() != other.save(tmp_path / "c").read_bytes()


def test_a_table_wider_than_the_unit_is_refused():
    with pytest.raises(InputError, match="entries of the table must be at most the unit's 4, not 5"):
        fitted_set("g", gelu_like(), entries=4)
