"""Linear attention on tensors equals the specification, bit for bit."""

import numpy as np
import pytest
import torch

from sim.network.operators.base import Grid
from sim.network.operators.linear_attention import LinearAttention
from tests.sim.network.operators.test_operators import check_fake, codes, grid
from tests.sim.tables import secant_table

TOKENS, WIDTH = 20, 4


@pytest.mark.parametrize("table", ["exact", secant_table("div")])
def test_the_operator_equals_the_specification(table):
    operator = LinearAttention("attention", 3, TOKENS)
    scales = torch.linspace(0.02, 0.05, 3, dtype=torch.float64).repeat_interleave(WIDTH)
    operator.quantise([Grid(8, scales * k) for k in (1, 2, 3)], grid(16, 0.0004), table, WIDTH)
    q, k, v = (codes(8, 2, TOKENS, 3 * WIDTH, seed=s) for s in range(3))
    got = operator.integer(q, k, v)
    for head, spec in enumerate(operator.specifications(16)):
        part = slice(head * WIDTH, (head + 1) * WIDTH)
        expected = spec.output(*(x[..., part].numpy() for x in (q, k, v)))
        assert np.array_equal(got[..., part].numpy(), expected)
    check_fake(operator, q, k, v)
