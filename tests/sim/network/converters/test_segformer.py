"""SegFormer in integers: close to the model, equal to the specification at every site, saved and loaded."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sim.network import packed
from sim.network.convert import convert, names
from sim.network.converters.describe import describe
from sim.network.integer_only import require_integer
from sim.network.operators.base import set_mode
from sim.reference import InputError
from tests.sim.network.models import EXACT, image_batches, plan, segformer
from tests.sim.network.specification import require_specified


def outputs(model: Any, network: Any, side: int = 32) -> tuple[Tensor, Tensor]:
    """Those of the model and of the network, for images that calibration did not see."""
    [batch] = image_batches(1, side=side, seed=9)
    with torch.no_grad():
        expected, got = model(**batch), network(**batch).last_hidden_state
    return expected.logits if "logits" in expected else expected.last_hidden_state, got


@pytest.mark.parametrize("kind, others", [("ForSemanticSegmentation", {"input", "concat"}), ("Model", {"input"})])
def test_every_site_equals_the_specification_and_the_network_is_close(tmp_path, kind, others):
    model, [batch] = segformer(kind), image_batches(1, side=32, seed=9)
    network = convert(model, plan(EXACT), image_batches(side=32))
    assert require_specified(network, batch) == others
    assert require_integer(network, **batch).products > 15
    expected, got = outputs(model, network)
    assert got.shape == expected.shape and float((expected - got).norm() / expected.norm()) < 0.05
    packed.save(network, tmp_path)
    assert torch.equal(packed.load(tmp_path).codes(**batch), network.codes(**batch))


def test_a_model_that_has_run_converts_to_the_same_network():
    model, [batch] = segformer(), image_batches(1, side=32)
    with torch.no_grad():
        model(**batch)  # transformers leaves hooks behind
    first, second = (convert(model, plan(), image_batches(side=32)) for _ in range(2))
    assert torch.equal(first.codes(**batch), second.codes(**batch))
    model.get_submodule("segformer.stages.0").register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match=r"segformer.stages.0: forward hooks have no integer operator"):
        describe(model)


def test_an_image_may_have_another_size_than_those_of_calibration():
    model = segformer()
    network = convert(model, plan(EXACT), image_batches(side=32))
    expected, got = outputs(model, network, side=40)  # 10 and 5 tokens to a side
    assert float((expected - got).norm() / expected.norm()) < 0.06
    with pytest.raises(InputError, match="an image's side must have at least 1 pixels, not 0"):
        network(pixel_values=torch.zeros(1, 3, 0, 8))


def test_a_stage_that_is_not_reshaped_gives_tokens():
    model = segformer("Model", reshape_last_stage=False)
    network = convert(model, plan(EXACT), image_batches(side=32))
    expected, got = outputs(model, network)
    assert got.shape == expected.shape == (2, 16, 32) and float((expected - got).norm() / expected.norm()) < 0.05


def test_training_sees_the_integer_network_and_reaches_every_parameter():
    model, [batch] = segformer(), image_batches(1, side=32)
    network = convert(model, plan(), image_batches(side=32))
    codes = network.codes(**batch)
    set_mode(network, "fake")
    got = network.stream(**batch)
    assert torch.equal(network.last.outputs[0].codes(got), codes)
    (got * torch.randn(got.shape)).sum().backward()
    for name, parameter in model.named_parameters():
        zero = name.endswith("k_proj.bias")  # softmax does not see the keys' bias
        assert parameter.grad is not None and (zero or parameter.grad.abs().max() > 0), name


def test_the_plan_speaks_of_the_models_own_names():
    found = names(describe(segformer()))
    known = {name for name, _ in segformer().named_modules()}
    assert {name for name in found if not name.endswith(".softmax")} <= known
    assert "segformer.stages.0.blocks.0.mlp.dwconv.dwconv" in found and "decode_head.classifier" in found


def test_weights_of_four_bits_in_groups_work_in_convolutions():
    grouped = plan(EXACT, weight_bits=4, weight_granularity="group", group_size=16, weight_symmetric=False)
    model, [batch] = segformer(), image_batches(1, side=32)
    network = convert(model, grouped, image_batches(side=32))
    assert require_specified(network, batch) == {"input", "concat"}
    expected, got = outputs(model, network)
    assert float((expected - got).norm() / expected.norm()) < 0.5
