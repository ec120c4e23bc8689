"""Whole files or none, and one-line refusals."""

import json
import os
import subprocess
import sys

import pytest

from sim.common.files import (
    checked_description,
    content_sha256,
    description_sha256,
    locked,
    read_json,
    read_text,
    write_whole,
)
from sim.reference import InputError


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    path = write_whole(tmp_path / "deep" / "a.txt", "one")
    assert write_whole(path, b"two").read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_write_removes_what_a_killed_run_has_left_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".a.txt.{dead.pid}.partial", f".a.txt.{os.getppid()}.partial", f".b.txt.{dead.pid}.partial"):
        (tmp_path / name).write_text("half")
    write_whole(tmp_path / "a.txt", "one")
    left = {f".a.txt.{os.getppid()}.partial", f".b.txt.{dead.pid}.partial", "a.txt"}
    assert {p.name for p in tmp_path.iterdir()} == left


def test_a_folder_is_one_runs_at_a_time(tmp_path):
    code = f"from pathlib import Path; from sim.common.files import locked\nwith locked(Path({str(tmp_path)!r})): pass"
    with locked(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another run is writing here" in other.stderr
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.txt", "old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["file/below.txt", "x" * 300])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / name, "x")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path / "none")


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_not_a_regular_file_is_refused_before_it_is_opened(kind, tmp_path):
    os.mkfifo(tmp_path / "a") if kind == "pipe" else (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="a: must be a regular file"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "cannot be read"),
        ("{", r"not valid JSON \(Expecting"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": 1, "a": 2}', "not valid JSON .duplicate key 'a'"),
    ],
)
def test_a_json_that_is_missing_or_not_valid_is_one_line(text, message, tmp_path):
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json: {message}"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    "change, message",
    [
        ({}, None),
        ({"format": "other"}, 'format must be "f"'),
        ({"version": 2}, "version must be 1, not 2"),
        ({"more": 0}, "keys must be format, version, sha256; unknown or missing: more"),
        ({"sha256": "0"}, "corrupted: its own SHA-256 is not the one it names"),
    ],
)
def test_a_description_is_refused_by_what_is_wrong_with_it(change, message, tmp_path):
    content = {"format": "f", "version": 1}
    content |= {"sha256": description_sha256(content)} | change
    path = write_whole(tmp_path / "a.json", json.dumps(content))
    if message is None:
        assert checked_description(path, "f", 1, ("format", "version", "sha256")) == content
    else:
        with pytest.raises(InputError, match=message):
            checked_description(path, "f", 1, ("format", "version", "sha256"))


def test_the_hash_of_a_folder_is_that_of_its_files_and_their_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(b"123")
    assert content_sha256(tmp_path / "a") == content_sha256(tmp_path / "b")
    (tmp_path / "b" / "model.bin").write_bytes(b"124")
    assert content_sha256(tmp_path / "a") != content_sha256(tmp_path / "b")
    (tmp_path / "b" / "model.bin").write_bytes(b"123")
    (tmp_path / "b" / "model.bin").rename(tmp_path / "b" / "other.bin")
    assert content_sha256(tmp_path / "a") != content_sha256(tmp_path / "b")
    with pytest.raises(InputError, match="nothing: cannot be read"):
        content_sha256(tmp_path / "nothing")
