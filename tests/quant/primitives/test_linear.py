"""Quantised layers: the sums are the integers', and the layer in training is the converted one, with no tolerance."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from quant.plan import Settings
from quant.primitives.linear import FakeQuantLinear, QuantisedLinear
from quant.primitives.quantisers import ActivationQuantiser, quantise_weight
from quant.primitives.scales import Scale
from sim.reference import InputError
from sim.reference.gemm import GroupedLinear
from tests.quant.models import SETTINGS, quantised

ACTIVATIONS = {
    "static": ActivationQuantiser.covering(-3, 2, 8, True),
    "asymmetric": ActivationQuantiser.covering(-1, 3, 8, False),
    "token": ActivationQuantiser(8),
    "asymmetric token": ActivationQuantiser(6, False),
    "none": None,
}


def inputs(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.weight_bits}-{s.weight_symmetric}-{s.group_size}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_layer_in_training_equals_the_converted_one(activation, settings, dtype):
    linear = nn.Linear(64, 32)
    like = quantise_weight(linear.weight, settings)
    training = FakeQuantLinear(linear.weight, linear.bias, like, activation)
    # trained a little: the codes move, the scales stay
    training.weight.data += 0.02 * torch.randn(32, 64, generator=torch.Generator().manual_seed(2))
    converted = training.convert()
    values = inputs(dtype)
    assert not torch.equal(converted.weight.codes, like.codes)
    torch.testing.assert_close(training(values), converted(values), atol=0, rtol=0)
    assert converted(values).dtype == dtype


@pytest.mark.parametrize("activation", ["static", "token"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s.weight_bits}-{s.weight_symmetric}-{s.group_size}")
def test_the_sums_are_those_of_the_specification_and_the_forward_scales_them(activation, settings):
    weight, values, bias = quantised(settings), inputs().reshape(10, 64), torch.randn(32)
    quantiser = ACTIVATIONS[activation]
    assert quantiser is not None
    layer = QuantisedLinear(weight, bias, quantiser)
    codes = quantiser.codes(values)
    reference = GroupedLinear(
        weights=weight.codes.numpy(),
        bias=np.zeros(32, dtype=np.int64),
        multiplier=weight.scale.multiplier.numpy(),
        shift=weight.scale.shift.numpy(),
        weight_bits=weight.bits,
        weight_signed=weight.signed,
        group=weight.group_size,
        zero_points=None if weight.signed else weight.zero_point.numpy(),
        group_multipliers=weight.group_multiplier.numpy(),
    )
    total = reference.accumulate(codes.numpy())
    assert np.array_equal(layer.accumulate(codes).numpy(), total)
    assert layer.bound is not None and max(map(abs, reference.bound)) <= layer.bound
    scale, _ = quantiser.parameters(values)
    real = total * (weight.scale.value.numpy() * scale.numpy()) + bias.double().numpy()
    torch.testing.assert_close(layer(values), torch.from_numpy(real).float(), atol=0, rtol=0)


@pytest.mark.parametrize("activation", ["asymmetric", "asymmetric token"])
def test_zero_points_of_activations_are_taken_off_before_the_sum(activation):
    weight, values, quantiser = quantised(SETTINGS[-2]), inputs(), ACTIVATIONS[activation]
    assert quantiser is not None
    scale, zero = quantiser.parameters(values)
    layer = QuantisedLinear(weight, None, quantiser)
    total = layer.accumulate(quantiser.codes(values) - zero.int())
    assert layer.bound is not None and int(total.abs().max()) <= layer.bound
    torch.testing.assert_close(layer(values), (total * (weight.scale.value * scale)).float(), atol=0, rtol=0)


def test_the_bound_is_reached_by_the_worst_inputs():
    weight = quantised(Settings(weight_bits=4, weight_granularity="group", group_size=16))
    layer = QuantisedLinear(weight, None, ACTIVATIONS["static"])
    signs = torch.where(weight.integers() >= 0, -128, 127)
    worst = torch.stack([layer.accumulate(row)[o] for o, row in enumerate(signs)])
    assert layer.bound is not None and int(worst.abs().max()) <= layer.bound
    one_sided = dataclasses.replace(weight, codes=weight.codes.abs())
    layer = QuantisedLinear(one_sided, None, ACTIVATIONS["static"])
    assert int(layer.accumulate(torch.full((64,), -128)).abs().max()) == layer.bound


def test_a_layer_that_could_overflow_is_refused_by_name():
    weight = quantised(Settings(weight_bits=8))
    long = dataclasses.replace(
        weight,
        codes=weight.codes.repeat(1, 1 << 12),
        group_multiplier=torch.full_like(weight.group_multiplier, (1 << 16) - 1),
        group_size=weight.group_size << 12,
    )
    activation = ActivationQuantiser(16, True, Scale.nearest(1.0))
    with pytest.raises(
        InputError, match=r"^encoder\.first: its accumulators could take \d+ bits; at most 54 are exact$"
    ):
        QuantisedLinear(long, None, activation, "encoder.first")
    assert QuantisedLinear(weight, None, activation, "encoder.first").bound


def test_gradients_reach_weights_bias_and_inputs():
    linear = nn.Linear(64, 32)
    layer = FakeQuantLinear(
        linear.weight, linear.bias, quantise_weight(linear.weight, Settings(weight_bits=4)), ACTIVATIONS["static"]
    )
    values = inputs().requires_grad_()
    layer(values).square().sum().backward()
    for tensor in (layer.weight, layer.bias, values):
        assert tensor is not None and tensor.grad is not None and bool(tensor.grad.any())
    with torch.no_grad():
        far = values.detach() * 100
    far.requires_grad_()
    layer(far).sum().backward()
    assert far.grad is not None and not bool(far.grad[(far > 300) | (far < -400)].any())


def test_a_step_of_training_lowers_the_loss_of_the_converted_layer():
    torch.manual_seed(0)
    linear, values = nn.Linear(64, 32), inputs()
    target = linear(values).detach()
    like = quantise_weight(linear.weight, Settings(weight_bits=2))
    layer = FakeQuantLinear(linear.weight, linear.bias, like, ACTIVATIONS["static"])

    def loss() -> float:
        return float((layer.convert()(values) - target).square().mean())

    before = loss()
    optimiser = torch.optim.Adam(layer.parameters(), 1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        (layer(values) - target).square().mean().backward()
        optimiser.step()
    assert loss() < 0.7 * before


@pytest.mark.parametrize("activation", ["static", "asymmetric", "none"])
def test_a_loaded_state_decides_the_outputs_also_after_a_first_call(activation):
    def layer(seed: int) -> QuantisedLinear:
        quantiser = ACTIVATIONS[activation]
        if quantiser is not None:
            quantiser = ActivationQuantiser.covering(-3 - seed, 2, 8, quantiser.signed)
        return QuantisedLinear(quantised(Settings(weight_bits=4), seed), torch.full((32,), float(seed)), quantiser)

    a, b = layer(0), layer(1)
    assert not torch.equal(a(inputs()), b(inputs()))
    a.load_state_dict(b.state_dict())
    assert torch.equal(a(inputs()), b(inputs())) and a.bound == b.bound


def test_a_write_through_data_changes_the_outputs():
    layer = QuantisedLinear(quantised(Settings(weight_bits=4)), None, ACTIVATIONS["static"])
    before = layer(inputs())
    layer.get_buffer("codes").data.mul_(-1)
    assert torch.equal(layer(inputs()), -before)


@pytest.mark.parametrize("activation", ["none", "static"])
def test_a_transposed_weight_trains_as_it_converts(activation):
    torch.manual_seed(0)
    weight, values = torch.randn(55, 3).t(), torch.randn(7, 55)
    training = FakeQuantLinear(weight, None, quantise_weight(weight, Settings()), ACTIVATIONS[activation])
    assert torch.equal(training(values), training.convert()(values))
    training.weight = nn.Parameter(weight)
    assert torch.equal(training(values), training.convert()(values))


CHANGES = {
    "half": nn.Module.half, "bfloat16": nn.Module.bfloat16, "double": nn.Module.double,
    "type": lambda m: m.type(torch.float16), "to": lambda m: m.to(torch.bfloat16),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("activation", [None, ActivationQuantiser(8, True)], ids=["real inputs", "tokens"])
def test_another_type_leaves_a_quantised_layer_unchanged_and_is_refused_in_training(change, activation):
    weight, bias = quantised(Settings(weight_bits=4)), torch.randn(32)
    layer, values = QuantisedLinear(weight, bias, activation), torch.randn(5, 64)
    before, state = layer(values), {key: tensor.clone() for key, tensor in layer.state_dict().items()}
    change(layer)
    assert torch.equal(layer(values), before)
    assert all(t.dtype == state[key].dtype and torch.equal(t, state[key]) for key, t in layer.state_dict().items())
    training = FakeQuantLinear(weight.dequantise(torch.float32), bias, weight, activation)
    with pytest.raises(InputError, match=r"a layer in training cannot be changed from torch\.float32 to torch\."):
        change(training)
    assert torch.equal(training(values), before)


def test_autocast_changes_no_output_of_a_layer():
    weight, bias, values = quantised(Settings(weight_bits=4)), torch.randn(32), torch.randn(5, 64)
    for activation in (None, ActivationQuantiser(8, True)):
        for layer in (QuantisedLinear(weight, bias, activation),
                      FakeQuantLinear(weight.dequantise(torch.float32), bias, weight, activation)):  # fmt: skip
            before = layer(values)
            for dtype in (torch.bfloat16, torch.float16):
                with torch.autocast("cpu", dtype):
                    after = layer(values)
                assert after.dtype == before.dtype and torch.equal(after, before)


def test_a_state_whose_integers_were_made_floating_point_is_refused():
    layer = QuantisedLinear(quantised(Settings()), None, None)
    with pytest.raises(InputError, match=r"^codes must be torch\.int8, not torch\.float16$"):
        layer.load_state_dict({key: tensor.half() for key, tensor in layer.state_dict().items()})
