"""Run the notebooks and store what they show: `python notebooks/store.py [NAME ...]`, from the repository's root.

A stored notebook can be read on a web page without running it. `tests/test_notebooks.py` runs each again and holds the
stored figures against those measured; a cell with the tag `timing` is left out of that.
"""

import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
PICTURE = "image/png"


def read(name: str) -> Any:
    """The notebook called `name`, as it is stored."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def execute(name: str) -> Any:
    """The notebook called `name` with new outputs; its working directory is the repository's root.

    What differs between machines and is not a result is left out: times of cells, versions and messages on stderr.
    """
    notebook = read(name)
    resources = {"metadata": {"path": str(FOLDER.parent)}}
    NotebookClient(notebook, timeout=300, record_timing=False, coalesce_streams=True, resources=resources).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in code_cells(notebook):
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    """The cells that can have outputs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures(cell: Any) -> list[str]:
    """What a cell shows, line by line: its text as it is, and for a picture that there is one."""
    lines = []
    for output in cell.outputs:
        data = {"text/plain": output.text} if output.output_type == "stream" else output.get("data", {})
        lines += [PICTURE] if PICTURE in data else data.get("text/plain", output.output_type).splitlines()
    return lines


def differences(stored: Any, measured: Any) -> list[str]:
    """Each line that is stored but not measured again, or the reverse; cells with the tag `timing` aside."""
    return [
        f"{cell.id}: {line!r} is stored, {again!r} is measured"
        for cell, other in zip(code_cells(stored), code_cells(measured), strict=True)
        if "timing" not in cell.metadata.get("tags", ())
        for line, again in zip_longest(figures(cell), figures(other))
        if line != again
    ]


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        nbformat.write(execute(name), FOLDER / f"{name}.ipynb")
