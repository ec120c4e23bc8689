"""A damaged dataset or coefficients' file is one line with its place, before anything is measured."""

import json

import pytest

from cost_model import cli
from cost_model.analytical.estimate import COEFFICIENTS
from cost_model.calibration import dataset
from cost_model.calibration.dataset import measured_records, read_dataset
from cost_model.netlist.synthesis import Flow

DATA = COEFFICIENTS.parent
NAME = "gate_equivalents"


def damaged(path, change):
    content = json.loads((DATA / path.name).read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_first(key, value):
    def change(content):
        content["libraries"][NAME][0][key] = value

    return change


DATASETS = {
    "libraries must be an object": lambda c: c.update(libraries=[]),
    f"libraries.{NAME} must be a list": lambda c: c["libraries"].update({NAME: {}}),
    f"libraries.{NAME}[0]: must have exactly the keys": lambda c: c["libraries"][NAME][0].pop("clock"),
    f"libraries.{NAME}[0].area must be a number": set_first("area", "large"),
    f"libraries.{NAME}[0].logic must be a number": set_first("logic", -1.0),
    f"libraries.{NAME}[0].clock must be a number": set_first("clock", True),
    f"libraries.{NAME}[0].area must be above 0": set_first("area", 0),
    f"libraries.{NAME}[0].point must be an object": set_first("point", [1]),
    f"libraries.{NAME}[0].point: unit must be one of": set_first("point", {"unit": "dragon"}),
    f"libraries.{NAME}[0].point: pwl: in_bits, stages must be given": set_first("point", {"unit": "pwl", "entries": 2}),
    f"libraries.{NAME}[0].point: ": set_first("point", {"unit": "pwl", "entries": "x", "in_bits": 8, "stages": 2}),
}
COEFFICIENT_FILES = {
    "libraries must be an object": lambda c: c.update(libraries=None),
    f"libraries must have {NAME}": lambda c: c["libraries"].pop(NAME),
    f"libraries.{NAME}.area must be an object of numbers": lambda c: c["libraries"][NAME].update(area={"x": "1"}),
    f"libraries.{NAME}.activity must have element": lambda c: c["libraries"][NAME]["activity"].pop("element"),
}


@pytest.mark.parametrize(
    ("name", "message"),
    [("dataset.json", m) for m in DATASETS] + [("coefficients.json", m) for m in COEFFICIENT_FILES],
)
def test_a_damaged_file_is_one_line(name, message, tmp_path, capsys):
    for other in ("dataset.json", "coefficients.json"):
        (tmp_path / other).write_text((DATA / other).read_text())
    damaged(tmp_path / name, (DATASETS if name == "dataset.json" else COEFFICIENT_FILES)[message])
    assert cli.main(["calibrate", "--held-out", "-o", str(tmp_path), "--cache", str(tmp_path / "cache")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / name}: {message}") and error.count("\n") == 1
    assert not (tmp_path / "held_out.json").exists()


def test_a_record_that_is_known_is_not_measured_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "measured_record", lambda point, *_, **__: {"point": point})
    known = read_dataset(DATA / "held_out.json")[NAME]
    points = [{"unit": "pwl"}, known[3]["point"], known[0]["point"]]
    assert measured_records(points, Flow(), tmp_path, known) == [{"point": points[0]}, known[3], known[0]]


def test_a_file_that_is_no_json_is_one_line(tmp_path, capsys):
    for name in ("dataset.json", "coefficients.json"):
        (tmp_path / name).write_text("{")
    assert cli.main(["calibrate", "--held-out", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
