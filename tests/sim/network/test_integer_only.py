"""The check of integers notices floating point however it is let in."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sim.network.convert import convert
from sim.network.integer_only import IntegerOnly, require_integer
from sim.reference import InputError
from tests.sim.network.models import bert, plan, token_batches


def by_a_tensor(x: Tensor) -> Tensor:
    return (x.float() * 0.5).to(x.dtype)


def by_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.floor(x.numpy() * 0.5)).to(x.dtype)


def by_an_array(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(x)).to(x.dtype)


def by_a_list(x: Tensor) -> Tensor:
    return torch.tensor([int(v * 0.5) for v in x.flatten().tolist()], dtype=x.dtype).reshape(x.shape)


def by_a_number(x: Tensor) -> Tensor:
    return x + int(x.flatten()[0].item() * 0.5)


def by_a_float_argument(x: Tensor) -> Tensor:
    return x.masked_fill(x > 3, 0.7)


def by_a_float_factor(x: Tensor) -> Tensor:
    return torch.mul(x, 1.5).to(x.dtype)


LEAKS = [by_a_tensor, by_numpy, by_an_array, by_a_list, by_a_number, by_a_float_argument, by_a_float_factor]


@pytest.fixture(scope="module")
def network():
    return convert(bert(), plan(), token_batches())


@pytest.mark.parametrize("key", ["layers.0.softmax", "layers.1.add2"])
@pytest.mark.parametrize("leak", LEAKS)
def test_a_float_that_is_seeded_in_an_operator_is_noticed(network, monkeypatch, leak, key):
    operator = network[key]
    honest = operator.integer
    monkeypatch.setattr(operator, "integer", lambda *arguments: leak(honest(*arguments)))
    with pytest.raises(InputError, match="in the integer network"):
        require_integer(network, **token_batches(1)[0])


def test_an_honest_network_passes_and_the_context_leaves_nothing_behind(network):
    assert require_integer(network, **token_batches(1)[0]).operations > 200
    with pytest.raises(InputError), IntegerOnly():
        torch.zeros(2, dtype=torch.int8).tolist()
    assert torch.zeros(2).tolist() == [0.0, 0.0]
