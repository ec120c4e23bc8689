"""SRAM macros are read from Liberty files: shape, area, and what an access costs."""

from pathlib import Path

import pytest

from cost_model.cells import sram
from cost_model.network.memory import MEMORIES
from sim.common.results import read_results
from sim.reference import InputError
from tests.cost_model.libraries import IHP

MACRO = """
library (l) {
  cell (MACRO) {
    memory () { type : ram; address_width : 3; word_width : 16; }
    area : 100.5;
    pin (A_CLK) {
      internal_power () { when : "!A_MEN & A_WEN & !A_REN"; rise_power("scalar") { values (9); } fall_power("scalar") { values (0); } }
      internal_power () { when : "A_MEN & A_WEN & !A_REN"; rise_power("scalar") { values (3); } fall_power("scalar") { values (1); } }
      internal_power () { when : "A_MEN  & !A_WEN & A_REN"; rise_power("scalar") { values (2); } fall_power("scalar") { values (0); } }
    }
  }
}
"""  # noqa: E501


def test_a_macro_has_its_shape_and_the_energies_of_an_access(tmp_path: Path) -> None:
    (path := tmp_path / "macro.lib").write_text(MACRO)
    macro = sram.load(path)
    assert (macro.name, macro.words, macro.bits, macro.size, macro.ports) == ("MACRO", 8, 16, 128, 1)
    assert macro.area_um2 == 100.5 and (macro.read_j, macro.write_j) == (2e-12, 4e-12)


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ("memory ()", "memo ()", "must hold a cell with a memory"),
        ("A_CLK", "CK", "must have a pin A_CLK"),
        ("!A_WEN & A_REN", "A_WEN & A_REN", "gives no energy of a read"),
    ],
)
def test_another_file_is_one_line(was: str, now: str, line: str, tmp_path: Path) -> None:
    (path := tmp_path / "macro.lib").write_text(MACRO.replace(was, now))
    with pytest.raises(InputError, match=f"macro.lib: {line}"):
        sram.load(path)


def test_the_stored_macros_are_those_of_the_files() -> None:
    folder = IHP.parent / "sg13g2_sram"
    if not folder.is_dir():
        pytest.skip("needs the SRAM macros of IHP SG13G2")
    rows = [vars(sram.load(path)) for path in sorted(folder.glob("*.lib"))]
    assert rows == read_results(MEMORIES)["rows"]
