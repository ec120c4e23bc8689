"""Files of results say what measured them, and a changed character of them is noticed."""

import json

import pytest

from sim.common import results
from sim.common.errors import InputError
from sim.common.files import description_sha256, locked
from sim.common.results import read_results, write_results


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "speed.json"
    write_results(path, "python -m speed", [{"speed": 1.5}], ("numpy", "no-such-package"), limit=2)
    return path


def test_the_records_come_back_with_their_origin(written):
    content = read_results(written)
    assert content["rows"] == [{"speed": 1.5}] and content["limit"] == 2 and content["command"] == "python -m speed"
    assert content["versions"].keys() == {"python", "bitwright", "numpy", "no-such-package"}
    assert content["versions"]["numpy"] and content["versions"]["no-such-package"] is None
    assert content["machine"]["cores"] >= 1


def test_any_changed_digit_or_key_is_noticed(written):
    text = written.read_text()
    places = [k for k, c in enumerate(text) if c.isdigit()]
    for k in places:
        written.write_text(text[:k] + str((int(text[k]) + 1) % 10) + text[k + 1 :])
        with pytest.raises(InputError, match=r"speed\.json: (corrupted|format must be)"):
            read_results(written)
    content = json.loads(text)
    for key in content:
        written.write_text(json.dumps({other: value for other, value in content.items() if other != key}))
        with pytest.raises(InputError, match=r"speed\.json: (corrupted|format must be)"):
            read_results(written)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "bitwright-results", "version": 2}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r'x\.json: format must be "bitwright-results" and version 1'):
        read_results(tmp_path / "x.json")


@pytest.mark.parametrize(("change", "line"), [({"rows": 5}, "rows must be a list"), ({"x": float("inf")}, "finite")])
def test_content_that_is_never_written_is_refused_even_with_its_hash(change, line, written):
    content = json.loads(written.read_text()) | change
    written.write_text(json.dumps({**content, "sha256": description_sha256(content)}))
    with pytest.raises(InputError, match=rf"speed\.json: .*{line}"):
        read_results(written)


def test_a_folder_that_another_run_holds_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PATIENCE", 0)
    with locked(tmp_path), pytest.raises(InputError, match="another run is writing here"):
        write_results(tmp_path / "x.json", "python -m speed", [])
    assert not (tmp_path / "x.json").exists()


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError):
        write_results(tmp_path / "x.json", "python -m speed", [{"speed": float("nan")}])
    assert not list(tmp_path.iterdir())
