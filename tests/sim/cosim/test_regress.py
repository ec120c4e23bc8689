"""What each simulator gets of a set, and that a row says so."""

import numpy as np
import pytest

from sim.cosim import regress
from sim.cosim import run as runner
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
    flow, *_ = regress.run_job(job, 0, runner.BUILD, None)
    assert regress.passed(flow)
    assert (flow["vectors"], flow["of"]) == (job.vectors.size, UNEVEN.size) and 300 < flow["vectors"] <= 500


@pytest.mark.parametrize("unit", ["softmax", "layernorm", "rmsnorm"])
def test_both_simulators_get_a_hundred_thousand_rows(unit):
    sets = row_suite(0, False, (unit,), {unit: ("short",)})
    for simulator in ("icarus", "verilator"):
        jobs = regress.jobs(sets, (simulator,), False)
        assert sum(int(job.vectors.arrays["inputs.last"].sum()) for job in jobs) >= 100_000
