"""A unit's file as a design."""

import numpy as np
import pytest

from cost_model.designs.from_file import file_design
from rtl.cli import main as rtl
from sim.cosim.check import Given
from sim.reference import InputError
from tests.sim.tables import secant_table


@pytest.mark.parametrize("unit", ["normaliser", "requant"])
def test_work_without_real_inputs_is_random_and_in_random_order(unit, tmp_path):
    table = secant_table("div")
    table.save(tmp_path / "div.json")
    own = ["--table", str(tmp_path / "div.json"), "--output-scale", "6"] if unit == "normaliser" else []
    assert rtl([unit, *own, "-o", str(tmp_path / "unit.v")]) == 0
    given = Given((table,)) if unit == "normaliser" else Given()
    work = file_design(tmp_path / "unit.v", given).work
    expected = work.arrays["expected"].astype(np.int64)
    # every bit of the output moves, and neighbours differ as often as strangers would
    assert np.bitwise_or.reduce(expected ^ expected[0]) & 0x7F == 0x7F
    assert (np.diff(expected) != 0).mean() > 0.2


def test_memories_are_asked_for_of_units_for_rows_alone(tmp_path):
    assert rtl(["requant", "-o", str(tmp_path / "unit.v")]) == 0
    with pytest.raises(InputError, match="--memories is for a unit for rows, not for requant"):
        file_design(tmp_path / "unit.v", Given(), memories_inside=True)


@pytest.mark.parametrize("unit", ["product", "rope", "residual", "requant"])
def test_work_is_one_load_where_the_check_has_several(unit, tmp_path):
    assert rtl([unit, "-o", str(tmp_path / "unit.v")]) == 0
    design = file_design(tmp_path / "unit.v", Given())
    assert len(design.work.counts) == 1 and design.work.size > 1000
    assert design.checks[0].size >= design.work.size
