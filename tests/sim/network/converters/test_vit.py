"""ViT, DeiT and DINOv2 in integers: close to the model, equal to the specification at every site, saved and loaded."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn

import quant
from quant import Plan, Rule
from sim.network import packed
from sim.network.convert import convert
from sim.network.integer_only import require_integer
from sim.network.operators.base import set_mode
from sim.reference import InputError
from tests.sim.network.models import EXACT, image_batches, plan, vision_transformer
from tests.sim.network.specification import require_specified

KINDS = ["ViT", "DeiT", "Dinov2"]


def difference(model: nn.Module, network: nn.Module) -> float:
    """Relative root mean square difference on images that calibration did not see."""
    [batch] = image_batches(1, seed=9)
    with torch.no_grad():
        expected, got = model(**batch).last_hidden_state, network(**batch).last_hidden_state
    return float((expected - got).norm() / expected.norm())


@pytest.mark.parametrize("granularity", ["token", "tensor"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_site_equals_the_specification_and_the_network_is_close(tmp_path, kind, granularity):
    model, [batch] = vision_transformer(kind), image_batches(1, seed=9)
    network = convert(model, plan(activation_granularity=granularity), image_batches())
    assert require_specified(network, batch) == {"input", "embedding"}
    assert require_integer(network, **batch).products > 20
    assert difference(model, network) < 0.15
    packed.save(network, tmp_path)
    assert torch.equal(packed.load(tmp_path).codes(**batch), network.codes(**batch))


@pytest.mark.parametrize("kind", KINDS)
def test_with_exact_functions_the_network_is_closer(kind):
    model = vision_transformer(kind)
    assert difference(model, convert(model, plan(EXACT), image_batches())) < 0.05


def test_training_sees_the_integer_network_and_reaches_every_parameter():
    model, [batch] = vision_transformer("Dinov2"), image_batches(1)
    network = convert(model, plan(), image_batches())
    codes = network.codes(**batch)
    set_mode(network, "fake")
    got = network.stream(**batch)
    assert torch.equal(network.last.outputs[0].codes(got), codes)
    (got * torch.randn(got.shape)).sum().backward()
    parameters = dict(model.named_parameters())
    parameters.pop("embeddings.mask_token")
    for name, parameter in parameters.items():
        zero = name.endswith("k_proj.bias")  # softmax does not see the keys' bias
        assert parameter.grad is not None and (zero or parameter.grad.abs().max() > 0), name
    with torch.no_grad():
        parameters["encoder.layer.1.layer_scale1.lambda1"].mul_(0.5)
    set_mode(network, "integer")
    assert not torch.equal(network.codes(**batch), codes)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_layer_scale_behind_a_quantised_layer_keeps_the_codes_but_for_their_sign(symmetric):
    model: Any = vision_transformer("Dinov2")
    settings = dict(weight_bits=4, weight_granularity="group", group_size=16, weight_symmetric=symmetric)
    rules = (Rule("encoder.*", weight_observer="minmax", activation_bits=None, **settings),)
    scale = model.encoder.layer[0].layer_scale1.lambda1
    assert (scale > 0).any() and (scale < 0).any()
    quantised: Any = quant.quantize(model, Plan(rules), image_batches())
    network = convert(quantised, plan(EXACT), image_batches())
    given, kept = quantised.encoder.layer[0].attention.o_proj.weight, network["layers.0.out"].weights[0]
    turned = -given.codes if symmetric else 15 - given.codes
    assert torch.equal(kept.codes, torch.where((scale < 0)[:, None], turned, given.codes))
    assert difference(quantised, network) < 0.05


def test_the_head_stays_outside():
    base: Any = vision_transformer("ViT")
    whole: Any = transformers.ViTForImageClassification(base.config).eval()
    network, [batch] = convert(whole, plan(EXACT), image_batches()), image_batches(1)
    with torch.no_grad():
        expected, got = whole(**batch).logits, whole.classifier(network(**batch).last_hidden_state[:, 0])
    assert float((expected - got).norm() / expected.norm()) < 0.05


def test_what_has_no_integer_operator_is_refused_in_one_line():
    with pytest.raises(InputError, match="config: use_swiglu_ffn must be False for the integer network, not True"):
        convert(vision_transformer("Dinov2", use_swiglu_ffn=True), plan(), image_batches())
    with pytest.raises(InputError, match=r"config: hidden_act must be one of .*, not 'tanh'"):
        convert(vision_transformer("ViT", hidden_act="tanh"), plan(), image_batches())
    network = convert(vision_transformer("ViT"), plan(), image_batches())
    with pytest.raises(InputError, match=r"pixel_values must be \(batch, 3, 16, 16\), not \(2, 3, 12, 12\)"):
        network(**image_batches(1, side=12)[0])
    with pytest.raises(InputError, match="interpolate_pos_encoding is not supported"):
        network(**image_batches(1)[0], interpolate_pos_encoding=True)


def test_a_float_behind_the_boundary_is_found(monkeypatch):
    network, [batch] = convert(vision_transformer("ViT"), plan(), image_batches()), image_batches(1)
    add = network["add"]
    honest = add.integer
    monkeypatch.setattr(add, "integer", lambda a, b: honest(a.double().to(torch.int16), b))
    with pytest.raises(InputError, match="floating point"):
        require_integer(network, **batch)
