"""Observers: what many batches tell is what one batch of all would tell; bad values name the module."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant.plan import Settings
from quant.primitives.observers import (
    BINS,
    ExponentObserver,
    HistogramObserver,
    MinMaxObserver,
    MseObserver,
    Observer,
    PercentileObserver,
    observe,
    observer_for,
    token_mask,
)
from quant.primitives.quantisers import ActivationQuantiser
from sim.reference import InputError
from tests.quant.models import encoder

KINDS = [MinMaxObserver, PercentileObserver, MseObserver, ExponentObserver]


def fed(observer, *batches):
    for batch in batches:
        observer.update(batch)
    return observer


def bell(seed: int, size: int = 4000, width: float = 1.0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * width


@given(st.integers(0, 2**32), st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=4))
def test_the_histogram_of_batches_is_that_of_all_at_once_at_the_final_width(seed, widths):
    batches = [bell(seed + i, 50, width) for i, width in enumerate(widths)]
    ordered = sorted(batches, key=lambda b: -float(b.abs().max()))
    one = fed(HistogramObserver("x"), torch.cat(batches))
    wide_first, any_order = fed(HistogramObserver("x"), *ordered), fed(HistogramObserver("x"), *batches)
    assert one.exponent == any_order.exponent and int(one.counts.sum()) == 50 * len(widths)
    assert torch.equal(one.counts, wide_first.counts) and torch.equal(one.counts, any_order.counts)


def test_zeros_first_lose_nothing():
    observer = fed(HistogramObserver("x"), torch.zeros(5), torch.tensor([1.0, -3.0]))
    assert int(observer.counts.sum()) == 7 and int(observer.counts[BINS // 2]) == 5


def test_min_max_covers_everything_and_the_percentile_leaves_out_its_share():
    values = torch.cat([bell(0, 99990), torch.full((10,), 50.0)])
    assert fed(MinMaxObserver("x"), values).range() == (float(values.min()), 50.0)
    low, high = fed(PercentileObserver("x", percentile=99.9), *values.split(1000)).range()
    outside = int(((values < low) | (values > high)).sum())
    assert 50 <= outside <= 100 and high < 4


def test_the_mse_range_has_less_error_than_covering_when_there_are_outliers():
    values = torch.cat([bell(1, 10_000), torch.full((3,), 40.0)]).double()

    def error(observer) -> float:
        return float((fed(observer, values).quantiser().fake(values) - values).square().sum())

    assert error(MseObserver("x", 4)) < error(MinMaxObserver("x", 4)) / 2
    # the histogram's choice against the errors themselves
    direct = min(
        float((ActivationQuantiser.covering(float(values.min()) * p / 100, 0.4 * p, 4, True).fake(values) - values)
              .square().sum())
        for p in range(1, 101)
    )  # fmt: skip
    assert error(MseObserver("x", 4)) <= 1.02 * direct


@given(st.integers(0, 2**32), st.floats(0.05, 20))
def test_the_exponent_is_that_of_the_least_squared_error(seed, width):
    batches = bell(seed, 300, width).double().split(100)
    observer = fed(ExponentObserver("x"), *batches)

    def error(s: int) -> float:
        values = torch.cat(batches)
        return float(((torch.floor(values * 2.0**s + 0.5).clamp(-128, 127)) * 2.0**-s - values).square().sum())

    assert error(observer.best()) == pytest.approx(min(map(error, range(8))), rel=1e-9)
    assert observer.errors[3] == pytest.approx(error(3), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_name_the_module(kind, bad):
    with pytest.raises(InputError, match=r"^encoder\.0: 1 of 4 calibration values are NaN or infinite$"):
        kind("encoder.0").update(torch.tensor([1.0, bad, 2.0, 3.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_observer_that_saw_nothing_says_so(kind):
    observer = kind("encoder.0")
    observer.update(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"^encoder\.0: calibration never reached it; more data may"):
        observer.best() if isinstance(observer, ExponentObserver) else observer.quantiser()


def test_settings_choose_the_observer():
    for name, kind in (("minmax", MinMaxObserver), ("percentile", PercentileObserver), ("mse", MseObserver)):
        assert type(observer_for("x", Settings(activation_observer=name))) is kind
    chosen = observer_for("x", Settings(activation_bits=4, activation_symmetric=False))
    assert (chosen.bits, chosen.symmetric) == (4, False)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.first, self.second = nn.Embedding(10, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.drop = nn.Dropout(0.9)

    def forward(self, input_ids, attention_mask=None):
        return self.second(self.drop(self.first(self.embed(input_ids))))


def test_observing_leaves_out_padding_and_puts_the_model_back_as_it_was():
    torch.manual_seed(0)
    model = Net()
    model.embed.weight.data[9] = 1e6  # the padding token
    ids = torch.tensor([[1, 2, 9], [3, 9, 9]])
    mask = (ids != 9).long()
    model.train()
    model.second.eval()
    observer = MinMaxObserver("first")
    observe(model, {"first": observer}, [{"input_ids": ids, "attention_mask": mask}])
    assert observer.seen == 3 * 4 and observer.high < 10
    assert model.training and model.drop.training and not model.second.training
    assert not model.first._forward_pre_hooks


def test_nan_in_the_model_is_one_line_with_the_module_that_first_sees_it():
    model = Net()
    model.first.weight.data[0, 0] = float("nan")
    observers = {name: MinMaxObserver(name) for name in ("first", "second")}
    with pytest.raises(InputError, match=r"^second: \d+ of \d+ calibration values are NaN"):
        observe(model, observers, [{"input_ids": torch.tensor([[1, 2]])}])
    assert not model.first._forward_pre_hooks


@pytest.mark.parametrize("mask", [
    torch.tensor([1, 1, 0]).bool()[None, None, None], torch.tensor([0.0, 0.0, -torch.inf])[None, None, None],
    torch.tensor([0.0, 0.0, torch.finfo(torch.float32).min]).expand(1, 2, 3, 3), torch.tensor([[1, 1, 0]]),
])  # fmt: skip
def test_masks_of_any_form_keep_the_same_tokens(mask):
    kept = token_mask({"attention_mask": mask})
    assert kept is not None and kept.tolist() == [[True, True, False]]


@pytest.mark.parametrize("ids, message", [
    (torch.tensor([[1, 20]]), r"^data: embedding takes 0\.\.19, not 1\.\.20$"),
    (torch.tensor([[-1, 2]]), r"^data: embedding takes 0\.\.19, not -1\.\.2$"),
    (torch.tensor([[1.0, 2.0]]), r"^data: embedding takes integers, not torch\.float32$"),
])  # fmt: skip
def test_ids_that_are_no_rows_of_the_embedding_are_one_line(ids, message):
    with pytest.raises(InputError, match=message):
        observe(encoder(), {"first": Observer("first")}, [{"input_ids": ids}])
