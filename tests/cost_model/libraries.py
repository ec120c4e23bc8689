"""The libraries that the tests use: the shipped one, IHP's where it is found, and small ones that lack something."""

import os
import re
from pathlib import Path

import pytest

from cost_model.cells.library import GATE_EQUIVALENTS

ROOT = Path(__file__).parents[2]
NAME = "sg13g2_stdcell_typ_1p20V_25C.lib"
IHP = Path(os.environ.get("BITWRIGHT_LIBERTY", ROOT.parent / "shared" / "data" / NAME))
needs_ihp = pytest.mark.skipif(not IHP.exists(), reason=f"{NAME} is not there: set BITWRIGHT_LIBERTY to its path")


def without(folder: Path, cell: str) -> Path:
    """The shipped library without a cell."""
    return _changed(
        folder, re.sub(rf"  cell \({cell}\) \{{.*?\n  \}}\n", "", GATE_EQUIVALENTS.read_text(), flags=re.DOTALL)
    )


def without_area(folder: Path, cell: str) -> Path:
    """The shipped library with the area of a cell left out."""
    return _changed(
        folder, re.sub(rf"(  cell \({cell}\) \{{\n)    area : [\d.]+;\n", r"\1", GATE_EQUIVALENTS.read_text())
    )


def _changed(folder: Path, text: str) -> Path:
    assert text != GATE_EQUIVALENTS.read_text()
    path = folder / "changed.lib"
    path.write_text(text)
    return path
