"""The digits network converts like any other: close to the model, integer throughout, the same after saving."""

import pytest
import torch

import sim
from quant.zoo.digits import Digits
from sim.network.operators.base import set_mode
from tests.sim.network.models import plan, spread


@pytest.mark.parametrize("granularity", ["token", "tensor"])
def test_the_digits_network_is_close_in_integers_trains_and_is_the_same_after_saving(tmp_path, granularity):
    torch.manual_seed(0)
    model = spread(Digits())
    data = [{"images": torch.rand(8, 8, 8)} for _ in range(3)]
    network = sim.convert(model, plan(activation_granularity=granularity), data)
    codes = network.codes(**data[0])
    with torch.no_grad():
        expected = model(data[0]["images"])
    got = network(**data[0]).last_hidden_state
    assert float((got - expected).norm() / expected.norm()) < 0.05
    sim.save(network, tmp_path)
    assert torch.equal(sim.load(tmp_path).codes(**data[0]), codes)
    qkv, split = network["layers.0.qkv"], network["layers.0.qkv_split"]
    assert len(set(qkv.outputs[0].scale.tolist())) == 6  # a scale for each head of queries, keys and values
    assert len(qkv.packed_layers) == 1 and len(split.outputs) == 3
    set_mode(network, "fake")
    assert torch.equal(network.last.outputs[0].codes(network.stream(**data[0])), codes)
    network.stream(**data[0]).square().sum().backward()
    assert model.position.grad is not None and model.position.grad.any() and model.embed.weight.grad.any()
