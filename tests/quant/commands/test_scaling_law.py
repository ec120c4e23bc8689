"""The command prints the paper's figures, solves for what is left out, and refuses in one line."""

import json
from pathlib import Path

import pytest

from quant.cli import main


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
