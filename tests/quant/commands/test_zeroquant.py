"""`python -m quant zeroquant`: a packed folder, resumed to the same bytes; mistakes are one line."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant.cli import main
from quant.methods.distillation import Distillation
from quant.methods.zeroquant import Scheme, zeroquant
from tests.quant.models import bert_folder, llama_folder

transformers = pytest.importorskip("transformers", reason="the checkpoints are those of transformers")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    llama_folder(folder, torch.float32)
    return folder


def test_the_command_writes_what_the_function_makes(tmp_path: Path, capsys: Any) -> None:
    model = bert_folder(tmp_path / "bert")
    data = tmp_path / "text.txt"
    data.write_text("the cat sat on the mat\na red dog ran over the mat\n" * 4)
    options = [str(tmp_path / "bert"), "--weights", "3/8", "--groups", "2", "--data", str(data), "--batch-size", "4"]
    distilled = ["--lkd", "--preset", "small", "--steps", "3"]
    assert main(["zeroquant", *options, *distilled, "--json", "-o", str(tmp_path / "packed")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["module"].split(".")[0] for row in rows} == {"encoder"}
    assert {(row["weight_bits"], "attention" in row["module"]) for row in rows} == {(3, False), (8, True)}
    loaded = quant.calibration.load(
        data, quant.Sampling(1024, 128, 4), quant.calibration.tokeniser_of(tmp_path / "bert", 128)
    )
    made = zeroquant(model, loaded, Scheme("3/8", groups=2), Distillation(3, (1e-4,)))
    packed = quant.from_pretrained(tmp_path / "packed")
    assert all(torch.equal(tensor, packed.state_dict()[name]) for name, tensor in made.state_dict().items())


def test_an_interrupted_command_resumes_to_the_same_bytes(
    llama: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    options = ["zeroquant", str(llama), "--groups", "2", "--lkd", "--data", "random", "--samples", "8", "--steps", "2"]
    assert main([*options, "-o", str(tmp_path / "whole")]) == 0
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr("quant.quantize_folder.write_model", _interrupt)
        assert main([*options, "-o", str(broken)]) == 130
    assert not (broken / "packed.json").exists()
    assert main([*options, "--seed", "1", "--resume", "-o", str(broken)]) == 2
    assert "cannot resume, random.seed was 0, not 1" in capsys.readouterr().err
    monkeypatch.setattr(Distillation, "__call__", _interrupt)  # the block is not distilled again
    assert main([*options, "--resume", "-o", str(broken)]) == 0
    for path in (tmp_path / "whole").iterdir():
        if path.is_file():
            assert path.read_bytes() == (broken / path.name).read_bytes()


@pytest.mark.parametrize("changed", [["--samples", "4"], ["--sequence-length", "16"], ["--seed", "1"]])
def test_drawn_data_are_never_mixed_with_others(
    llama: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, changed: list[str]
) -> None:
    options = ["zeroquant", str(llama), "--groups", "2", "--static", "--data", "random", "--samples", "8"]
    monkeypatch.setattr("quant.quantize_folder.write_model", _interrupt)
    assert main([*options, "-o", str(tmp_path / "broken")]) == 130
    assert main([*options, *changed, "--resume", "-o", str(tmp_path / "broken")]) == 2
    assert "cannot resume, random." in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--static"], ["--lkd", "--steps", "1"], ["--static", "--lkd", "--steps", "1"], []]
)  # fmt: skip
def test_the_progress_bar_fills(llama: Path, tmp_path: Path, monkeypatch: Any, options: list[str]) -> None:
    totals, done = [], []

    class Bar(contextlib.nullcontext):
        def __init__(self, total: int, **_: Any) -> None:
            totals.append(total)
            super().__init__(self)

        def set_postfix_str(self, *_: Any, **__: Any) -> None: ...

        def update(self) -> None:
            done.append(1)

    monkeypatch.setattr("quant.quantize_folder.tqdm", Bar)
    data = ["--data", "random", "--samples", "8", "--batch-size", "3"] if options else []
    assert main(["zeroquant", str(llama), "--groups", "2", *data, *options, "-o", str(tmp_path / "out")]) == 0
    assert totals == [len(done)]


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "5"], "weights must be one of 8, 4/8, 4, 3/8, 3, not '5'"),
        (["--activations", "3"], "activations must be 4 or 8, not 3"),
        (["--groups", "7"], "row_groups must divide the 32 outputs, not 7"),
        (["--lkd"], "--lkd needs --data"),
        (["--static", "--groups", "2"], "data must be given"),
        (["--skip", ".*", "--groups", "2"], "every layer is skipped"),
        (["--lkd", "--data", "random", "--rates", "2"], "rates must be in 0..1"),
        (["--rates", "1e-4"], "--rates needs --lkd"),
        (["--steps", "3"], "--steps needs --lkd"),
        (["--preset", "small"], "--preset needs --lkd"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    llama: Path, tmp_path: Path, capsys: Any, options: list, message: str
) -> None:
    assert main(["zeroquant", str(llama), *options, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_truncated_checkpoint_is_one_line(llama: Path, tmp_path: Path, capsys: Any) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in llama.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[: len(data) // 2] if path.suffix == ".safetensors" else data)
    assert main(["zeroquant", str(broken), "--groups", "2", "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
