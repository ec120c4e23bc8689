"""A point becomes a folder that passes on its own, in plain Icarus and in the regression; nothing is half-written."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from cost_model import cli
from cost_model.commands.build import ordered
from cost_model.explore import network_subjects
from cost_model.explore.front import mark
from cost_model.explore.network import Task, evaluate
from cost_model.explore.network_space import NetworkPoint
from cost_model.handover import build as module
from cost_model.handover.build import Order, build
from sim import cli as sim
from sim.common.files import description_sha256, locked
from sim.common.results import write_results
from sim.cosim import handover
from sim.reference import InputError
from tests.cost_model.explore.toy import Toy

POINT = NetworkPoint("w4g16a8", rows=4, columns=4, depth=16, tokens=12)
SEARCH = {"subject": {"name": "toy", "texts": 8}}
OBJECTIVES = ["error_cosine", "area_mm2"]


def results(folder: Path, **changes: object) -> Path:
    """A file of results with one point."""
    rows = [{**row, "label": None, **changes} for row in evaluate(Task(Toy(), (POINT,)))]
    write_results(folder / "points.json", "a command", mark(rows, OBJECTIVES), search=SEARCH, objectives=OBJECTIVES)
    return folder / "points.json"


@pytest.mark.slow
def test_a_point_becomes_a_folder_that_passes_on_its_own(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(network_subjects.SUBJECTS, "toy", Toy)
    file, folder = results(tmp_path), tmp_path / "out" / "point"
    assert cli.main(["build", f"{file}#{POINT.digest}", "-o", str(folder)]) == 0
    assert json.loads((folder / "cost.json").read_text())["figures"]["area_mm2"] > 0
    rows = json.loads((folder / "regress.json").read_text())
    assert rows and {row["mismatches"] for row in rows} == {0}
    manifest = handover.read_manifest(folder)
    packed = json.loads((folder / "packed" / "packed.json").read_text())["sha256"]
    assert packed == json.loads(file.read_text())["rows"][0]["packed_sha256"]
    bench = subprocess.run(["sh", folder / "run.sh"], capture_output=True, text=True, check=True)
    assert bench.stdout.count("PASS") == len(manifest["sets"])
    capsys.readouterr()
    assert sim.main(["regress", "--from", str(folder), "--simulator", "icarus", "--unit", "pwl", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {row["set"] for row in again} == {"toy-gelu", "toy-exp"}
    second = tmp_path / "second"
    assert cli.main(["build", f"{file}#{POINT.digest}", "-o", str(second)]) == 0
    assert (second / handover.MANIFEST).read_bytes() == (folder / handover.MANIFEST).read_bytes()
    (folder / "rtl" / "toy_gelu.v").write_text("module toy_gelu; endmodule")
    with pytest.raises(InputError, match=r"toy_gelu\.v: its SHA-256 is not the one"):
        handover.sets_of(folder)
    assert list(tmp_path.glob("**/.*.partial")) == []


def test_a_folder_that_is_not_empty_or_other_integers_leave_everything_as_it_was(tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="full: must be missing or empty"):
        build(Order(Toy(), POINT), tmp_path / "full")
    with pytest.raises(InputError, match="has other integers here"):
        build(Order(Toy(), POINT, "0" * 64), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_folder_that_is_filled_takes_its_place_and_one_that_failed_leaves_nothing(tmp_path, monkeypatch) -> None:
    good = {"mismatches": 0, "problem": None, "vectors": 1}
    for name, rows in (("good", [good]), ("bad", [{**good, "mismatches": 1}])):
        monkeypatch.setattr(module, "_fill", lambda order, folder, *_, rows=rows: (folder / "a").touch() or rows)
        assert build(Order(Toy(), POINT), tmp_path / "new" / name) == rows
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "new",
        "new/good",
        "new/good/a",
    ]


def test_what_is_ordered_must_be_a_measured_point(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(network_subjects.SUBJECTS, "toy", Toy)
    file = results(tmp_path)
    order = ordered(f"{file}#{POINT.digest}")
    assert (order.subject, order.point) == (Toy(), POINT) and order.packed_sha256 is not None
    for text, line in ((str(file), "point must be FILE#POINT"), (f"{file}#0", "must hold the point 0")):
        with pytest.raises(InputError, match=line):
            ordered(text)
    write_results(tmp_path / "other.json", "a command", [])
    with pytest.raises(InputError, match="must come from python -m cost_model explore network"):
        ordered(f"{tmp_path / 'other.json'}#0")
    refused = results(tmp_path, refused="too wide")
    with pytest.raises(InputError, match="was refused: too wide"):
        ordered(f"{refused}#{POINT.digest}")


def test_a_manifest_names_a_file_that_is_missing_changed_or_too_many(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    handover.write_manifest(tmp_path, {"point": "p"}, {})
    assert handover.read_manifest(tmp_path)["files"].keys() == {"sub/a"} and handover.sets_of(tmp_path) == []
    (tmp_path / "b").touch()
    with pytest.raises(InputError, match=r"b is not in manifest\.json"):
        handover.read_manifest(tmp_path)
    (tmp_path / "b").unlink()
    (tmp_path / "sub" / "a").write_text("2")
    with pytest.raises(InputError, match="a: its SHA-256 is not the one"):
        handover.read_manifest(tmp_path)
    shutil.rmtree(tmp_path / "sub")
    with pytest.raises(InputError, match="sub/a is not in the folder"):
        handover.read_manifest(tmp_path)


@pytest.mark.parametrize("sets", [{"../a": "b"}, {"a": "../b"}, {"a": "/b"}, {"a": 1}, ["a"], {"a": "b\n"}])
def test_a_manifest_can_name_files_of_its_own_folder_alone(sets, tmp_path) -> None:
    folder = tmp_path / "folder"
    for name in ("vectors/a.json", "b"):
        for path in (folder / name, tmp_path / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    handover.write_manifest(folder, {"point": "p"}, {"a": "b"})
    content = handover.read_manifest(folder)
    content = {**content, "sets": sets}
    (folder / handover.MANIFEST).write_text(json.dumps({**content, "sha256": description_sha256(content)}))
    with pytest.raises(InputError, match=r"manifest\.json: sets"):
        handover.read_manifest(folder)


def test_a_folder_that_another_run_makes_is_refused_and_what_a_killed_one_left_is_removed(tmp_path) -> None:
    staging = tmp_path / ".new.partial"
    with locked(staging), pytest.raises(InputError, match="another run is writing here"):
        build(Order(Toy(), POINT), tmp_path / "new")
    (staging / "left").mkdir(parents=True)
    with pytest.raises(InputError, match="has other integers here"):
        build(Order(Toy(), POINT, "0" * 64), tmp_path / "new")
    assert not list(tmp_path.iterdir())
