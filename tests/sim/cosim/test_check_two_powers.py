"""A unit without a multiplier, from its fit to both simulators."""

import pytest

import ga_search
import rtl.cli
from sim import cli


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_a_fitted_table_of_two_powers_passes_on_every_code_at_every_scale(simulator, tmp_path, capsys):
    options = {"symmetry": "gated", "slope_form": "two-powers"}
    table = ga_search.fit_table("gelu", 4, "optimal", **options).save(tmp_path / "gelu.json")
    file = tmp_path / "gelu.v"
    assert rtl.cli.main(["pwl", "--table", str(table), "--slope-form", "two-powers", "-o", str(file)]) == 0
    assert cli.main(["check", str(file), "--table", str(table), "--simulator", simulator]) == 0
    other = ga_search.fit_table("gelu", 4, "optimal", symmetry="gated").save(tmp_path / "other.json")
    assert rtl.cli.main(["pwl", "--table", str(other), "--slope-form", "two-powers", "-o", str(file)]) == 2
    assert "must be a sum of two powers of two, not" in capsys.readouterr().err
