"""The bench's figures are those of its fits."""

import json

from ga_search import benchmark as bench
from sim.common.results import read_results


def test_rows_carry_time_ratio_gap_and_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "PAPER", ("div",))
    monkeypatch.setattr(bench, "METHODS", ("genetic", "optimal", "optimal-6-6", "uniform"))
    assert bench.main(["--repeats", "1", "--seeds", "2", "-o", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    written = read_results(tmp_path / "fit.json")
    defaults = read_results(tmp_path / "default_fits.json")["rows"]
    assert [(row["function"], row["entries"], row["method"]) for row in defaults] == [
        ("div", n, "genetic") for n in (8, 16)
    ]
    assert written["rows"] == rows and written["machine"]["cores"] and len(rows) == 8
    by_method = {row["method"]: row for row in rows if row["entries"] == 8}
    assert by_method["optimal"]["worst_gap"] == 1.0 <= by_method["genetic"]["worst_gap"] <= 1.05
    assert by_method["optimal-6-6"]["time_ratio"] == 1.0 and by_method["uniform"]["worst_gap"] > 1.05
