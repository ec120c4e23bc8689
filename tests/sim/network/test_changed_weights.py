"""Integers follow the real weights, whoever changes them, in every mode and in what is saved."""

import copy

import pytest
import torch

import sim
from quant.primitives.quantisers import quantise_weight
from sim.network.convert import calibrate, quantise
from sim.network.graph import Network
from sim.network.operators.base import set_mode
from tests.sim.network.models import bert, plan, token_batches

KEY = "layers.0.up"


def weight(network: Network) -> torch.nn.Parameter:
    return network[KEY].layers[0].weight


def by_data(network: Network) -> None:
    weight(network).data.mul_(-1)


def in_place(network: Network) -> None:
    with torch.no_grad():
        weight(network).mul_(-1)


def by_an_optimiser(network: Network) -> None:
    optimiser = torch.optim.SGD([weight(network)], lr=2.0)
    weight(network).grad = weight(network).detach().clone()
    optimiser.step()  # w - 2 w


def by_a_state(network: Network) -> None:
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state[f"steps.{KEY}.layers.0.weight"].mul_(-1)
    network.load_state_dict(state)


def negated(codes: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether the signs have changed; ties are rounded up, and -128 has no counterpart."""
    return int((codes.int() + before.int()).abs().max()) <= 1


CHANGES = [by_data, in_place, by_an_optimiser, by_a_state]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["integer", "fake"])
def test_a_changed_weight_is_in_the_codes_and_in_what_is_saved(change, mode, tmp_path):
    data = token_batches(1)
    network = sim.convert(copy.deepcopy(bert()), plan(), token_batches())
    before, stored = network.codes(**data[0]), network[KEY].weights[0].codes
    set_mode(network, mode)
    change(network)
    sim.save(network, tmp_path)  # first of all, so that nothing else has looked
    assert negated(sim.load(tmp_path)[KEY].weights[0].codes, stored)
    expected = sim.load(tmp_path).codes(**data[0])
    assert not torch.equal(expected, before)
    got = network.stream(**data[0])
    assert torch.equal(got if mode == "integer" else network.last.outputs[0].codes(got), expected)


def test_a_state_of_another_network_brings_its_weights_and_not_its_scales(tmp_path):
    data = token_batches(1)
    first, second = (sim.convert(copy.deepcopy(bert()), plan(), token_batches(seed=seed)) for seed in (0, 5))
    by_data(second)
    by_data(first)
    expected = first.codes(**data[0])
    by_data(first)
    first.load_state_dict(second.state_dict())
    assert torch.equal(first.codes(**data[0]), expected)
    assert all(value.is_floating_point() for value in first.state_dict().values())


def test_a_network_is_quantised_anew_from_weights_that_have_changed():
    calibration = calibrate(copy.deepcopy(bert()), plan(), token_batches())
    network = quantise(calibration, plan())
    by_data(network)
    [found], [settings] = quantise(calibration, plan())[KEY].weights, plan().resolve([KEY]).values()
    assert torch.equal(found.codes, quantise_weight(weight(network), settings).codes)
