"""`python -m sim convert, run and evaluate` on a language model."""

import json

import pytest
import torch

pytest.importorskip("transformers", reason="the model is one of transformers")

from safetensors.torch import load_file

from sim.cli import main
from sim.network import packed
from sim.network.rotation import rotated
from sim.workloads import language
from tests.sim.network.language_models import language_checkpoint, language_model

TEXT = "the first of the lines\nand another one\na third, which is longer than the others\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("language")
    language_checkpoint(path / "model")
    (path / "text.txt").write_text(TEXT)
    return path


@pytest.mark.parametrize("options", [[], ["--rotate"]], ids=["plain", "rotated"])
def test_a_folder_of_a_language_model_converts_and_runs_without_floating_point(folder, options, capsys):
    data = ["--data", str(folder / "text.txt"), "--sequence-length", "32"]
    target = folder / f"network{len(options)}"
    model = str(folder / "model")
    assert main(["convert", model, *data, *options, "--no-report", "--json", "-o", str(target)]) == 0
    kinds = {row["kind"] for row in json.loads(capsys.readouterr().out)}
    assert {"rope", "token-scores", "token-context", "product", "norm"} <= kinds
    assert main(["run", str(target), *data, "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["integer_only"]
    assert (target / "head.safetensors").exists() == bool(options)
    if options:
        ids = torch.tensor([list(TEXT[:20].encode())])
        head = load_file(target / "head.safetensors")["lm_head.weight"]
        with torch.no_grad():
            expected = rotated(language_model("LlamaForCausalLM", vocab_size=256))(input_ids=ids).logits
            got = packed.load(target)(input_ids=ids).last_hidden_state @ head.T
        assert float((got - expected).square().mean() / expected.square().mean()) < 0.02


def test_the_evaluation_is_a_file_of_results(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(language, "brown", lambda split: TEXT * (30 if split == "test" else 20))
    monkeypatch.setattr("sim.workloads.variants.METHODS", (("genetic", 8),))
    arguments = ["evaluate", "language", "--model", str(folder / "model"), "--windows", "2", "--calibration", "1"]
    arguments += ["--length", "32", "--group", "16"]
    assert main([*arguments, "--quick", "-o", str(tmp_path), "--run", str(tmp_path / "run"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in rows] == ["exact", "genetic"]
    assert json.loads((tmp_path / "language.json").read_text())["rows"] == rows
    assert main(["evaluate", "language", "--windows", "1"]) == 2
    assert "windows must be in 2..10000, not 1" in capsys.readouterr().err
