"""Every notebook runs, shows what it has stored, and ends in a picture."""

import re
from base64 import b64decode
from copy import deepcopy
from typing import Any

import nbformat
import pytest

from notebooks.store import NAMES, PICTURE, code_cells, differences, execute, figures, read

LARGEST = 200_000  # bytes of the pictures of a page, so that it loads quickly


# synthesis and conversions where nothing is in the cache
LONG = ("where_the_saving_comes_from", "from_function_to_unit", "from_model_to_integers")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in NAMES])
def test_the_stored_figures_are_those_measured(name):
    assert differences(read(name), execute(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_digit_and_a_missing_picture_are_reported(name):
    stored = read(name)
    digits, pictures = 0, 0
    for i, cell in enumerate(code_cells(stored)):
        for k, output in enumerate(cell.outputs):
            for found in re.finditer(r"\d", output.get("text", "")):
                other = deepcopy(stored)
                changed = code_cells(other)[i].outputs[k]
                changed["text"] = (
                    f"{changed['text'][: found.start()]}{9 - int(found[0])}{changed['text'][found.end() :]}"
                )
                assert len(differences(stored, other)) == 1
                digits += 1
            if PICTURE in output.get("data", {}):
                other = deepcopy(stored)
                del code_cells(other)[i].outputs[k]["data"][PICTURE]
                assert len(differences(stored, other)) == 1
                pictures += 1
    assert digits and pictures


def test_a_cell_of_timings_is_not_compared():
    stored = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[shown("1 s")])])
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[shown("2 s")])])
    assert len(differences(stored, other)) == 1
    stored.cells[0].metadata["tags"] = ["timing"]
    assert differences(stored, other) == []


def shown(text: str) -> Any:
    return nbformat.v4.new_output("stream", text=text)


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_in_a_picture_with_a_caption(name):
    stored = read(name)
    assert stored.cells[-1].cell_type == "markdown"
    assert stored.cells[-2].cell_type == "code" and figures(stored.cells[-2])[-1] == PICTURE


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_machine_is_stored(name):
    stored = read(name)
    assert set(stored.metadata) == {"kernelspec", "language_info"}
    assert stored.metadata["language_info"] == {"name": "python"}
    for cell in code_cells(stored):
        assert "execution" not in cell.metadata
        assert not any(re.search(r"/(home|root|tmp|usr|var)/|:\\", line) for line in figures(cell))


def test_the_pages_load_quickly():
    for name in NAMES:
        outputs = [output for cell in code_cells(read(name)) for output in cell.outputs]
        assert sum(len(b64decode(output.get("data", {}).get(PICTURE, ""))) for output in outputs) < LARGEST, name
