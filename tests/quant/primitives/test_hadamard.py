"""The Hadamard transform of a layer's inputs and weights: the products stay, and integers equal the specification."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import quant
from quant.exchange import export_compressed_tensors, export_gptq
from quant.formats.packed_schema import require_details
from quant.methods.blocks import quantize_blocks
from quant.methods.gptq import Gptq
from quant.plan import Plan, Rule, Settings
from quant.pretrained import from_pretrained, pack_model, save_pretrained
from quant.primitives.hadamard import block_of, butterflies, rotate
from quant.primitives.linear import FakeQuantLinear, QuantisedLinear
from quant.primitives.quantisers import ActivationQuantiser, quantise_weight
from sim.reference import InputError
from sim.reference.hadamard import butterflies as specified
from tests.quant.models import batches, encoder


def activation(model: nn.Module, name: str) -> ActivationQuantiser:
    found = model.get_submodule(name)
    assert isinstance(found, QuantisedLinear) and found.activation is not None
    return found.activation


ROTATED = Plan((Rule("first|second", weight_bits=4, activation_bits=4, hadamard=True), Rule("second", hadamard=8)))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_on_integers_it_is_the_specification(dtype):
    x = torch.randint(-(1 << 15), 1 << 15, (2, 3, 3 * 64), generator=torch.Generator().manual_seed(0))
    assert np.array_equal(butterflies(x.to(dtype), 64).numpy(), specified(x.numpy(), 64))


def test_the_rotation_is_its_own_inverse_and_keeps_every_product():
    x, weight = torch.randn(5, 48, dtype=torch.float64), torch.randn(7, 48, dtype=torch.float64)
    assert rotate(x, None) is x
    for block in (2, 16):
        torch.testing.assert_close(rotate(rotate(x, block), block), x)
        torch.testing.assert_close(rotate(x, block) @ rotate(weight, block).t(), x @ weight.t())


def test_the_block_is_the_plan_s_or_the_largest_that_divides_the_inputs():
    assert block_of(Settings(), 384) is None
    assert block_of(Settings(hadamard=True), 384) == 128
    assert block_of(Settings(hadamard=32), 384) == 32
    assert Plan.from_json(ROTATED.to_json()) == ROTATED


@pytest.mark.parametrize("kind", [ActivationQuantiser(4), ActivationQuantiser.covering(-9, 9, 8, True)])
def test_the_layer_in_training_equals_the_converted_one_and_gradients_reach_the_inputs(kind):
    rotating = replace(kind, hadamard=16)
    linear, values = nn.Linear(48, 6), torch.randn(4, 48, requires_grad=True)
    matrix = rotate(linear.weight.detach(), 16)
    like = quantise_weight(matrix, Settings(weight_bits=4))
    training = FakeQuantLinear(matrix, linear.bias, like, rotating)
    found = training(values)
    torch.testing.assert_close(found, training.convert()(values), atol=0, rtol=0)
    found.square().sum().backward()
    assert values.grad is not None and bool(values.grad.any())


def test_it_spreads_an_outlier_so_that_4_bits_hold_the_others():
    torch.manual_seed(0)
    linear, values = nn.Linear(64, 32, bias=False), torch.randn(50, 64)
    values[:, 5] *= 30
    wanted, errors = linear(values).detach(), {}
    for block in (None, 64):
        weight = quantise_weight(rotate(linear.weight.detach(), block), Settings(weight_bits=8))
        layer = QuantisedLinear(weight, None, ActivationQuantiser(4, hadamard=block))
        errors[block] = float((layer(values) - wanted).square().mean())
    assert errors[64] < 0.3 * errors[None]


def test_a_model_keeps_the_rotation_when_it_is_packed_and_loaded(tmp_path):
    made = quant.quantize(encoder(), ROTATED, batches())
    blocks = {name: activation(made, name).hadamard for name in ("first", "second")}
    assert blocks == {"first": 16, "second": 8}
    save_pretrained(made, tmp_path)
    loaded = from_pretrained(tmp_path, encoder(1))
    for batch in batches(9):
        torch.testing.assert_close(loaded(**batch), made(**batch), atol=0, rtol=0)
    with pytest.raises(InputError, match="first: its inputs are transformed by hadamard, which the layout of GPTQ"):
        export_gptq(tmp_path, tmp_path / "gptq")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"first: .* by hadamard, which the layout of compressed-tensors"):
        export_compressed_tensors(tmp_path, tmp_path / "compressed")
    assert not (tmp_path / "gptq").exists() and not (tmp_path / "compressed").exists()


def test_static_scales_are_those_of_the_rotated_inputs():
    made = quant.quantize(encoder(), ROTATED, batches())
    seen: list[torch.Tensor] = []
    model = encoder()
    model.first.register_forward_pre_hook(lambda _, given: seen.append(rotate(given[0], 16)))
    for batch in batches():
        model(**batch)
    masks = [batch["attention_mask"].bool() for batch in batches()]
    largest = max(float(x[mask].abs().max()) for x, mask in zip(seen, masks, strict=True))
    scale = activation(made, "first").scale
    assert scale is not None and float(scale.value) == pytest.approx(largest / 7, rel=1e-4)


def test_gptq_makes_up_for_errors_behind_the_rotation():
    layers = [nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(2)]

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    torch.manual_seed(0)
    data = [{"x": torch.randn(40, 16)}]
    plan = Plan.uniform(weight_bits=3, activation_bits=8, activation_granularity="token", hadamard=True)
    model = Stack().eval()
    wanted = model(**data[0])
    errors = []
    for made in (quant.quantize(model, plan, data), quantize_blocks(model, plan, quant.calibration.load(data), Gptq())):
        errors.append(float((made(**data[0]) - wanted).square().mean()))
    assert errors[1] < errors[0]


def test_what_cannot_be_rotated_is_one_line():
    with pytest.raises(InputError, match=r"^hadamard needs activation_bits"):
        Settings(hadamard=True, activation_bits=None)
    with pytest.raises(InputError, match=r"^first: hadamard: a block of 64 must divide the 16 inputs$"):
        quant.quantize(encoder(), Plan.uniform(skip="head", hadamard=64, activation_granularity="token"))
    with pytest.raises(InputError, match=r"^head: is tied to an embedding, which has no inputs"):
        quant.quantize(encoder(), Plan.uniform(hadamard=True, activation_granularity="token"))
    with pytest.raises(InputError, match=r"^linear: a block of 64 must divide the 32 inputs$"):
        weight = quantise_weight(torch.ones(4, 32), Settings())
        QuantisedLinear(weight, None, ActivationQuantiser(8, hadamard=64))
    packed = pack_model(quant.quantize(encoder(), ROTATED, batches()))
    row = packed.details["layers"]["first"]
    row["activation"]["hadamard"] = 3
    with pytest.raises(InputError, match=r"activation\.hadamard must be a power of two, not 3"):
        require_details(packed.details, packed.tensors, packed.weights)
