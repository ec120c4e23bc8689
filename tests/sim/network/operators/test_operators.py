"""Every operator equals the specification, bit for bit; in "fake" it has the same values, and gradients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from quant import Settings
from quant.primitives.quantisers import quantise_weight
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.base import Grid, Operator
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.packed_linear import PackedLinear, input_quantiser, quantise_tokens
from sim.network.operators.residual import Add
from sim.network.operators.tables import Gather, TensorNormaliser, lowered, normaliser
from sim.reference import token
from sim.reference.requant import requantise
from sim.reference.residual import add_scaled
from sim.reference.token import TokenLinear
from tests.sim.tables import secant_table

TABLES = {name: secant_table(name) for name in ("gelu", "exp", "div", "rsqrt")}


def grid(bits: int, scale: float | list[float]) -> Grid:
    return Grid(bits, torch.tensor(scale, dtype=torch.float64))


def codes(bits: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Random codes with the extreme ones among them."""
    generator = torch.Generator().manual_seed(seed)
    top = 1 << (bits - 1)
    values = torch.randint(-top, top, shape, generator=generator)
    values.view(-1)[:2] = torch.tensor([-top, top - 1])
    return values.to(torch.int8 if bits == 8 else torch.int16)


def check_fake(operator: Operator, *arguments: torch.Tensor, extra: tuple = ()) -> None:
    """In "fake" the values are those of "integer", and every input gets a gradient that is not zero."""
    operator.mode = "integer"
    expected = operator(*arguments, *extra)
    operator.mode = "fake"
    real = [g.real(c).requires_grad_() for g, c in zip(operator.inputs, arguments, strict=True)]
    got = operator(*real, *extra)
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    total = torch.zeros(())
    for (value, integers), out in zip(pairs, operator.outputs, strict=True):
        assert torch.equal(out.codes(value), integers) and torch.equal(value, out.real(integers))
        total = total + (value * torch.linspace(-1, 1, value.numel()).reshape(value.shape)).sum()
    total.backward()
    for x in real:
        assert x.grad is not None and torch.isfinite(x.grad).all() and x.grad.abs().max() > 0


def single(operator: Linear, x: torch.Tensor) -> torch.Tensor:
    """The result of an operator of one layer."""
    result = operator.integer(x)
    assert isinstance(result, torch.Tensor)
    return result


@pytest.mark.parametrize("bits", [4, 8])
def test_tokens_are_quantised_as_specified(bits):
    x = codes(16, 300, 50)
    x[1], x[2], x[3] = 0, 1, -(1 << 15)
    got, magnitude = quantise_tokens(x, bits)
    expected, magnitudes = token.quantise_tokens(x.numpy(), bits)
    assert np.array_equal(got.numpy(), expected) and np.array_equal(magnitude.numpy(), magnitudes)
    assert got.dtype == torch.int8 and (magnitude >= 1).all()


SETTINGS = [
    Settings(),
    Settings(weight_bits=4, weight_granularity="group", group_size=16),
    Settings(weight_bits=4, weight_granularity="group", group_size=20, weight_symmetric=False),
    Settings(weight_bits=8, weight_symmetric=False),
    Settings(weight_bits=3, weight_granularity="tensor"),
]


@pytest.mark.parametrize("kind", ["token", "static", "direct"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("out_bits", [8, 16])
def test_a_linear_layer_equals_the_packed_gemm(kind, settings, out_bits):
    torch.manual_seed(0)
    layer = nn.Linear(50, 9)
    source = grid(8 if kind == "direct" else 16, 0.02 if kind == "direct" else 0.001)
    operator = Linear({"layer": layer})
    quantiser = input_quantiser(source, kind == "token", 8, 0.3)
    output = grid(out_bits, [0.05] * 9 if out_bits == 8 else 0.0003)
    operator.quantise(quantiser, source, [output], [quantise_weight(layer.weight, settings)])
    x = codes(source.bits, 40, 50)
    packed = operator.packed[0]
    assert isinstance(packed, PackedLinear)
    spec = packed.specification
    activations, magnitude = operator.activations(x)
    if isinstance(spec, TokenLinear):
        assert magnitude is not None
        expected = spec.output(activations.numpy(), magnitude.numpy())
    else:
        expected = spec.output(activations.numpy())
    assert quantiser.kind == kind and np.array_equal(single(operator, x).numpy(), expected)
    check_fake(operator, x)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_proved_bound_is_that_of_the_specification(settings):
    layer = nn.Linear(30, 4)
    operator, source = Linear({"layer": layer}), grid(8, 0.02)
    weights = [quantise_weight(layer.weight, settings)]
    operator.quantise(input_quantiser(source, False, 8, None), source, [grid(16, 0.001)], weights)
    packed = operator.packed[0]
    assert isinstance(packed, PackedLinear) and not isinstance(packed.specification, TokenLinear)
    assert packed.bound == packed.specification.bound


def test_several_layers_share_their_input():
    torch.manual_seed(0)
    layers = {name: nn.Linear(16, 8) for name in ("q", "k", "v")}
    source = grid(16, 0.001)
    weights = [quantise_weight(layer.weight, Settings()) for layer in layers.values()]
    operator, alone = Linear(layers), Linear({"k": layers["k"]})
    operator.quantise(input_quantiser(source, True, 8, None), source, [grid(8, 0.05)] * 3, weights)
    alone.quantise(input_quantiser(source, True, 8, None), source, [grid(8, 0.05)], [weights[1]])
    x = codes(16, 7, 16)
    assert torch.equal(operator.integer(x)[1], single(alone, x))
    check_fake(operator, x)


def test_a_residual_addition_equals_the_specification():
    operator = Add("add")
    operator.quantise(grid(16, 0.001), grid(16, 0.00017), grid(16, 0.0013))
    a, b = codes(16, 30, 40), codes(16, 30, 40, seed=1)
    expected = add_scaled(a.numpy(), b.numpy(), operator.multipliers, operator.shift)
    assert np.array_equal(operator.integer(a, b).numpy(), expected)
    exact = a.double() * 0.001 + b.double() * 0.00017
    inside = exact.abs() < 0.0013 * 32000
    error = operator.outputs[0].real(operator.integer(a, b), torch.float64) - exact
    assert (error[inside].abs() < 0.0013 * 1.1).all()
    check_fake(operator, a, b)


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
@pytest.mark.parametrize("table", [TABLES["rsqrt"], "exact"])
@pytest.mark.parametrize("width", [32, 384])
def test_a_norm_equals_the_specification(kind, table, width):
    torch.manual_seed(0)
    layer = kind(width, eps=1e-6)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(width))
    operator = Norm("norm", layer)
    operator.quantise(grid(16, 0.001), grid(16, 0.0004), table)
    x = codes(16, 60, width)
    x[:3] = torch.tensor([0, 7, -(1 << 15)], dtype=torch.int16)[:, None]
    x[3:20] //= 400
    spec = operator.specification
    assert spec is not None and np.array_equal(operator.integer(x).numpy(), spec.compute(x.numpy()))
    check_fake(operator, x)


@pytest.mark.parametrize("exp, div", [(TABLES["exp"], TABLES["div"]), ("exact", "exact")])
def test_a_softmax_equals_the_specification(exp, div):
    operator = Softmax("softmax", 64)
    operator.quantise(Grid.power(16, 4), exp, div)
    scores = codes(16, 3, 2, 20, 33) // 150
    scores[0, 0, 0], scores[0, 0, 1] = -(1 << 15), (1 << 15) - 1
    scores[0, 0, 2, 1:] = -(1 << 15)
    valid = torch.rand(3, 1, 1, 33, generator=torch.Generator().manual_seed(0)) < 0.7
    valid[1] = False
    spec = operator.specification
    assert spec is not None
    assert np.array_equal(operator.integer(scores, None).numpy(), spec.compute(scores.numpy()))
    got = operator.integer(scores, valid)
    assert np.array_equal(got.numpy(), spec.compute(scores.numpy(), valid.numpy()))
    assert got.dtype == torch.int8 and not got[1].any()
    check_fake(operator, scores, extra=(valid,))


def test_a_softmax_equals_the_specification_for_tables_that_are_no_softmax():
    odd = {
        name: replace(t, slopes=t.slopes[::-1], intercepts=tuple(-i for i in t.intercepts))
        for name, t in TABLES.items()
    }
    operator = Softmax("softmax", 64)
    for exp, div in ((odd["exp"], TABLES["div"]), (TABLES["exp"], odd["div"]), (odd["exp"], odd["div"])):
        operator.quantise(Grid.power(16, 4), exp, div)
        scores, spec = codes(16, 50, 20) // 150, operator.specification
        assert spec is not None
        assert np.array_equal(operator.integer(scores, None).numpy(), spec.compute(scores.numpy()))


def test_scores_and_context_equal_the_requantised_products():
    q, k, v = (codes(8, 2, 10, 12, seed=s) for s in range(3))
    scales = torch.linspace(0.02, 0.05, 3, dtype=torch.float64).repeat_interleave(4)
    scores = Scores("scores", 3)
    scores.quantise(Grid(8, scales), Grid(8, scales * 2), 4)
    split = [x.long().unflatten(-1, (3, 4)).transpose(1, 2) for x in (q, k, v)]
    psum = (split[0] @ split[1].transpose(-1, -2)).numpy()
    m, s = (t.numpy()[:, None, None] for t in (scores.multiplier, scores.shift))
    assert np.array_equal(scores.integer(q, k).numpy(), requantise(psum, m, s, out_bits=16))
    check_fake(scores, q, k)
    p = codes(8, 2, 3, 10, 10, seed=4).clamp(min=0)
    context = Context("context", 3)
    context.quantise(Grid.power(8, 7), Grid(8, scales), grid(16, 0.0002))
    psum = (p.long() @ split[2]).transpose(1, 2).flatten(2).numpy()
    expected = requantise(psum, context.multiplier.numpy(), context.shift.numpy(), out_bits=16)
    assert np.array_equal(context.integer(p, v).numpy(), expected)
    check_fake(context, p, v)


@pytest.mark.parametrize("table", [TABLES["gelu"], "exact"])
@pytest.mark.parametrize("out_bits", [8, 16])
def test_an_activation_equals_its_tables_on_every_code_and_scale(table, out_bits):
    operator = Activation("gelu", "gelu")
    scales = torch.tensor([0, 3, 6, 3, 5])
    source = Grid(8, torch.ldexp(torch.ones(5, dtype=torch.float64), -scales))
    operator.quantise(source, Grid.power(out_bits, 4), table)
    x = torch.arange(-128, 128, dtype=torch.int8)[:, None].expand(256, 5)
    got = operator.integer(x)
    for channel, scale in enumerate(scales.tolist()):
        expected = lowered("gelu", table, scale, 4, out_bits).output(np.arange(-128, 128))
        assert np.array_equal(got[:, channel].numpy(), expected)
    assert got.dtype == (torch.int8 if out_bits == 8 else torch.int16)
    check_fake(operator, x)


@pytest.mark.parametrize("function", ["gelu", "gelu-tanh", "silu", "hswish"])
def test_the_control_is_the_correctly_rounded_function(function):
    q = np.arange(-128, 128)
    exact = Activation("site", function).real(torch.tensor(q / 16, dtype=torch.float64)).numpy() * 32
    assert np.array_equal(lowered(function, "exact", 4, 5).output(q), np.clip(np.floor(exact + 0.5), -128, 127))


def test_relu_needs_no_table():
    operator = Activation("relu", "relu")
    operator.quantise(grid(8, 0.03))
    assert operator.integer(torch.tensor([-128, -1, 0, 1, 127], dtype=torch.int8)).tolist() == [0, 0, 0, 1, 127]


@pytest.mark.parametrize("function, bits", [("div", 16), ("rsqrt", 48), ("rsqrt", 62)])
@pytest.mark.parametrize("table", ["exact", "secants"])
def test_the_normaliser_equals_the_specification_around_every_power_of_two(function, bits, table):
    spec = normaliser(function, table if table == "exact" else TABLES[function], bits, 7 if function == "div" else 0)
    unit = TensorNormaliser(spec)
    values = [0, *(v for b in range(bits) for v in ((1 << b) - 1, 1 << b, (1 << b) + 1, (1 << b) * 3 // 2))]
    v = np.array(sorted({min(v, (1 << bits) - 1) for v in values}), dtype=np.int64)
    for got, expected in zip(unit.evaluate(torch.tensor(v)), spec.evaluate(v), strict=True):
        assert np.array_equal(got.numpy(), expected)
    assert np.array_equal(unit.output(torch.tensor(v), 14, 16).numpy(), spec.output(v, 14, 16))


def test_a_gather_equals_its_values_on_every_code_also_in_chunks():
    values = np.random.default_rng(0).integers(-128, 128, 256)
    x = torch.randint(-128, 128, (3, 200_000), dtype=torch.int8)
    assert np.array_equal(Gather([values])(x).numpy(), values[x.numpy().astype(int) + 128])
