"""Generation token by token gives the tokens of runs over the whole sequence."""

import pytest
import torch

pytest.importorskip("transformers", reason="the models are those of transformers")

import sim
from sim.network.generation import generate
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import EXACT, plan


@pytest.mark.parametrize("kind", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_every_token_is_the_one_of_a_run_over_the_whole_sequence(kind):
    model = language_model(kind)
    network = sim.convert(model, plan(EXACT), [{"input_ids": prompts()}])
    ids = generate(network, model.lm_head, prompts(2, 5, seed=4), 12)
    assert ids.shape == (2, 17)
    with torch.no_grad():
        logits = model.lm_head(network(input_ids=ids[:, :-1]).last_hidden_state)
    assert torch.equal(logits[:, 4:].argmax(-1), ids[:, 5:])
