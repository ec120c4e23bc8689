"""The evaluation of 4-bit networks on a small Llama with random weights."""

import json
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="the model is one of transformers")

from quant.run_directory import RunDirectory
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.network.converters.describe import without_head
from sim.reference import InputError
from sim.workloads import four_bits
from sim.workloads.four_bits import VARIANTS, Options, Subject, evaluate, figures, plan, table_text
from sim.workloads.four_bits_vectors import subject_sets
from tests.sim.network.language_models import language_model, prompts


def small(name: str, options: Options) -> Subject:
    """Scores are the squares of the hidden states, as losses would be."""
    model = language_model("LlamaForCausalLM")

    def scores(body: Any) -> np.ndarray:
        with torch.no_grad():
            return body(input_ids=prompts(4)).last_hidden_state.double().square().mean((1, 2)).numpy()

    return Subject(name, model, r"layers\.\d+\.mlp\.down_proj", [{"input_ids": prompts()}], scores)


def test_every_variant_has_a_row_and_a_resumed_run_loads_no_model(tmp_path, monkeypatch):
    monkeypatch.setattr(four_bits, "WEIGHTS", {**four_bits.WEIGHTS, "group_size": 16, "multiplier_bits": 6})
    monkeypatch.setattr(four_bits, "subject", small)
    options = Options(("char_lm",))
    with RunDirectory.open(tmp_path, {"a": 1}) as run:
        result = evaluate(run, options)
    json.dumps(result, allow_nan=False)
    assert [(row["bits"], row["down_bits"], row["hadamard"]) for row in result["rows"]] == list(VARIANTS)
    assert len({row["value"] for row in result["rows"]}) == len(VARIANTS)
    assert "8 bits" in table_text(result["rows"])
    monkeypatch.setattr(four_bits, "subject", lambda *_: pytest.fail("a model is loaded"))
    with RunDirectory.open(tmp_path, {"a": 1}, resume=True) as run:
        assert evaluate(run, options) == result


def test_the_plan_gives_the_layers_what_the_variant_says():
    chosen = small("char_lm", Options())
    names = ["layers.0.mlp.down_proj", "layers.0.mlp.up_proj"]
    down, up = plan(chosen, 4, 8, "down").resolve(names).values()
    assert (down.activation_bits, down.hadamard, up.activation_bits, up.hadamard) == (8, True, 4, False)
    assert all(s.hadamard for s in plan(chosen, 4, 4, "all").resolve(names).values())
    assert without_head(chosen.model) is chosen.model.model


@pytest.mark.slow
def test_every_transform_and_quantiser_and_the_layers_have_vectors_that_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(four_bits, "WEIGHTS", {**four_bits.WEIGHTS, "group_size": 16, "multiplier_bits": 6})
    sets = subject_sets(small("char_lm", Options()), [{"input_ids": prompts(1)}], None, 0)
    names = {v.name: v for v in sets}
    assert {"hadamard", "token", "array", "softmax", "rmsnorm", "rope", "product"} <= {v.unit for v in sets}
    for name in ("four-bits-token-32-4", "four-bits-hadamard-32-16"):
        assert run_bulk(names[name], BenchOptions("icarus", tmp_path)).passed


def test_the_interval_is_paired_and_cosines_are_of_unit_vectors():
    real = np.array([[1.0, 0.0], [0.6, 0.8]])
    assert figures("cosine", real, real) == {"value": 1.0, "low": 1.0, "high": 1.0}
    found = figures("loss increase", np.array([1.0, 5.0]), np.array([1.5, 5.5]))
    assert found == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_an_unknown_model_is_one_line():
    with pytest.raises(InputError, match="models must be among minilm, char_lm, smollm2, not bert"):
        Options(("bert",))
