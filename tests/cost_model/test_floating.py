"""The floating-point baseline is no larger than published units, so no saving is due to a wasteful one."""

import json

from cost_model.cli import main
from cost_model.commands import floating


def test_the_fp16_operations_are_not_larger_than_the_published_ones(monkeypatch, tmp_path, capsys):
    units = [unit for unit in floating._units() if unit[:2] in (("add", "fp16"), ("multiply", "fp16"))]
    monkeypatch.setattr(floating, "_units", lambda: units)
    assert main(["floating", "--json", "--cache", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["published_um2"] for row in rows] == [1360, 1640] and len(rows) == 2
    for row in rows:
        assert row["flip_flops"] == 17  # the result and its valid bit
        assert 0 < row["logic_ge"] < row["area_ge"] < row["published_ge"] == round(row["published_um2"] / 0.798)


def test_every_unit_is_in_the_table_with_what_is_published_of_it():
    units = {(name, number): published for name, number, _, published in floating._units()}
    assert units["mac", "fp16 in fp32"] == 1640 + 4184 and units["mac", "fp32"] == 7700 + 4184
    assert {number for _, number in units} == {"fp32", "fp16", "fp16 in fp32"}
