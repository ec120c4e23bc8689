"""Private tables beside a shared one: each keeps the budget at its scale, and storage is counted for all of them."""

import json

from cost_model.cli import main
from cost_model.explore.budget import Budget
from cost_model.explore.private_tables import compare_tables
from cost_model.explore.unit_fits import UnitSpace


def test_private_tables_keep_the_budget_and_storage_counts_every_one_of_them(tmp_path, capsys):
    space = UnitSpace(entries=(3, 4, 5), scales=(4, 5))
    rows = compare_tables("tanh", Budget(mse_full=1e-3), space, tmp_path).to_dict("records")
    shared, loaded, held = rows
    assert all(row["worst_mse_full"] <= 1e-3 for row in rows)
    entries = json.loads(loaded["entries_by_scale"])
    assert json.loads(shared["entries_by_scale"]) == [shared["entries"]]
    assert len(entries) == 2 and max(entries) == loaded["entries"] <= shared["entries"]
    assert held["held_bits"] == held["all_tables_bits"] == loaded["all_tables_bits"] == 2 * loaded["held_bits"]
    assert held["analytical_area_ge"] > loaded["analytical_area_ge"]
    command = [
        "explore",
        "tables",
        "tanh",
        "--budget",
        "mse_full=1e-3",
        "--scales",
        "4",
        "5",
        "--entries",
        "3",
        "4",
        "5",
    ]
    assert main([*command, "--cache", str(tmp_path), "--json"]) == 0
    assert [row["tables"] for row in json.loads(capsys.readouterr().out)] == [row["tables"] for row in rows]
