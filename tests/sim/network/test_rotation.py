"""A rotated language model computes the same, and its stream has no outliers."""

import copy

import pytest
import torch

pytest.importorskip("transformers", reason="the models are those of transformers")

from quant import Plan, quantize
from sim.network.rotation import orthogonal, rotated
from sim.reference import InputError
from tests.sim.network.language_models import LLAMA, language_model, prompts


@pytest.mark.parametrize("size", [1, 2, 9, 24, 32, 64, 576])
def test_the_matrix_is_orthogonal_and_its_entries_are_small(size):
    matrix = orthogonal(size, 0)
    assert torch.allclose(matrix @ matrix.T, torch.eye(size, dtype=torch.float64), atol=1e-12)
    assert float(matrix.abs().max()) <= (2 / size) ** 0.5 + 1e-12


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"])
def test_a_rotated_model_gives_the_same_logits_and_leaves_the_model_alone(kind):
    model = language_model(kind, **(LLAMA | {"hidden_size": 48}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    got = rotated(model)
    with torch.no_grad():
        expected = model(input_ids=prompts()).logits
        assert torch.allclose(got(input_ids=prompts()).logits, expected, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_outlier_in_the_stream_is_spread_over_the_channels():
    with torch.no_grad():
        model = rotated(language_model("LlamaForCausalLM"))
        plain = language_model("LlamaForCausalLM").model.embed_tokens.weight.clone()
        plain[:, 3] *= 1000
        turned = plain.double() @ orthogonal(32, 0)
    assert float(turned.abs().max()) < 0.3 * float(plain.abs().max())
    assert not model.config.tie_word_embeddings and bool((model.model.norm.weight == 1).all())


def test_other_models_are_refused():
    for kind in ("GPT2LMHeadModel", "Qwen2Model"):
        with pytest.raises(InputError, match="must be a language model of Llama's layout to be rotated"):
            rotated(language_model(kind))


def test_a_quantised_model_is_refused():
    plan = Plan.uniform(weight_bits=8, activation_bits=None)
    model = quantize(copy.deepcopy(language_model("LlamaForCausalLM")), plan)
    with pytest.raises(InputError, match="is quantised; a model must be rotated before that"):
        rotated(model)
