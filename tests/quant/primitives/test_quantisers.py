"""Quantisers: half up, saturating, exact; the fake-quantised value is the integer one with no tolerance."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.plan import Settings
from quant.primitives.quantisers import (
    ActivationQuantiser,
    QuantisedWeight,
    fake_quantise,
    quantise,
    quantise_weight,
    recode,
    round_half_up,
)
from quant.primitives.scales import Scale
from sim.reference.arithmetic import code_range

GRANULARITIES = [dict(weight_granularity="tensor"), dict(weight_granularity="channel"),
                 dict(weight_granularity="group", group_size=8), dict(weight_granularity="group", group_size=13),
                 dict(weight_granularity="group", group_size=8, multiplier_bits=16)]  # fmt: skip
ALL = [
    Settings(weight_bits=bits, weight_symmetric=symmetric, weight_observer=observer, **granularity)
    for bits, symmetric, observer, granularity in itertools.product(
        range(2, 9), (True, False), ("minmax", "mse"), GRANULARITIES
    )
]


def label(settings: Settings) -> str:
    """What of the settings differs from the default."""
    changed = (f for f in dataclasses.fields(settings) if getattr(settings, f.name) != f.default and f.name != "tables")
    return ",".join(f"{f.name}={getattr(settings, f.name)}" for f in changed) or "default"


def weights(seed: int = 0, shape: tuple[int, int] = (6, 40)) -> torch.Tensor:
    """Channels and groups of very different size, one channel and one group of nothing but zeros."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-3, 1, shape[0])[:, None]
    weight[:, ::3] *= 4
    weight[0], weight[1, :8] = 0, 0
    return weight


@given(st.floats(-1e9, 1e9), st.sampled_from([torch.float32, torch.float64]))
def test_rounding_is_half_up_exactly(value, dtype):
    number = torch.tensor(value, dtype=dtype)
    assert int(round_half_up(number)) == (Fraction(number.item()) + Fraction(1, 2)).__floor__()


def test_rounding_where_adding_a_half_would_round_twice():
    just_below = torch.tensor([0.49999997, 8388609.0, -0.5, -0.50000006, 2.5])
    assert round_half_up(just_below).tolist() == [0, 8388609, 0, -1, 3]


def exact_codes(weight: torch.Tensor, q: QuantisedWeight) -> np.ndarray:
    """The codes in fractions, one weight at a time: an independent reading of the definition."""
    low, high = code_range(q.bits, q.signed)
    codes = np.empty(weight.shape, dtype=np.int64)
    for o, i in np.ndindex(*weight.shape):
        g = i // q.group_size
        step = Fraction(int(q.scale.multiplier[o]), 1 << int(q.scale.shift[o])) * int(q.group_multiplier[o, g])
        # the quotient is rounded once to float64 by definition
        rounded = (Fraction(float(Fraction(weight[o, i].item()) / step)) + Fraction(1, 2)).__floor__()
        codes[o, i] = min(max(rounded + int(q.zero_point[o, g]), low), high)
    return codes


@pytest.mark.parametrize("settings", ALL[::7], ids=label)
def test_codes_are_those_of_the_definition(settings):
    weight = weights(shape=(4, 27))
    quantised = quantise_weight(weight, settings)
    assert np.array_equal(quantised.codes.numpy(), exact_codes(weight, quantised))


@pytest.mark.parametrize("settings", ALL, ids=label)
def test_every_field_is_what_the_hardware_can_hold(settings):
    q = quantise_weight(weights(), settings)
    low, high = code_range(settings.weight_bits, settings.weight_symmetric)
    top = (1 << settings.multiplier_bits) - 1 if settings.weight_granularity == "group" else 1
    assert int(q.codes.min()) >= low and int(q.codes.max()) <= high
    assert q.codes.dtype == (torch.int8 if settings.weight_symmetric else torch.uint8)
    assert int(q.group_multiplier.min()) >= 1 and int(q.group_multiplier.max()) <= top
    zero_top = 0 if settings.weight_symmetric else high
    assert int(q.zero_point.min()) >= 0 and int(q.zero_point.max()) <= zero_top
    assert q.group_multiplier.shape == q.zero_point.shape == (6, -(-40 // q.group_size))


@pytest.mark.parametrize("settings", ALL, ids=label)
def test_fake_quantised_weights_equal_the_integer_ones(settings):
    weight = weights()
    q = quantise_weight(weight, settings)
    step = q.spread(q.group_multiplier).double() * q.scale.value[:, None]
    fake = fake_quantise(weight.double(), step, q.spread(q.zero_point), q.bits, q.signed)
    torch.testing.assert_close(fake, q.dequantise(torch.float64), atol=0, rtol=0)
    assert torch.equal(recode(q.dequantise(torch.float64), q).codes, q.codes), "quantised weights stay where they are"


@pytest.mark.parametrize("settings", [s for s in ALL if s.weight_observer == "minmax"][::3], ids=label)
def test_rounding_errors_are_at_most_half_a_step_where_the_range_is_covered(settings):
    weight = weights()
    q = quantise_weight(weight, settings)
    step = q.spread(q.group_multiplier).double() * q.scale.value[:, None]
    # the integer scale may be a little below the real one: the ends of the range saturate by that much
    real = weight.abs().amax(1, keepdim=True).double()
    relative = 0.5 if settings.weight_granularity == "group" else 2.0**-15
    reach = (1 << settings.weight_bits) * step * relative
    assert bool(((q.dequantise(torch.float64) - weight).abs() <= step / 2 + reach.clamp(max=real)).all())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_mse_search_is_no_worse_than_covering_and_groups_no_worse_than_channels(bits, symmetric):
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(bits))

    def error(**settings) -> float:
        made = quantise_weight(weight, Settings(weight_bits=bits, weight_symmetric=symmetric, **settings))
        return float((made.dequantise(torch.float64) - weight).square().mean())

    covering = error(weight_observer="minmax")
    channel = error()
    group = error(weight_granularity="group", group_size=32)
    tensor = error(weight_granularity="tensor")
    assert channel < covering and group < channel <= tensor


def test_large_matrices_are_searched_in_parts_with_the_same_result(monkeypatch):
    settings = Settings(weight_bits=4, weight_granularity="group", group_size=8)
    whole = quantise_weight(weights(), settings)
    monkeypatch.setattr("quant.primitives.quantisers.CHUNK", 100)
    parts = quantise_weight(weights(), settings)
    assert torch.equal(parts.codes, whole.codes) and torch.equal(parts.group_multiplier, whole.group_multiplier)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_quantised_as_the_numbers_they_are(dtype):
    weight = weights().to(dtype)
    for settings in ALL[::11]:
        assert torch.equal(quantise_weight(weight, settings).codes, quantise_weight(weight.float(), settings).codes)


@given(st.integers(2, 16), st.booleans(), st.floats(0.01, 100), st.integers(0, 2**32))
def test_static_activations_are_exact_and_cover_their_range(bits, symmetric, width, seed):
    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * width
    quantiser = ActivationQuantiser.covering(float(values.min()), float(values.max()), bits, symmetric)
    scale, zero = quantiser.parameters(values)
    codes = quantiser.codes(values)
    torch.testing.assert_close(quantiser.fake(values), (codes - zero) * scale, atol=0, rtol=0)
    low, high = code_range(bits, symmetric)
    assert low <= int(codes.min()) and int(codes.max()) <= high
    # rounding of the zero point moves the range by half a step, that of the scale by 2**-16 of the range
    assert float((quantiser.fake(values) - values).abs().max()) <= float(scale) * (1.01 + 2.0 ** (bits - 15))


@given(st.integers(2, 8), st.booleans(), st.integers(0, 2**32))
def test_each_token_has_the_scale_that_it_alone_would_have(bits, symmetric, seed):
    values = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-2, 2, 3)[:, None]
    values[1, 2] = 0
    quantiser = ActivationQuantiser(bits, symmetric)
    scale, zero = quantiser.parameters(values)
    assert scale.shape == zero.shape == (2, 3, 1)
    torch.testing.assert_close(quantiser.fake(values), (quantiser.codes(values) - zero) * scale, atol=0, rtol=0)
    for b, t in itertools.product(range(2), range(3)):
        row = values[b, t]
        alone = ActivationQuantiser.covering(float(row.min()), float(row.max()), bits, symmetric)
        assert torch.equal(alone.codes(row), quantiser.codes(values)[b, t])


def test_gradients_pass_where_the_value_is_inside_and_stop_where_it_saturates():
    values = torch.tensor([-9.0, -0.3, 0.2, 9.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    fake_quantise(values, scale, 0, 4, True).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0, 1, 1, 0]
    # LSQ: the code where saturated, else code - value / scale
    expected = -8 + (-1 + 0.6) + (0 - 0.4) + 7
    assert scale.grad is not None and float(scale.grad) == pytest.approx(expected)


def test_a_code_is_that_of_the_integer_scale():
    scale = Scale.nearest(0.1)
    assert scale.value.item() != 0.1
    values = torch.tensor([0.05, 0.15, 12.65, -12.85], dtype=torch.float64)
    expected = [(Fraction(v) / Fraction(scale.value.item()) + Fraction(1, 2)).__floor__() for v in values.tolist()]
    assert quantise(values, scale.value, 0, 16, True).tolist() == expected


@pytest.mark.parametrize("size", [None, 4])
def test_a_row_of_zeros_takes_the_largest_scale_of_the_others(size):
    weight = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)) * 0.01
    weight[1] = 0
    settings = Settings(group_size=size, weight_granularity="group" if size else "channel")
    scale = quantise_weight(weight, settings).scale.value
    assert float(scale[1]) == float(scale[[0, 2, 3]].max()) < 0.01
    assert bool((quantise_weight(torch.zeros(2, 8), settings).scale.value > 0).all())
