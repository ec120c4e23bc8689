"""The mean over positions equals the requantised sum."""

import numpy as np
import pytest
import torch

from sim.network.operators.base import Grid
from sim.network.operators.pooling import Mean
from sim.reference import InputError
from sim.reference.requant import requantise
from tests.sim.network.operators.test_operators import check_fake, codes, grid


@pytest.mark.parametrize("count", [1, 16, 49])
def test_a_mean_equals_the_requantised_sum(count):
    operator = Mean("mean", count)
    operator.quantise(grid(16, 0.001), grid(16, 0.0007))
    x = codes(16, 5, count, 12)
    total = x.long().sum(1).numpy()
    expected = requantise(total, operator.multiplier.numpy(), operator.shift.numpy(), out_bits=16)
    assert np.array_equal(operator.integer(x).numpy(), expected)
    check_fake(operator, x)


def test_another_number_of_positions_is_refused():
    operator = Mean("mean", 4)
    operator.quantise(Grid.power(16, 8), Grid.power(16, 8))
    with pytest.raises(InputError, match="mean: must have 4 positions, not 5"):
        operator.integer(torch.zeros(1, 5, 2, dtype=torch.int16))
