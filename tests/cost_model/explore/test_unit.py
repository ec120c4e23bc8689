"""The search for a unit as a command, and what it measures."""

import json
from dataclasses import replace

import pytest

from cost_model.cli import main
from cost_model.designs.table_unit import fixed_unit, unit_config
from cost_model.explore.budget import Budget
from cost_model.explore.shared_unit import shared_tables
from cost_model.explore.unit import Confirmation, explore_unit
from cost_model.explore.unit_fits import UnitSpace
from cost_model.explore.unit_measured import proved, simulated
from ga_search import FitConfig
from ga_search.exact import truth_table
from sim.reference import InputError, PwlTable

ARGUMENTS = ["explore", "unit", "tanh", "--budget", "mse_full=4e-4", "--scales", "5", "--entries", "3", "4"]


def test_the_command_gives_tables_within_the_budget_cheapest_first(tmp_path, capsys):
    assert main([*ARGUMENTS, "--confirm", "0", "--json", "--cache", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    areas = [row["analytical_area_ge"] for row in rows]
    assert areas == sorted(areas) and rows[0]["on_front"] and rows[0]["area_ge"] is None
    for row in rows:
        assert row["mse_full"] <= 4e-4 and PwlTable.from_json(row["table"]).digest == row["table_sha256"]
    assert {row["symmetry"] for row in rows} == {"odd"}  # without folding more entries are needed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--confirm", "-1"], "--confirm must be at least 0, not -1"),
        (["--symmetry", "gated"], "symmetry must be one of tanh, which is not gated at x = "),
        (["--budget", "max_ulp=0.001"], "no table of the space is within the budget for tanh"),
    ],
)
def test_a_mistake_is_one_line(options, message, tmp_path, capsys):
    assert main([*ARGUMENTS, "--entries", "2", *options, "--cache", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")


def test_the_comparison_with_fp32_needs_a_library_with_delays(capsys):
    assert main(["explore", "paper"]) == 2
    assert "--liberty must be given" in capsys.readouterr().err


def test_functions_that_share_a_unit_share_its_format_and_each_keeps_its_budget(tmp_path):
    wanted = {
        FitConfig(name, symmetry="gated", scales=(4,), slope_sign="unsigned", certificate=False): Budget(mse_full=limit)
        for name, limit in (("gelu", 1e-3), ("hswish", 2e-3))
    }
    found = shared_tables(wanted, UnitSpace((2, 3), (5, 6), (4, 5), sizes=1), (4, 5), cache=tmp_path)
    assert [one.table.function for one in found] == ["gelu", "hswish"]
    assert len({one.table.slope_frac_bits for one in found}) == 1
    assert all(budget.met(one.figures) for one, budget in zip(found, wanted.values(), strict=True))
    unit_config([one.table for one in found])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"entries": ()}, "entries must have at least one choice"),
        ({"entries": (8, 4)}, "entries must be ascending, not 8 4"),
        ({"entries": (1, 2)}, "entries must be in 2..64, not 1"),
        ({"slope_bits": (8, 8)}, "slope_bits must be ascending, not 8 8"),
        ({"intercept_bits": (13,)}, "intercept_bits must be in 2..12, not 13"),
        ({"scales": (4, 4)}, "scales must be different ones, not 4 4"),
        ({"sizes": 0}, "sizes must be in 1..64, not 0"),
    ],
)
def test_nothing_is_measured_of_a_search_that_cannot_be(fields, line):
    with pytest.raises(InputError, match=line):
        UnitSpace(**fields)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["flops", "latches", "constants", "truth-table"])
def test_a_chosen_unit_is_synthesised_simulated_and_proved(storage, tmp_path):
    space = UnitSpace((3,), (6,), (4,), ("gated",), scales=(3, 5), sizes=1)
    budget = Budget(mse_full=2e-3)
    frame = explore_unit("gelu", budget, space, Confirmation(1, (storage,)), tmp_path)
    row = frame.iloc[0]
    scales = 1 if storage in ("constants", "truth-table") else 2
    assert row["simulated_vectors"] == 256 * scales and row["area_ge"] > 0 and row["stages"] == 1
    if storage == "flops":
        table = PwlTable.from_json(row["table"])
        assert proved(unit_config([table]), table.lower(5, table.provenance["output_scale"]), tmp_path) == "proved"


@pytest.mark.slow
def test_a_wrong_result_in_a_simulator_ends_the_search(tmp_path):
    design = fixed_unit(truth_table("gelu", (5,)))
    arrays = dict(design.work.arrays)
    arrays["expected"] = arrays["expected"].copy()
    arrays["expected"][7] ^= 1
    with pytest.raises(RuntimeError, match="truth-table-gelu in icarus"):
        simulated(replace(design, work=replace(design.work, arrays=arrays)), tmp_path)
