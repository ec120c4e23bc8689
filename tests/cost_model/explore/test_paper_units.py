"""Units of an earlier run in another library."""

import json

from cost_model import cli
from cost_model.designs.design import gelu_table
from cost_model.explore import paper_units
from sim.common.results import read_results, write_results
from tests.cost_model.libraries import with_delays

TABLE = gelu_table(4, 8, 8, 8, 5)


def test_only_rows_with_tables_are_measured_anew_against_fp32_in_the_same_library(tmp_path, monkeypatch, capsys):
    made = []

    def synthesised(make, flow, cache, start):
        design = make(start, True)
        made.append((design.name, start))
        area = 1000.0 if design.format == "FP32" else 150.0
        return {"area": area, "stages": start, "slack_ns": 0.5, "verified_vectors": 9, "recipe": "own tree"}

    monkeypatch.setattr(paper_units, "synthesised", synthesised)
    units = tmp_path / "units.json"
    write_results(units, "earlier", [{"unit": "FP32, 8 entries"}, {"unit": "gelu", "tables": [TABLE.to_dict()]}])
    output = tmp_path / "other.json"
    arguments = ["explore", "paper", "--units", str(units), "--liberty", str(with_delays(tmp_path, "ns", "pf"))]
    assert cli.main([*arguments, "-o", str(output), "--json"]) == 0
    rows = read_results(output)["rows"]
    assert rows == json.loads(capsys.readouterr().out)
    assert [row["unit"] for row in rows] == ["FP32, 8 entries", "INT8, 8 entries, the reference unit", "gelu"]
    assert [row.get("saving_um2") for row in rows] == [None, 0.85, 0.85] and rows[2]["library"] == "delays_ns"
    assert [start for _, start in made] == [paper_units.FP32_STAGES, 1, 1]
    assert cli.main([*arguments[:3], str(tmp_path / "none.json"), *arguments[4:]]) == 2
