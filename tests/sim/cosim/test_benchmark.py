"""The throughput report: what it records, and that a slow bulk bench is an error."""

import json

import pytest

from sim.cosim import benchmark as bench
from sim.cosim.simulators import SIMULATORS
from sim.vectors.pwl import random_set
from sim.vectors.requant import requant_set

KEYS = {"unit", "set", "simulator", "bench", "repeats", "vectors", "cycles", "seconds", "vectors_per_second"}


@pytest.mark.slow
def test_the_report_has_a_row_for_each_bench_the_machine_and_the_versions(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "RUNS", 1)
    monkeypatch.setattr(bench, "random_set", lambda *_: random_set("small", 0, 1, 8))
    monkeypatch.setattr(bench, "requant_set", lambda *_: requant_set("small", 0, 100))
    assert bench.main(["-o", str(tmp_path), "--simulator", "icarus", "--json"]) == 0
    report = json.loads((tmp_path / "simulation.json").read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert [(row["unit"], row["bench"]) for row in report["rows"]] == [
        (unit, name) for unit in ("pwl", "requant") for name in ("flow", "stall", "protocol")
    ]
    assert (report["runs"], report["kept"]) == (1, "the fastest of the runs")
    for row in report["rows"]:
        assert row["repeats"] == 1
        assert set(row) == KEYS
        assert row["vectors_per_second"] == round(row["vectors"] / row["seconds"]) > 0
    assert report["versions"].keys() == {"python", "bitwright", "cocotb", "icarus"} and report["machine"]["cores"] >= 1


@pytest.mark.parametrize("speed, code", [(bench.TARGET, 0), (bench.TARGET - 1, 1)])
def test_a_bulk_bench_below_the_target_exits_1(speed, code, tmp_path, monkeypatch, capsys):
    row = {"unit": "pwl", "set": "s", "simulator": "verilator", "bench": "flow", "vectors_per_second": speed}
    monkeypatch.setattr(bench, "measure", lambda names, build: [row])
    assert bench.main(["-o", str(tmp_path), "--simulator", SIMULATORS[1]]) == code
    assert ("must be at least 500000" in capsys.readouterr().err) == bool(code)
