"""The floating-point baseline is no larger than published units, so no saving is due to a wasteful one."""

import json

import pytest

from cost_model.cli import main
from cost_model.commands import floating
from cost_model.netlist import timing
from sim.common.results import read_results
from sim.reference.floating import FP16, FP32


def test_the_fp16_operations_are_not_larger_than_the_published_ones(monkeypatch, tmp_path, capsys):
    units = [unit for unit in floating._units() if unit[:2] in (("add", "fp16"), ("multiply", "fp16"))]
    monkeypatch.setattr(floating, "_units", lambda: units)
    assert main(["floating", "--json", "--cache", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["published_um2"] for row in rows] == [1360, 1640] and len(rows) == 2
    for row in rows:
        assert (row["table_flip_flops"], row["pipeline_flip_flops"]) == (0, 17)  # the result and its valid bit
        assert row["published_ge_low"] == row["published_ge_high"] == round(row["published_um2"] / 0.798)
        assert 0 < row["logic_ge"] < row["area_ge"] < row["published_ge_low"]


@pytest.mark.slow
def test_the_whole_unit_is_split_into_table_pipeline_and_logic(monkeypatch, tmp_path, capsys):
    units = [unit for unit in floating._units() if unit[0].startswith("pwl") and unit[1] == "fp16"]
    monkeypatch.setattr(floating, "_units", lambda: units)
    assert main(["floating", "--json", "--cache", str(tmp_path), "-o", str(tmp_path / "floating.json")]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    written = read_results(tmp_path / "floating.json")
    assert written["rows"] == [row] and written["command"] == "python -m cost_model floating"
    assert row["table_flip_flops"] == 16 * (7 + 8 + 8)
    assert row["pipeline_flip_flops"] > 3 * 16
    assert row["table_ge"] + row["pipeline_ge"] + row["logic_ge"] == pytest.approx(row["area_ge"])
    assert main(["floating", "--cache", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert (
        "TSMC 45 nm" in text
        and "NanGate FreePDK45" in text
        and "not public either and\nassumed to be 0.49-0.63 um2" in text
    )


def test_the_difference_to_the_paper_s_unit_is_in_words():
    row = {"unit": "pwl-8, 7 stages", "format": "fp32", "area_ge": 100.0, "table_ge": 30.0, "pipeline_ge": 20.0}
    row |= {"logic_ge": 50.0, "published_ge_low": 40, "published_ge_high": 60}
    said = "pwl-8 fp32: ours less the published one is 40 to 60; table and pipeline take 50, logic 50."
    assert floating._difference(row) == said


def test_the_paper_s_unit_stands_beside_ours_with_a_range_of_gate_equivalents():
    units = {number: published for name, number, _, published in floating._units() if name.startswith("pwl")}
    assert units == {"fp32": 5135, "fp16": None}
    assert floating._gate_equivalents(5135, paper_s=True) == (8151, 10480)
    assert floating._gate_equivalents(None, paper_s=True) == (None, None)


def test_stage_counts_are_the_recorded_ones_and_a_missing_one_is_said(monkeypatch, tmp_path, capsys):
    for number in (FP32, FP16):
        assert floating._stages(number) == timing.recorded("pwl", str(number).upper(), 8)["stages"]
    assert capsys.readouterr().err == ""
    (tmp_path / "stages.json").write_text('{"records": []}')
    monkeypatch.setattr(timing, "STAGES", tmp_path / "stages.json")
    assert floating._stages(FP32) == 3
    assert "no stage count is recorded for pwl FP32 with 8 entries, multiplier tree; 3 taken" in capsys.readouterr().err


def test_no_simulator_is_asked_for_where_none_is_used():
    with pytest.raises(SystemExit):
        main(["floating", "--simulator", "icarus"])


def test_every_unit_is_in_the_table_with_what_is_published_of_it():
    units = {(name, number): published for name, number, _, published in floating._units()}
    assert units["mac", "fp16 in fp32"] == 1640 + 4184 and units["mac", "fp32"] == 7700 + 4184
    assert {number for _, number in units} == {"fp32", "fp16", "fp16 in fp32"}
