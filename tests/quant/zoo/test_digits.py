"""Training the digits network is deterministic."""

import torch

from quant.zoo import digits


def test_the_same_seed_trains_the_same_network():
    data = digits.Data(torch.rand(128, 8, 8), torch.arange(128) % 10)
    first, same, other = (digits.train(data, seed, epochs=1).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
