"""A file of explored points is read as a whole: what is missing, of another type or of another point is one line."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cost_model.explore.network_subjects import subject_from
from cost_model.explore.points_file import read_points
from sim.common.files import description_sha256
from sim.reference import InputError

STORED = Path(__file__).parents[3] / "results" / "explore_char_lm.json"


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """Two points of the stored file."""
    found = json.loads(STORED.read_text())
    return {**found, "rows": found["rows"][:2]}


def written(folder: Path, content: dict[str, Any]) -> Path:
    """The content in a file, with its own hash."""
    path = folder / "points.json"
    path.write_text(json.dumps({**content, "sha256": description_sha256(content)}))
    return path


def test_the_stored_points_are_read() -> None:
    assert len(read_points(STORED)["rows"]) > 100


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda x: x.update(rows=5), "rows must be a list"),
        (lambda x: x.update(rows=[]), "rows must hold a point"),
        (lambda x: x.update(rows=["a"]), r"rows\[0\] must be an object"),
        (lambda x: x.update(search=[]), "must come from python -m cost_model explore network"),
        (lambda x: x["search"].update(subject="char_lm"), "must come from python -m cost_model explore network"),
        (lambda x: x["search"]["subject"].pop("texts"), "search.subject must have texts"),
        (lambda x: x.update(objectives="error_nats"), "objectives must be names of columns"),
        (lambda x: x.update(command=None), "command must be a text"),
        *(
            (lambda x, key=key: x["rows"][1].pop(key), rf"rows\[1\].* must have {key}")
            for key in ("point", "refused", "packed_sha256", "on_front", "label", "area_mm2", "depth")
        ),
        (lambda x: x["rows"][1].update(area_mm2="1"), r"rows\[1\].area_mm2 must be a number or null"),
        (lambda x: x["rows"][1].update(attention=5), r"rows\[1\]: a format must look like w8a8"),
        (lambda x: x["rows"][1].update(two_pass="yes"), r"rows\[1\]: two_pass must be true or false"),
        (lambda x: x["rows"][1].update(depth=10**9), r"rows\[1\]: depth must be in"),
        (lambda x: x["rows"][1].update(tokens=129), r"rows\[1\].point must be .* for its fields, not"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(
    change: Callable[[dict[str, Any]], object], line: str, content: dict[str, Any], tmp_path: Path
) -> None:
    damaged = copy.deepcopy(content)
    change(damaged)
    with pytest.raises(InputError, match=f"points.json: {line}"):
        read_points(written(tmp_path, damaged))


@pytest.mark.parametrize(
    ("name", "value"), [("length", -1), ("calibration", 0), ("texts", 1), ("seed", "../x"), ("steps", 0), ("width", 8)]
)
def test_a_subject_has_fields_of_its_own_in_their_ranges(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        subject_from({"name": "char_lm", name: value})
