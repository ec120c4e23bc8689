"""Points of one calibration are those of converting anew, in one process and in several."""

from functools import partial

import pytest
import torch

import sim
from quant import Plan
from sim.network.convert import calibrate
from sim.network.graph import Network
from sim.reference import InputError
from sim.workloads.points import measure_points
from tests.sim.network.models import bert, plan, token_batches

PLANS = {
    "W8A8": plan(),
    "W4A8": plan(weight_bits=4, weight_granularity="group", group_size=16),
    "W8A4": plan(activation_bits=4),
}


def codes(network, batch):
    """Of a batch, as a list, which can be pickled and compared."""
    return network.codes(**batch).tolist()


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_points_are_the_networks_of_their_plans(jobs):
    model, batches = bert(), token_batches()
    calibration = calibrate(model, PLANS["W8A8"], batches)
    measure = partial(codes, batch=batches[0])
    found = dict(measure_points(calibration, PLANS, measure, jobs))
    assert {name: point.value for name, point in found.items()} == {
        name: measure(sim.convert(model, one, batches)) for name, one in PLANS.items()
    }
    assert all(point.seconds > 0 for point in found.values())
    assert not torch.equal(torch.tensor(found["W8A8"].value), torch.tensor(found["W8A4"].value))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"activation_observer": "mse"}, "activation_observer must be 'minmax', as it was calibrated, not 'mse'"),
        (
            {"activation_granularity": "tensor"},
            "activation_granularity must be 'token', as it was calibrated, not 'tens",
        ),
    ],
)
def test_a_plan_that_needs_other_observations_is_refused(settings, message):
    calibration = calibrate(bert(), PLANS["W8A8"], token_batches(1))
    other: Plan = plan(**settings)
    with pytest.raises(InputError, match=message):
        dict(measure_points(calibration, {"other": other}, Network.eval))
