"""What each simulator gets of a set, that a row says so, and that a run that fails leaves a waveform."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sim.cosim import regress, simulators, wrapper
from sim.cosim.dut import device
from sim.cosim.options import BUILD
from sim.reference import InputError
from sim.vectors.pwl import random_set
from sim.vectors.rowwise_suite import row_suite
from sim.vectors.vector_set import VectorSet

UNEVEN = random_set("uneven", seed=1, tables=3, entries=8)
ROWS: VectorSet = row_suite(0, True, ("layernorm",))[0]


@pytest.mark.parametrize("vectors", [UNEVEN, ROWS], ids=lambda vectors: vectors.unit)
def test_icarus_gets_a_part_from_all_over_a_large_set_and_verilator_all_of_it(vectors, monkeypatch):
    monkeypatch.setitem(regress.IN_ICARUS, vectors.unit, vectors.size // 3)
    icarus, verilator = regress.jobs([vectors], ("icarus", "verilator"), True)
    assert verilator.vectors is vectors and verilator.whole == icarus.whole == vectors.size
    part = icarus.vectors
    assert len(part.counts) == len(vectors.counts) and part.size < 0.45 * vectors.size
    assert {*part.arrays["s" if "s" in part.arrays else "epsilon"]} == {
        *vectors.arrays["s" if "s" in part.arrays else "epsilon"]
    }
    if vectors.in_rows:
        assert {*part.lengths(0, part.size)} <= {*vectors.lengths(0, vectors.size)}
    else:
        assert abs(np.diff(part.arrays["inputs"])).max() < 256  # whole ranges of codes, no head of one
        assert part.arrays["inputs"].max() > 120 and part.arrays["inputs"].min() < -120


def test_a_row_says_how_many_vectors_of_how_many_were_compared(monkeypatch, tmp_path):
    monkeypatch.setitem(regress.IN_ICARUS, "pwl", 500)
    (job,) = regress.jobs([UNEVEN], ("icarus",), True)
    flow, *_ = regress.run_job(job, 0, BUILD, None)
    assert regress.passed(flow)
    assert (flow["vectors"], flow["of"]) == (job.vectors.size, UNEVEN.size) and 300 < flow["vectors"] <= 500


@pytest.mark.parametrize("unit", ["softmax", "layernorm", "rmsnorm"])
def test_both_simulators_get_a_hundred_thousand_rows(unit):
    sets = row_suite(0, False, (unit,), {unit: ("short",)})
    for simulator in ("icarus", "verilator"):
        jobs = regress.jobs(sets, (simulator,), False)
        assert sum(int(job.vectors.arrays["inputs.last"].sum()) for job in jobs) >= 100_000


TINY = random_set("tiny", seed=4, tables=1, entries=4, per_table=5, in_bits=4, coef_bits=4)


def one_wrong(vectors: VectorSet) -> VectorSet:
    """The set with one expected code changed."""
    expected = vectors.arrays["expected"].copy()
    expected[2] ^= 1
    return dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": expected})


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_a_run_that_fails_is_repeated_with_a_waveform_and_one_that_passes_is_not(simulator, tmp_path):
    passing = regress.run_job(regress.Job(TINY, simulator, True), 0, tmp_path, None)
    assert all(regress.passed(row) and row["waves"] is None for row in passing) and not (tmp_path / "waves").exists()
    failing = regress.run_job(regress.Job(one_wrong(TINY), simulator, True), 0, tmp_path, None)
    for row, name in zip(failing, ("flow", "stall", "protocol"), strict=True):
        assert row["mismatches"] == 1
        path = tmp_path / "waves" / f"tiny-{name}-{simulator}.{simulators.wave_format(simulator)}"
        assert row["waves"] == str(path) and path.stat().st_size > 1000
    assert len(list((tmp_path / "waves").iterdir())) == 3


@pytest.mark.slow
def test_of_a_set_in_several_pieces_the_waveform_is_that_of_the_first_piece_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(wrapper, "VECTORS", 32)
    traced = []
    simulate = simulators.simulate

    def watched(simulation, folder):
        traced.append(simulation.waves)
        simulate(simulation, folder)

    monkeypatch.setattr(simulators, "simulate", watched)
    vectors = one_wrong(random_set("pieces", seed=4, tables=6, entries=4, in_bits=4, coef_bits=4))
    row = regress.run_job(regress.Job(vectors, "icarus", False), 0, tmp_path, None)[0]
    pieces = len(wrapper.chunks(vectors, device(vectors)))
    assert pieces > 1 and traced[: 2 * pieces] == [None] * pieces + [Path(row["waves"])] + [None] * (pieces - 1)


def test_a_simulation_that_breaks_is_repeated_once_and_verilog_that_cannot_be_built_is_not(tmp_path, monkeypatch):
    calls = []

    def broken(simulation, folder):
        calls.append(simulation.waves)
        raise simulators.SimulationError("icarus stopped: 139")

    monkeypatch.setattr(simulators, "simulate", broken)
    flow, stall = regress.run_job(regress.Job(TINY, "icarus", False), 0, tmp_path, None)
    assert flow["problem"] == stall["problem"] == "icarus stopped: 139" and flow["waves"] is stall["waves"] is None
    assert [waves is not None for waves in calls] == [False, True] * 2
    unit = dataclasses.replace(device(TINY), verilog="module unit(; endmodule")
    flow, stall = regress.run_job(regress.Job(TINY, "icarus", False, unit), 0, tmp_path, None)
    assert "icarus cannot build bulk_unit" in flow["problem"] and len(calls) == 4


@pytest.mark.parametrize(
    "name", ["/elsewhere/owned", "../owned", "a/b", ".hidden", "-x", "a\nb", "a;b", "`a`", "$(a)", ""]
)
def test_a_set_whose_name_is_no_plain_file_name_is_refused(name):
    with pytest.raises(InputError, match="a set of vectors must be named by a plain file name, not "):
        regress.Job(dataclasses.replace(TINY, name=name), "icarus", False)
