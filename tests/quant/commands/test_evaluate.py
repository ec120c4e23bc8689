"""`python -m quant evaluate` on folders in floating point, quantised in memory, and packed."""

import json
from pathlib import Path

import pytest
import torch

from quant.cli import main
from quant.plan import Plan
from tests.quant.models import WORDS, bert_folder, folder_of, made

pytest.importorskip("transformers", reason="checkpoint folders are read with transformers (the extra transformers)")
TEXT = "the cat sat on the mat\na red dog ran over the blue mat\n" * 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small Llama with a tokeniser of words that begins every text with a token of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("llama")
    folder_of("LlamaForCausalLM", path)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", WORDS.index("[CLS]"))])
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="[CLS]", unk_token="[UNK]").save_pretrained(path)
    (path / "text.txt").write_text(TEXT)
    return path


def evaluated(capsys, *argv: object) -> dict:
    assert main(["evaluate", *map(str, argv), "--samples", "5", "--sequence-length", "16", "--json"]) == 0
    return json.loads(capsys.readouterr().out)[0]


def test_a_model_is_measured_in_floating_point_and_quantised_in_memory_and_packed_alike(folder, tmp_path, capsys):
    plan = Plan.uniform(weight_bits=4, activation_granularity="token").save(tmp_path / "plan.json")
    real = evaluated(capsys, folder, "--data", folder / "text.txt")
    assert main(["quantize", str(folder), "--plan", str(plan), "-o", str(tmp_path / "packed")]) == 0
    capsys.readouterr()
    quantised = evaluated(capsys, folder, "--data", folder / "text.txt", "--plan", plan)
    packed = evaluated(capsys, tmp_path / "packed", "--data", folder / "text.txt")
    assert [row["weights"] for row in (real, quantised, packed)] == ["floating point", "quantised", "packed"]
    assert quantised["loss"] == packed["loss"] != real["loss"] and real["tokens"] == packed["tokens"] > 0
    ids = [WORDS.index(word) for word in TEXT.split()]
    with torch.no_grad():
        scores = made("LlamaForCausalLM")(torch.tensor([[2, *ids[:16]]])).logits[0, 1:-1].log_softmax(-1)
    whole = main(["evaluate", str(folder), "--data", str(folder / "text.txt"), "--samples", "0", "--json",
                  "--sequence-length", "16", "--stride", "15"])  # fmt: skip
    assert whole == 0 and json.loads(capsys.readouterr().out)[0]["tokens"] == len(ids) - 1
    (tmp_path / "short.txt").write_text(" ".join(TEXT.split()[:16]))
    short = evaluated(capsys, folder, "--data", tmp_path / "short.txt")
    assert short["loss"] == pytest.approx(-float(scores[range(15), ids[1:16]].mean()), abs=1e-5)


def test_what_the_weights_were_is_said(folder, tmp_path, capsys):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    origin = {"format": "gguf", "rows": [], "bits": 4, "group_size": 32}
    (tmp_path / "config.json").write_text(json.dumps(config | {"weights_origin": origin}))
    assert evaluated(capsys, tmp_path, "--data", folder / "text.txt")["weights_origin"] == origin
    for argv in (
        ("evaluate", tmp_path, "--data", folder / "text.txt", "--samples", 1),
        ("quantize", tmp_path, "--no-activations", "-o", tmp_path / "packed"),
        ("show", tmp_path / "packed"),
        ("evaluate", tmp_path / "packed", "--data", folder / "text.txt", "--samples", 1),
    ):
        assert main(list(map(str, argv))) == 0
        assert "weights came as 4 bit in groups of 32" in capsys.readouterr().err


def test_mistakes_are_one_line_and_exit_code_2(folder, tmp_path, capsys):
    bert_folder(tmp_path / "bert")
    (tmp_path / "one.txt").write_text("cat")
    text = folder / "text.txt"
    folder_of("GPT2LMHeadModel", tmp_path / "no tokeniser")
    capsys.readouterr()
    for argv, message in (
        ((tmp_path / "no tokeniser", "--data", text), "no tokeniser: has no tokeniser"),
        ((tmp_path / "bert", "--data", text), "must be a causal language model, not BertModel"),
        ((folder, "--data", tmp_path / "none.txt"), "none.txt: cannot be read"),
        ((folder, "--data", tmp_path / "one.txt"), "at least two tokens, not 1"),
        ((folder, "--data", text, "--sequence-length", 1), "sequence_length must be in 2"),
        ((folder, "--data", text, "--sequence-length", 65), "sequences must have at most 64 tokens"),
        ((folder, "--data", text, "--device", "gpu7"), "--device must be a device that torch has here, not 'gpu7'"),
        ((tmp_path, "--data", text), "has no tokeniser"),
    ):
        assert main(["evaluate", *map(str, argv)]) == 2
        err = capsys.readouterr().err
        assert message in err and len(err.strip().splitlines()) == 1
