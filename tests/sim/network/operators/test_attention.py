"""Attention over long rows: probabilities of 16 bits, the scale that serves them, and what is said where none does."""

import warnings

import numpy as np
import pytest
import torch

from quant import Plan, Rule
from sim.network.convert import convert
from sim.network.integer_only import require_integer
from sim.network.operators import kernels
from sim.network.operators.attention import Context, Softmax
from sim.network.operators.base import Grid
from sim.network.packed import load, save
from sim.reference.requant import requantise
from tests.sim.network.models import EXACT, bert, plan, torch_encoder
from tests.sim.tables import secant_table


def softmax(row_length: int, scale: int = 3, exp="exact", div="exact", bits: int = 16) -> Softmax:
    operator = Softmax("softmax", row_length)
    operator.quantise(Grid.power(16, scale), exp, div, bits)
    return operator


@pytest.mark.parametrize("exp, div", [(secant_table("exp"), secant_table("div")), ("exact", "exact")])
@pytest.mark.parametrize("scale", [0, 3, 6])
def test_a_softmax_of_16_bits_equals_the_specification(exp, div, scale):
    operator, generator = softmax(64, scale, exp, div), torch.Generator().manual_seed(scale)
    scores = (torch.randn(3, 2, 20, 33, generator=generator) * 40).to(torch.int16)
    scores[0, 0, 0], scores[0, 0, 1] = -(1 << 15), (1 << 15) - 1
    valid = torch.rand(3, 1, 1, 33, generator=generator) < 0.7
    valid[1] = False
    spec = operator.specification
    assert spec is not None and spec.exp_scale == (15 if exp == "exact" else 6 + scale)
    assert np.array_equal(operator.integer(scores).numpy(), spec.compute(scores.numpy()))
    got = operator.integer(scores, valid)
    assert np.array_equal(got.numpy(), spec.compute(scores.numpy(), valid.numpy()))
    assert got.dtype == torch.int16 and not got[1].any()
    with kernels.pytorch_only():
        assert torch.equal(operator.integer(scores, valid), got)


def test_exact_equal_scores_sum_to_1_within_half_a_step_each():
    # besides, the reciprocal's code is off by up to 2**-15 of itself, a step of the sum, and its output by 2**-8 steps
    operator = softmax(1024)
    for n in range(1, 1025):
        total = int(operator.integer(torch.zeros(1, 1, 1, n, dtype=torch.int16)).long().sum())
        assert abs(total - (1 << 15)) <= n / 2 + 1 + n / 256, n


def test_a_context_of_16_bit_probabilities_is_the_requantised_product():
    generator = torch.Generator().manual_seed(0)
    p = torch.randint(0, 1 << 15, (2, 3, 10, 300), generator=generator).to(torch.int16)
    v = torch.randint(-128, 128, (2, 300, 12), generator=generator).to(torch.int8)
    p[0, 0, 0], v[0, :, 0] = (1 << 15) - 1, -128
    context = Context("context", 3)
    scales = torch.linspace(0.02, 0.05, 12, dtype=torch.float64)
    context.quantise(Grid.power(16, 15), Grid(8, scales), Grid(16, torch.tensor(0.0002, dtype=torch.float64)))
    heads = v.long().unflatten(-1, (3, 4)).transpose(1, 2)
    psum = (p.long() @ heads).transpose(1, 2).flatten(2).numpy()
    assert abs(psum).max() > 1 << 30
    expected = requantise(psum, context.multiplier.numpy(), context.shift.numpy(), out_bits=16)
    assert np.array_equal(context.integer(p, v).numpy(), expected)
    with kernels.pytorch_only():
        assert np.array_equal(context.integer(p, v).numpy(), expected)


def of_rows(tokens: int) -> list[dict[str, torch.Tensor]]:
    return [{"src": torch.randn(1, tokens, 32, generator=torch.Generator().manual_seed(tokens))}]


def found(network) -> list[tuple[int, int]]:
    """(probability bits, scale exponent of the scores) of each softmax."""
    every = [operator.specification for operator in network.operators() if isinstance(operator, Softmax)]
    return [(spec.probability_bits, spec.exp.s) for spec in every if spec is not None]


def test_long_rows_of_calibration_choose_16_bits_and_a_scale_that_serves_them(tmp_path):
    pytest.importorskip("transformers")
    model, ids = (
        bert(max_position_embeddings=256),
        torch.randint(60, (2, 256), generator=torch.Generator().manual_seed(0)),
    )
    data = [{"input_ids": ids, "attention_mask": (torch.arange(256) < torch.tensor([[256], [140]])).long()}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = convert(model, plan(EXACT), data)
    assert all(bits == 16 and scale <= 3 for bits, scale in found(network))
    assert require_integer(network, **data[0]).products
    with torch.no_grad():
        expected, got = (m(**data[0]).last_hidden_state[0] for m in (model, network))
        assert (expected - got).norm() < 0.05 * expected.norm()
    assert torch.equal(load(save(network, tmp_path).parent).codes(**data[0]), network.codes(**data[0]))


def test_a_plan_s_width_is_kept_and_what_it_cannot_serve_is_said():
    model = torch_encoder(1)
    wide = Plan((*plan(EXACT).rules, Rule(".*softmax", probability_bits=16)))
    assert [bits for bits, _ in found(convert(model, wide, of_rows(5)))] == [16]
    assert [bits for bits, _ in found(convert(model, plan(EXACT), of_rows(128)))] == [8]
    narrow = Plan((*plan(EXACT).rules, Rule(".*softmax", probability_bits=8)))
    with pytest.warns(UserWarning, match=r"softmax: probabilities are rounded to 2\*\*-7, which over a row of 300 can"):
        network = convert(model, narrow, of_rows(300))
    assert [bits for bits, _ in found(network)] == [8]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.codes(**of_rows(301)[0])  # as in a text that grows token by token
    with pytest.warns(UserWarning, match="over a row of 600 can add up to 2.3 of 1"):
        network.codes(**of_rows(600)[0])
