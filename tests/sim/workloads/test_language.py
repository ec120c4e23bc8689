"""The evaluation of a language model on a small Llama with random weights whose tokens are bytes."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the model is one of transformers")

from quant.run_directory import RunDirectory
from sim.reference import InputError
from sim.workloads import language, variants
from sim.workloads.language import Options, evaluate, figures, windows
from tests.sim.network.language_models import language_checkpoint, language_model

TEXT = "".join(f"Line {k} has some words, and then {k * k % 97} more of them.\n" for k in range(40))


def test_windows_follow_each_other_in_the_text_and_a_short_text_is_refused():
    found = windows("ab\ncd\nef\n", lambda text: list(text.encode()), 2, 4)
    assert bytes(found.flatten().tolist()) == b"ab\ncd\nef"
    with pytest.raises(InputError, match="windows must be at most 2 of 4 tokens, not 3"):
        windows("ab\ncd\nef\n", lambda text: list(text.encode()), 3, 4)


def test_the_intervals_are_paired_and_cover_the_rise():
    rng = np.random.default_rng(0)
    real = rng.normal(3, 1, 50)
    exact = real + rng.normal(0.02, 0.01, 50)
    row = figures(real, exact, exact + rng.normal(0.004, 0.002, 50), seed=0)
    assert row["over_exact_low"] < row["over_exact"] < row["over_exact_high"]
    assert row["over_exact"] == pytest.approx(0.4, abs=0.15) and row["over_fp32"] == pytest.approx(2.4, abs=0.5)
    assert row["over_exact_high"] - row["over_exact_low"] < 0.2  # although the windows differ by a nat
    assert figures(real, exact, exact, seed=0)["over_exact"] == 0


def test_an_evaluation_has_its_rows_resumes_and_tells_the_control_from_two_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(language, "brown", lambda split: TEXT if split == "test" else TEXT[::-1])
    monkeypatch.setattr(variants, "METHODS", (("genetic", 8), ("genetic", 2)))
    folder, options = language_checkpoint(tmp_path / "model"), Options(6, 24, 4, group=16, single=False, head=True)
    with RunDirectory.open(tmp_path / "run", {"a": 1}) as run:
        result = evaluate(str(folder), run, options)
    json.dumps(result, allow_nan=False)
    exact, ours, control, head = result["rows"]
    assert result["tokens"] == 144 and exact["over_exact"] == 0 and (ours["entries"], control["entries"]) == (8, 2)
    assert abs(math.log(exact["perplexity"] / result["fp32_perplexity"])) < 0.05
    assert abs(control["over_exact"]) > abs(ours["over_exact"])
    assert head["operation"] == "lm_head" and 0 < abs(head["over_exact"]) < 1
    with RunDirectory.open(tmp_path / "run", {"a": 1}, resume=True) as run:
        monkeypatch.setattr(language, "losses", None)  # nothing is left to do
        assert evaluate(str(folder), run, options) == result


@pytest.mark.parametrize("field, value", [("windows", 1), ("length", 1), ("calibration", 0)])
def test_options_that_measure_nothing_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field} must be in"):
        Options(**{field: value})


def test_ours_is_replaced_one_operation_at_a_time():
    names = [variant.name for variant in Options().chosen(("silu", "exp"))]
    assert names[0] == "exact-all" and "genetic-8-silu" in names and "nn-lut-8-silu" not in names
    assert len(names) == 1 + 5 + 2
    wide = [variant.name for variant in Options(single=False, wide=True).chosen(("silu", "exp"))]
    assert wide[-3:] == ["genetic-folded-8-all", "genetic-16-bit-8-all", "genetic-16-bit-16-all"]
    assert len(wide) == 1 + 5 + 3


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("BertForMaskedLM", Options(2, 24), "must be a causal language model with its head, not BertForMaskedLM"),
        ("GPT2LMHeadModel", Options(2, 24), "must be a language model of Llama's layout to be rotated"),
        ("LlamaForCausalLM", Options(2, 65), r"length must be in 2\.\.64, not 65"),
    ],
)
def test_a_model_that_cannot_be_measured_is_refused_before_any_work(kind, options, message, tmp_path, monkeypatch):
    if kind.startswith("Bert"):
        model = bert_with_a_head()
    else:
        model = language_model(kind)
    for name, value in {"load_model": [model], "tokeniser_of": None, "windows": None}.items():
        monkeypatch.setattr(language, name, lambda *a, value=value: value)
    with RunDirectory.open(tmp_path / "run", {}) as run, pytest.raises(InputError, match=message):
        evaluate(str(tmp_path), run, options)


def bert_with_a_head():
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=4))
