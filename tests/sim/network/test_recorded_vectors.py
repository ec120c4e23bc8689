"""The vectors of a network's sites: every unit that it needs, real codes, and a difference that is noticed."""

import numpy as np
import pytest
import torch

from sim.network.convert import convert
from sim.network.recorded_vectors import layer_sets, network_sets
from sim.reference import InputError
from tests.sim.network.models import EXACT, bert, plan, token_batches

SOURCE = {"network": "test"}


@pytest.fixture(scope="module")
def network():
    return convert(bert(), plan(), token_batches())


def test_every_site_has_vectors_for_its_unit(network):
    batches = token_batches(2, seed=7)
    sets = {v.name: v for v in network_sets("net", network, batches, SOURCE)}
    assert {name: v.unit for name, v in sets.items()} == {
        "net-softmax": "softmax",
        "net-exp": "pwl",
        "net-div": "normaliser",
        "net-layernorm": "layernorm",
        "net-layernorm-rsqrt": "normaliser",
        "net-gelu": "pwl",
    }
    positions = sum(batch["input_ids"].numel() for batch in batches)
    assert len(sets["net-softmax"].counts) == 2 and sets["net-softmax"].size == 2 * positions * 4 * 12
    assert len(sets["net-layernorm"].counts) == 5 and sets["net-layernorm"].size == 5 * positions * 32
    assert sets["net-gelu"].size == 2 * positions * 48
    invalid = sets["net-softmax"].arrays["inputs.valid"] == 0
    assert invalid.any() and not sets["net-softmax"].arrays["expected.probability"][invalid].any()
    assert len(np.unique(sets["net-gelu"].arrays["inputs"])) > 50


def test_a_feed_forward_layer_has_vectors_for_the_array_with_its_tables():
    network = convert(bert(), plan(activation_granularity="tensor"), token_batches())
    sets = layer_sets("ffn", network, token_batches(1), SOURCE)
    ups, down = sets[:-1], sets[-1]
    assert down.name == "ffn-down" and all(v.unit == "array" for v in sets)
    assert sum(v.arrays["weights"].shape[0] for v in ups) == 48 and down.arrays["weights"].shape == (32, 48)
    assert all("thresholds" in v.arrays for v in ups) and "thresholds" not in down.arrays


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("settings", [{"weight_bits": bits} for bits in (2, 3, 4, 5, 6, 7, 8)] + [
    {"weight_bits": bits, "weight_granularity": "group", "group_size": 16} for bits in (2, 4, 5)
])  # fmt: skip
def test_every_layer_that_converts_can_be_dumped_for_the_array(settings, symmetric):
    chosen = plan(activation_granularity="tensor", weight_symmetric=symmetric, **settings)
    sets = layer_sets("ffn", convert(bert(), chosen, token_batches()), token_batches(1), SOURCE)
    assert sets[-1].arrays["weights"].shape == (32, 48) and all(v.unit == "array" for v in sets)


def test_activations_of_four_bits_are_four_bits_in_the_specification_and_the_array():
    chosen = plan(activation_granularity="tensor", activation_bits=4)
    network = convert(bert(), chosen, token_batches())
    down = network["layers.0.down"].packed_layers[0]
    assert down.specification.activation_bits == 4 and down.bound == down.specification.bound
    sets = layer_sets("ffn", network, token_batches(1), SOURCE)
    assert all(v.configuration["activation_bits"] == 4 for v in sets)


def test_a_network_that_computes_something_else_is_noticed(network, monkeypatch):
    norm = network["layers.1.norm1"]
    honest = norm.integer
    monkeypatch.setattr(norm, "integer", lambda x: honest(x) + torch.ones_like(x))
    with pytest.raises(AssertionError, match=r"output\.LayerNorm: PyTorch and sim.reference differ"):
        network_sets("net", network, token_batches(1), SOURCE)


def test_what_no_unit_holds_is_refused(network):
    with pytest.raises(InputError, match="no unit holds the control"):
        network_sets("net", convert(bert(), plan(EXACT), token_batches()), token_batches(1), SOURCE)
    with pytest.raises(InputError, match="activations per token are not the array's to scale"):
        layer_sets("ffn", network, token_batches(1), SOURCE)
