"""`explore network` writes what its options ask for, and a mistake is one line and exit code 2."""

import json
from pathlib import Path

import pytest

from cost_model import cli
from cost_model.explore import network_subjects
from sim.common.results import read_results, write_results
from tests.cost_model.explore.toy import SPACE, Toy

ONE = {name: list(axis[:1]) for name, axis in SPACE.axes.items()}


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of one network on two machines; the toy is a known model."""
    monkeypatch.setitem(network_subjects.SUBJECTS, "toy", Toy)
    path = tmp_path / "space.json"
    path.write_text(json.dumps({**ONE, "columns": [4, 8]}))
    return path


@pytest.mark.slow
def test_rows_go_to_every_file_and_to_stdout(space, tmp_path, capsys) -> None:
    pytest.importorskip("pyarrow", reason="the extra explore has pandas and pyarrow")
    files = [tmp_path / f"points.{suffix}" for suffix in ("json", "parquet", "html", "png")]
    command = ["explore", "network", "toy", "--space", str(space), "--method", "exhaustive", "--texts", "4"]
    command += ["--objectives", "error", "area", "--run", str(tmp_path / "run")]
    outputs = [part for file in files for part in ("-o", str(file))]
    assert cli.main([*command, *outputs, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    content = read_results(files[0])
    assert content["rows"] == rows and len(rows) == 5  # the papers' four, of which one is in the space, and one more
    assert content["objectives"] == ["error_cosine", "area_mm2"] and str(tmp_path) not in files[0].read_text()
    assert content["command"] == (
        "python -m cost_model explore network toy --space FILE.json --method exhaustive --points 256 --texts 4 "
        "--objectives error area"
    )
    assert content["search"]["subject"] == {"name": "toy", "texts": 4}
    page = files[2].read_text()
    assert "build points.json#POINT -o build/POINT" in page and all(row["point"] in page for row in rows)
    before = [file.read_bytes() for file in files]
    for k in (1, 2, 3):  # the same again, of the file of results alone
        assert (
            cli.main(["explore", "report", str(files[0]), "-o", str(again := tmp_path / f"again{files[k].suffix}")])
            == 0
        )
        assert again.read_bytes() == before[k]
    assert cli.main([*command, *outputs, "--resume"]) == 0
    assert [file.read_bytes() for file in files] == before  # nothing is measured again, nothing holds a time
    shown = capsys.readouterr().out
    assert "W8A8" in shown and f"5 points, {sum(row['on_front'] for row in rows)} of them on the front." in shown


def test_a_report_of_another_file_is_one_line(tmp_path, capsys) -> None:
    write_results(tmp_path / "other.json", "a command", [])
    for output, line in (("a.html", "must come from python -m cost_model explore network"), ("a.json", "-o must end")):
        assert cli.main(["explore", "report", str(tmp_path / "other.json"), "-o", output]) == 2
        assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["mini"], "model must be one of"),
        (["toy", "-o", "rows.csv"], "-o must end in .json, .parquet, .html, .png, not rows.csv"),
        (["toy", "--backend", "dask"], "--backend dask and --scheduler ADDRESS must be given together"),
        (["toy", "--scheduler", "tcp://here:1"], "must be given together"),
        (["toy", "--texts", "1"], "--texts must be in 2..10000, not 1"),
        (["toy", "--points", "0"], "points must be in"),
        (["toy", "--objectives", "beauty"], "objectives must be of error, energy, area, latency, memory, not 'beauty'"),
        (["toy", "--space", "none"], "none: cannot be read"),
        (["toy", "--jobs", "0"], "jobs must be in 1..1024, not 0"),
    ],
)
def test_a_mistake_is_one_line(options, line, space, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explore", "network", *options, "--run", "run"]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
    assert not list(tmp_path.glob("run/units/*"))
