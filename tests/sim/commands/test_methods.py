"""`python -m sim methods`: a mistake is one line, before anything is measured."""

import pytest

from sim.cli import main

pytest.importorskip("transformers", reason="the models are those of transformers")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["efficientqat", "--methods", "rounding", "RTN"], "--methods must be of Block-AP, "),
        (["efficientqat", "--models", "minilm"], "--models must hold a language model, char_lm or smollm2"),
        (["zeroquant", "--windows", "1"], "--windows must be in 2..4096, not 1"),
        (["zeroquant", "--seeds", "-1"], "--seeds must be in 0..2147483647, not -1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys) -> None:
    assert main(["methods", *arguments, "-o", str(tmp_path), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir())
