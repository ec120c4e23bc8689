"""The command prints the paper's figures, solves for what is left out, and refuses in one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from quant.cli import main
from quant.methods.scaling_law import sweep as sweeps
from quant.methods.scaling_law.training import Size
from quant.zoo import char_lm
from sim.common.results import read_results
from tests.quant.models import llama_folder


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["scaling-law", "predict", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_predict_has_one_row_for_each_combination(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "--scheme", "w4a4", "w16a4", "-N", "595e6", "-D", "100e9", "-G", "32", "256")
    assert [(row["scheme"], row["group"], round(row["delta_nats"], 4)) for row in found] == [
        ("w4a4", 32, 0.0441), ("w4a4", 256, 0.0635), ("w16a4", 32, 0.0287), ("w16a4", 256, 0.0456),
    ]  # fmt: skip


def test_what_is_left_out_is_solved_for_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = rows(capsys, "--scheme", "w4a4", "-D", "100e9", "-G", "32", "--loss", "2.5")
    assert row["loss_nats"] == pytest.approx(2.5)
    (row,) = rows(capsys, "--scheme", "w4a4", "--memory", "1e9", "-D", "100e9", "-G", "32")
    assert row["parameters"] == pytest.approx(8e9 / 4.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--scheme", "w5"], "scheme must be one of"),
        (["predict", "-N", "1e9"], "give -N (or --memory), -D and -G"),
        (["predict", "-N", "1e9", "--loss", "2"], "--loss needs two of -N, -D and -G"),
        (["predict", "-N", "1e9", "--memory", "1e9", "-D", "1e9", "-G", "32"], "--memory and -N contradict"),
        (["predict", "--memory", "1e9", "-D", "1e9", "--loss", "3"], "--memory needs -G"),
        (["run", "-o", "sweep", "--device", "gpu7"], "--device must be a device that torch has here, not 'gpu7'"),
        (["run", "-o", "sweep", "--schemes", "w4a5"], "scheme must be one of w16a16, w4a4"),
        (["run", "-o", "sweep", "--sizes", "128"], "--sizes must be of the form 128x2, not '128'"),
        (["run", "-o", "sweep", "--groups", "1"], "group must be 0 (a whole row) or at least 2, not 1"),
        (["fit", "missing.csv"], "missing.csv: not a CSV file that can be read"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scaling-law", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_part_of_a_grid_goes_on_with_the_runs_of_another_and_its_rows_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="the models are those of transformers")
    generator = torch.Generator().manual_seed(0)
    texts = sweeps.Texts(*(torch.randint(97, 105, (n,), generator=generator) for n in (4096, 512, 512)))
    grid = sweeps.Grid((Size(32, 1),), (1024,), (8, 16), ("w4a4", "w4a16"), (0,), (3e-3,), 32, 8)
    monkeypatch.setitem(sweeps.GRIDS, "tiny", grid)
    monkeypatch.setattr(sweeps, "texts_of", lambda name: texts)
    command, path = ["scaling-law", "run", "-o", str(tmp_path / "sweep"), "--json"], tmp_path / "kept" / "rows.json"
    found = []
    for part in (["--sizes", "32x1", "--schemes", "w4a4", "--groups", "16"], ["--groups", "16"]):
        assert main([*command, *part, "--results", str(path)]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [(row["scheme"], row["group"]) for row in found[1]] == [("w4a4", 16), ("w4a16", 16)]
    assert found[1][:1] == found[0]
    kept = read_results(path)
    assert kept["rows"] == found[1] and kept["command"].endswith("run --grid tiny --groups 16")


def test_without_scipy_a_fit_names_the_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{n},{d},{g},0.1" for n in (100, 200) for d in (1000, 2000) for g in (16, 32)]
    (tmp_path / "runs.csv").write_text("\n".join(["parameters,tokens,group,delta", *rows]) + "\n")
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert main(["scaling-law", "fit", str(tmp_path / "runs.csv")]) == 2
    error = capsys.readouterr().err
    assert "bitwright[scaling-law]" in error and error.count("\n") == 1


def test_tokens_are_diagnosed_without_a_tokeniser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="the checkpoint is one of transformers")
    llama_folder(tmp_path, torch.float32)
    np.savez(tmp_path / "data.npz", input_ids=np.random.default_rng(0).integers(32, size=(4, 8)))
    given = ["--data", str(tmp_path / "data.npz"), "-G", "0", "--json"]
    assert main(["scaling-law", "diagnose", str(tmp_path), *given]) == 0
    assert {row["kind"] for row in json.loads(capsys.readouterr().out)["kinds"]} >= {"q_proj", "down_proj"}


def test_a_diagnosis_measures_its_plan_beside_4_and_8_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers", reason="the checkpoint is one of transformers")
    recipe = char_lm.Recipe(width=32, layers=1, heads=2, key_heads=1, hidden=64, context=32, batch=2, steps=1)
    char_lm.train(recipe, torch.arange(256), tmp_path / "model", progress=False)
    (tmp_path / "text").write_text("the cat sat on the mat and the dog ran away. " * 8)
    given = ["--data", str(tmp_path / "text"), "-G", "16", "--samples", "4", "--sequence-length", "16"]
    given += ["--evaluate", str(tmp_path / "text"), "--windows", "4", "--results", str(tmp_path / "diagnose.json")]
    assert main(["scaling-law", "diagnose", str(tmp_path / "model"), *given]) == 0
    rows = read_results(tmp_path / "diagnose.json")["rows"]
    plans = {row["plan"]: row["loss"] for row in rows if row["table"] == "plans"}
    assert list(plans) == ["floating point", "W4A4", "mixed", "W4A8"]
    assert len(set(plans.values())) == 4
    assert {row["table"] for row in rows} == {"kinds", "layers", "plans"}
