"""The linear-attention network in integers: close to the model, equal to the specification at every site."""

import pytest
import torch
from torch import nn

from quant.zoo.linear_attention import LinearAttentionSegmenter, scene_segmenter
from sim.network import packed
from sim.network.convert import convert, functions
from sim.network.converters.describe import describe
from sim.network.integer_only import require_integer
from sim.network.operators.base import set_mode
from sim.reference import InputError
from tests.sim.network.models import EXACT, TABLES, image_batches, plan, spread
from tests.sim.network.specification import require_specified

HSWISH = {**TABLES, "hswish": "exact"}


def segmenter() -> LinearAttentionSegmenter:
    """The network with weights of unit gain and batch norms that are not trivial."""
    model = spread(scene_segmenter())
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            with torch.no_grad():
                noise = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(noise * module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5, generator)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.running_var, 0.5, 2, generator)  # pyright: ignore[reportArgumentType]
    return model


@pytest.mark.parametrize("tables", [EXACT, HSWISH])
def test_every_site_equals_the_specification_and_the_network_is_close(tmp_path, tables):
    model, [batch] = segmenter(), image_batches(1, channels=1, seed=9)
    network = convert(model, plan(tables), image_batches(channels=1))
    assert functions(network) == ["hswish", "div"]
    assert require_specified(network, batch) == {"input", "concat", "split"}
    assert require_integer(network, **batch).products > 20
    with torch.no_grad():
        expected, got = model(**batch), network(**batch).last_hidden_state
    assert float((expected - got).norm() / expected.norm()) < 0.05
    packed.save(network, tmp_path)
    assert torch.equal(packed.load(tmp_path).codes(**batch), network.codes(**batch))


def test_training_sees_the_integer_network_and_reaches_every_parameter():
    model, [batch] = segmenter(), image_batches(1, channels=1)
    network = convert(model, plan(EXACT), image_batches(channels=1))
    codes = network.codes(**batch)
    set_mode(network, "fake")
    got = network.stream(**batch)
    assert torch.equal(network.last.outputs[0].codes(got), codes)
    (got * torch.randn(got.shape)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_more_tokens_than_the_divisor_is_wide_for_are_refused():
    network = convert(segmenter(), plan(EXACT), image_batches(channels=1))
    name = "stages.1.1.heads.plain.attend"
    network[name].tokens = 15
    with pytest.raises(InputError, match=r"plain.attention: there must be 1\.\.15 tokens, not 16"):
        network(**image_batches(1, channels=1)[0])


def test_the_names_are_the_models_own():
    known = {name for name, _ in segmenter().named_modules()}
    found = [name for operator in describe(segmenter()).operators() for name in operator.claims()]
    assert set(found) <= known and "stages.1.1.gather" in found
