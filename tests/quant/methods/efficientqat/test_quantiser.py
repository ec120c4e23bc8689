"""The trained quantiser: gradients of the paper, and values that are those of the packed integers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant.methods.blocks import Layer
from quant.methods.efficientqat.quantiser import TrainedLinear, TrainedWeight, start, surrogate
from quant.plan import Settings
from quant.primitives.linear import QuantisedLinear
from quant.primitives.quantisers import quantise_weight
from sim.reference import InputError


def _settings(bits: int = 2, group: int = 8, multiplier_bits: int = 8) -> Settings:
    return Settings(
        weight_bits=bits, weight_granularity="group", group_size=group, weight_symmetric=False,
        weight_observer="minmax", multiplier_bits=multiplier_bits, activation_bits=None,
    )  # fmt: skip


@given(st.floats(-3, 3), st.floats(0.05, 2), st.integers(0, 7), st.sampled_from([2, 3]))
def test_gradients_are_the_closed_forms_and_the_finite_differences(w: float, s: float, z: int, bits: int) -> None:
    top = (1 << bits) - 1
    z = min(z, top)
    values = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (w, s, float(z))]
    surrogate(values[0], values[1], values[2], bits).backward()
    found = [float(v.grad) for v in values if v.grad is not None]
    ratio = w / s
    offset = float(torch.floor(torch.tensor(ratio, dtype=torch.float64) + 0.5)) - ratio
    raw = ratio + offset + z
    # on the edges of the range the clamp passes gradients
    inside = -1e-9 <= raw <= top + 1e-9
    wanted = [1.0, offset, 0.0] if inside else [0.0, (0 if raw < 0 else top) - z, -s]
    assert found == pytest.approx(wanted, abs=1e-9)

    def fixed(w: float, s: float, z: float) -> float:
        return (min(max(w / s + offset + z, 0), top) - z) * s

    if 1e-3 < raw < top - 1e-3 or not -1e-3 < raw < top + 1e-3:
        h = 1e-6
        for i in range(3):
            up, down = [w, s, float(z)], [w, s, float(z)]
            up[i], down[i] = up[i] + h, down[i] - h
            assert (fixed(*up) - fixed(*down)) / (2 * h) == pytest.approx(found[i], abs=1e-4)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group", [8, 24, 7])
@pytest.mark.parametrize("multiplier_bits", [4, 8])
def test_a_layer_in_training_equals_the_packed_layer(bits: int, group: int, multiplier_bits: int) -> None:
    torch.manual_seed(bits)
    layer = Layer("linear", nn.Linear(24, 16), _settings(bits, group, multiplier_bits), None)
    trained = TrainedLinear(layer)
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.05)
    for _ in range(4):
        values = torch.randn(5, 24)
        result = trained(values)
        integers = trained.trained.integers()
        assert torch.equal(result, QuantisedLinear(integers, trained.bias, None)(values))
        assert 0 <= int(integers.zero_point.min()) <= int(integers.zero_point.max()) < 1 << bits
        optimiser.zero_grad()
        result.square().sum().backward()
        assert all(p.grad is not None for p in trained.parameters())
        optimiser.step()


def test_zero_points_that_train_out_of_range_are_packed_inside_it() -> None:
    trained = TrainedWeight(torch.randn(4, 16), _settings())
    with torch.no_grad():
        trained.zero.copy_(torch.linspace(-9, 9, trained.zero.numel()).reshape(trained.zero.shape))
    zero = trained.integers().zero_point
    assert int(zero.min()) == 0 and int(zero.max()) == 3
    assert torch.equal(trained(), trained.integers().dequantise())


def test_the_start_is_rounding_to_nearest_and_the_search_is_no_worse() -> None:
    matrix = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    settings = _settings(group=16)
    covering, searched = (TrainedWeight(matrix, settings, s).integers().dequantise() for s in (False, True))
    nearest = quantise_weight(matrix, settings).dequantise()
    errors = [float((made - matrix).square().sum()) for made in (covering, searched, nearest)]
    assert errors[0] == pytest.approx(errors[2], rel=1e-3)
    assert errors[1] < 0.8 * errors[0]
    assert start(matrix, settings, 16, False)[0].shape == (32, 4)


def test_symmetric_weights_and_quantised_inputs_are_refused() -> None:
    from quant.primitives.quantisers import ActivationQuantiser

    with pytest.raises(InputError, match="must be asymmetric"):
        TrainedWeight(torch.randn(4, 4), Settings())
    with pytest.raises(InputError, match="linear: inputs must be floating point"):
        TrainedLinear(Layer("linear", nn.Linear(4, 4), _settings(), ActivationQuantiser(8)))
