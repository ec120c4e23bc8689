"""Run folders: the same bytes whatever the jobs, resumption, and one run at a time."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ga_search import sweep as module
from ga_search.config import FitConfig
from ga_search.sweep import Sweep
from sim.common.files import description_sha256, locked
from sim.reference import InputError, PwlTable

CONFIGS = tuple(FitConfig(f, n, in_bits=6, certificate=False) for f in ("gelu", "div") for n in (4, 8))


def tables(folder: Path) -> dict[str, bytes]:
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".json", ".png")}
    return {name: data for name, data in found.items() if not name.endswith(".row.json")}


def steady(rows: list[dict]) -> list[dict]:
    """Rows without what may differ between two runs."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "certificate_seconds", "table")} for row in rows]


def test_the_same_plan_gives_the_same_bytes_with_any_number_of_jobs(tmp_path):
    one = Sweep(CONFIGS, tmp_path / "one").run(jobs=1, resume=False)
    two = Sweep(CONFIGS, tmp_path / "two").run(jobs=2, resume=False)
    assert steady(one) == steady(two) and [r["entries"] for r in one] == [4, 8, 4, 8]
    assert tables(tmp_path / "one") == tables(tmp_path / "two") and len(tables(tmp_path / "one")) == 9
    for row in one:
        assert PwlTable.load(row["table"]).digest == row["sha256"]


def test_an_interrupted_sweep_resumes_with_what_is_missing_and_gives_the_same_rows(tmp_path, monkeypatch):
    whole = Sweep(CONFIGS, tmp_path / "whole", plots=False).run(1, False)
    real, done = module._fit_into, []

    def interrupted(config, *rest):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(config["function"])
        real(config, *rest)

    folder = tmp_path / "cut"
    monkeypatch.setattr(module, "_fit_into", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Sweep(CONFIGS, folder, plots=False).run(1, False)
    before = {p.name: p.read_bytes() for p in folder.glob("*.row.json")}
    assert len(before) == 2
    again = []
    monkeypatch.setattr(
        module, "_fit_into", lambda config, *rest: (again.append(config["entries"]), real(config, *rest))
    )
    rows = Sweep(CONFIGS, folder, plots=False).run(1, True)
    assert again == [4, 8]  # only div, the second function, was missing
    assert steady(rows) == steady(whole)
    assert all((folder / name).read_bytes() == data for name, data in before.items())
    assert tables(folder) == tables(tmp_path / "whole")


def test_without_resume_everything_is_done_again(tmp_path, monkeypatch):
    Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    count = []
    real = module._fit_into
    monkeypatch.setattr(module, "_fit_into", lambda *a: (count.append(1), real(*a)))
    Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    assert count == [1]


def test_resume_refuses_another_plan_and_names_the_key(tmp_path):
    Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    changed = FitConfig("gelu", 4, in_bits=6, certificate=False, seed=7)
    with pytest.raises(InputError, match="cannot resume, seed of gelu-4-genetic-6x8x8bit was 0, not 7"):
        Sweep((changed,), tmp_path, plots=False).run(1, True)
    more = Sweep(CONFIGS[:2], tmp_path, plots=False).run(1, True)  # a longer list does not change the plan
    assert len(more) == 2


def test_a_row_of_an_earlier_plan_is_not_taken_for_this_one(tmp_path):
    Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    Sweep(CONFIGS[2:3], tmp_path, plots=False).run(1, False)  # another run in between knows nothing of gelu
    with pytest.raises(InputError, match="cannot resume, seed of gelu-4-genetic-6x8x8bit was 0, not 7"):
        Sweep((dataclasses.replace(CONFIGS[0], seed=7),), tmp_path, plots=False).run(1, True)


def test_a_changed_function_under_the_same_name_is_another_plan(tmp_path, monkeypatch):
    config = FitConfig("numpy:arctan", 4, domain=(-3.0, 3.0), certificate=False)
    Sweep((config,), tmp_path, plots=False).run(1, False)
    monkeypatch.setattr(np, "arctan", np.sin)
    with pytest.raises(InputError, match="cannot resume, values_sha256 of numpy-arctan--3to3-4-genetic"):
        Sweep((config,), tmp_path, plots=False).run(1, True)


DAMAGES = [(end, damage) for end in ("json", "png", "row.json") for damage in ("gone", "garbage", "changed")][:-1]


@pytest.mark.parametrize("end, damage", DAMAGES)
def test_resume_does_again_what_is_gone_or_damaged(end, damage, tmp_path):
    [row] = Sweep(CONFIGS[:1], tmp_path).run(1, False)
    before = tables(tmp_path)
    path = tmp_path / f"gelu-4-genetic-6x8x8bit.{end}"
    if damage == "gone":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"{")
    else:
        path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    [again] = Sweep(CONFIGS[:1], tmp_path).run(1, True)
    assert steady([again]) == steady([row]) and tables(tmp_path) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"row": {"mse": float("nan")}},
        {"row": {"mse_full": float("inf")}},
        {"row": {"mse_full": "low"}},
        {"row": {"notes": 3}},
        {"files": 3},
        {"row": 3},
        {"files": ["ab"]},
    ],
    ids=str,
)
def test_resume_does_again_a_row_of_wrong_values_even_if_its_hash_is_right(changed, tmp_path, capsys):
    [row] = Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    path = tmp_path / "gelu-4-genetic-6x8x8bit.row.json"
    mark = json.loads(path.read_text())
    for key, value in changed.items():
        mark[key] = mark[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(mark | {"sha256": description_sha256(mark)}))
    [again] = Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, True)
    assert steady([again]) == steady([row]) and "fitted again" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '{"sha256": NaN}', "\x00"])
def test_resume_does_again_a_row_that_is_no_object(text, tmp_path):
    [row] = Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    (tmp_path / "gelu-4-genetic-6x8x8bit.row.json").write_text(text)
    assert steady(Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, True)) == steady([row])


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(InputError, match="another run is writing here"):
        Sweep(CONFIGS[:1], tmp_path).run(1, False)


def test_the_same_fit_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="gelu-4-genetic-6x8x8bit is given twice"):
        Sweep((CONFIGS[0], CONFIGS[0]), tmp_path)


def test_a_mistake_in_the_last_fit_writes_nothing(tmp_path):
    with pytest.raises(InputError):
        Sweep((CONFIGS[0], FitConfig("gelo", 8)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", [lambda t: t.replace('"mse": ', '"mse": 1'), lambda t: "[" * 100_000])
def test_an_altered_row_is_fitted_again(damage, tmp_path, capsys):
    [row] = Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, False)
    path = tmp_path / "gelu-4-genetic-6x8x8bit.row.json"
    path.write_text(damage(path.read_text()))
    [again] = Sweep(CONFIGS[:1], tmp_path, plots=False).run(1, True)
    assert steady([again]) == steady([row]) and "fitted again" in capsys.readouterr().err
