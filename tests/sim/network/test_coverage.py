"""The share of a model that became integers, by hand, and by name what did not."""

import pytest

from quant.methods.coverage import coverage_line
from sim.network.convert import convert
from sim.network.coverage import coverage
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import EXACT, plan, real_batches, torch_encoder


def test_a_whole_encoder_becomes_integers():
    model = torch_encoder()
    found = coverage(model, convert(model, plan(), [{"src": batch["src"]} for batch in real_batches()]))
    assert found["share"] == found["multiply_accumulate_share"] == 1 and not found["skipped"]
    assert found["parameters"] == sum(parameter.numel() for parameter in model.parameters())


def test_the_head_of_a_language_model_is_named_and_its_products_count_though_its_matrix_is_the_embedding():
    pytest.importorskip("transformers", reason="the model is that of transformers")
    model = language_model("LlamaForCausalLM")
    found = coverage(model, convert(model, plan(EXACT), [{"input_ids": prompts()}]))
    layers = 2 * (32 * (2 * 32 + 2 * 16) + 3 * 32 * 48)
    assert found["parameters"] == found["integer_parameters"] == layers + 60 * 32 + 5 * 32
    assert (found["integer_multiply_accumulates"], found["multiply_accumulates"]) == (layers, layers + 60 * 32)
    assert coverage_line(found).endswith("are integers; in floating point: lm_head (Linear)")
