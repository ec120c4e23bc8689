"""The head of a language model in integers: only if a rule is for it alone, equal to the specification, packed."""

import pytest
import torch

pytest.importorskip("transformers", reason="the models are those of transformers")

from quant import Plan, Rule
from sim.network import packed
from sim.network.convert import convert
from sim.network.coverage import coverage
from sim.network.integer_only import require_integer
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import EXACT, plan
from tests.sim.network.specification import require_specified

DATA = [{"input_ids": prompts()}]


@pytest.mark.parametrize("settings", [{"weight_bits": 8}, {"hadamard": True}])
def test_a_rule_for_the_head_gives_integer_logits(settings, tmp_path):
    model = language_model("LlamaForCausalLM")
    network = convert(model, Plan((*plan(EXACT).rules, Rule("lm_head", **settings))), DATA)
    logits, wanted = network(**DATA[0]).last_hidden_state, model(**DATA[0]).logits
    assert logits.shape == wanted.shape and network.codes(**DATA[0]).dtype == torch.int16
    assert float((logits - wanted).square().mean() / wanted.square().mean()) < 0.01
    assert "linear" not in require_specified(network, DATA[0])
    require_integer(network, **DATA[0])
    packed.save(network, tmp_path)
    assert torch.equal(packed.load(tmp_path).codes(**DATA[0]), network.codes(**DATA[0]))
    assert coverage(model, network)["multiply_accumulate_share"] == 1


def test_a_rule_for_everything_leaves_the_head_in_floating_point():
    network = convert(language_model("LlamaForCausalLM"), plan(EXACT), DATA)
    assert network(**DATA[0]).last_hidden_state.shape[-1] == 32
