"""What differs in the models with BERT's layout: Electra's projection, MPNet's bias, and specified sites throughout."""

import pytest
import torch

from sim.network import packed
from sim.network.convert import convert
from sim.network.operators.base import set_mode
from sim.reference import InputError
from tests.sim.network.models import EXACT, bert, plan, token_batches
from tests.sim.network.specification import require_specified


@pytest.mark.parametrize(
    "kind, changes", [("Bert", {}), ("Camembert", {}), ("Electra", {"embedding_size": 16}), ("MPNet", {})]
)
def test_every_site_equals_the_specification_and_is_stored(tmp_path, kind, changes):
    model, [batch] = bert(kind, **changes), token_batches(1, seed=9)
    network = convert(model, plan(EXACT), token_batches())
    assert require_specified(network, batch) == {"embedding"}
    packed.save(network, tmp_path)
    assert torch.equal(packed.load(tmp_path).codes(**batch), network.codes(**batch))


def test_mpnets_bias_is_seen_by_distance_and_is_learnt():
    model, [batch] = bert("MPNet"), token_batches(1)
    network = convert(model, plan(EXACT), token_batches())
    bias, codes = network["layers.0.bias"], network.codes(**batch)
    assert bias.codes.shape == (4, 2 * 38 - 1) and len(bias.codes.unique()) > 4
    set_mode(network, "fake")
    network.stream(**batch).square().sum().backward()
    table = model.get_parameter("encoder.relative_attention_bias.weight")
    assert table.grad is not None and table.grad.abs().max() > 0
    with torch.no_grad():
        table.mul_(-3)
    set_mode(network, "integer")
    assert not torch.equal(network.codes(**batch), codes)
    with torch.no_grad():
        table.div_(-3)  # other tests share the model
    with pytest.raises(InputError, match=r"attn.bias: there must be at most 38 tokens, not 39"):
        bias(torch.zeros(1, 4, 39, 39, dtype=torch.int16))
