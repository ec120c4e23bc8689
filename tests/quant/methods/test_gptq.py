"""GPTQ equals the dense solution of Optimal Brain Surgeon, column by column."""

import pytest
import torch
from torch import Tensor

from quant.methods.gptq import Gptq
from quant.plan import Settings
from quant.primitives.quantisers import quantise, quantise_weight
from sim.reference import InputError
from tests.quant.models import same

GROUPED = Settings(weight_bits=3, weight_symmetric=False, weight_granularity="group", group_size=8)


def _problem(seed: int, outputs: int = 6, inputs: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    values = torch.randn(100, inputs, generator=generator, dtype=torch.float64) @ mixing
    return torch.randn(outputs, inputs, generator=generator), values.t() @ values


def _surgeon(matrix: Tensor, products: Tensor, settings: Settings, order: Tensor) -> Tensor:
    """The codes of Optimal Brain Surgeon: after each column the inverse of the rest of H is found anew."""
    like = quantise_weight(matrix, settings)
    steps = like.spread(like.group_multiplier.double() * like.scale.value[:, None])
    zeros = like.spread(like.zero_point)
    weights, codes = matrix.double().clone(), torch.empty(matrix.shape, dtype=torch.float64)
    left = order.tolist()
    while left:
        inverse = torch.linalg.inv(products[left][:, left])
        column = left[0]
        codes[:, column] = quantise(weights[:, column], steps[:, column], zeros[:, column], like.bits, like.signed)
        error = weights[:, column] - (codes[:, column] - zeros[:, column]) * steps[:, column]
        weights[:, left] -= torch.outer(error, inverse[0] / inverse[0, 0])
        left.pop(0)
    return codes


@pytest.mark.parametrize("settings", [GROUPED, Settings(weight_bits=4), Settings(weight_bits=2)])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_codes_are_those_of_the_dense_solution(settings: Settings, act_order: bool, seed: int) -> None:
    matrix, products = _problem(seed)
    damped = products + 0.01 * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    order = torch.argsort(products.diagonal(), descending=True) if act_order else torch.arange(len(products))
    made = Gptq(act_order, 0.01, columns=5).weight(matrix, products, quantise_weight(matrix, settings))
    assert torch.equal(made.codes.double(), _surgeon(matrix, damped, settings, order))


def test_the_output_error_is_below_that_of_rounding_to_nearest() -> None:
    totals = [0.0, 0.0]
    for seed in range(5):
        matrix, products = _problem(seed, outputs=64)
        made = Gptq().weight(matrix, products, quantise_weight(matrix, GROUPED)), quantise_weight(matrix, GROUPED)
        for i, weight in enumerate(made):
            change = weight.dequantise(torch.float64) - matrix.double()
            totals[i] += float(((change @ products) * change).sum())
    assert totals[0] < 0.7 * totals[1]


def test_the_number_of_columns_at_a_time_changes_nothing() -> None:
    matrix, products = _problem(0)
    made = [Gptq(columns=columns).weight(matrix, products, quantise_weight(matrix, GROUPED)) for columns in (1, 7, 128)]
    assert same(made[0], made[1]) and same(made[0], made[2])


def test_inputs_that_are_always_zero_are_rounded_to_nearest() -> None:
    matrix, _ = _problem(0)
    nearest = quantise_weight(matrix, GROUPED)
    assert same(Gptq().weight(matrix, torch.zeros(24, 24), nearest), nearest)


@pytest.mark.parametrize(("options", "message"), [({"damping": 0.0}, "damping must be"), ({"columns": 0}, "columns")])
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Gptq(**options)
