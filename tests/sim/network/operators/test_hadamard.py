"""The Hadamard transform in a network: before the layers that a plan names, equal to the specification, and packed."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import quant
from quant import Plan, Rule
from quant.primitives.hadamard import rotate
from sim.cosim.options import BenchOptions
from sim.cosim.run import run_bulk
from sim.network import packed
from sim.network.convert import calibrate, convert, quantise
from sim.network.graph import Network
from sim.network.integer_only import require_integer
from sim.network.operators.base import set_mode
from sim.network.operators.hadamard import Hadamard
from sim.network.recorded_vectors import network_sets
from sim.reference import InputError
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import bert, plan, token_batches
from tests.sim.network.specification import require_specified

W4A4: dict[str, Any] = dict(
    weight_bits=4, weight_granularity="group", group_size=16, multiplier_bits=6, activation_bits=4
)


def transforms(network: Network) -> dict[str, int]:
    return {step.name: step.block for step in network.operators() if isinstance(step, Hadamard)}


def test_each_operator_of_linear_layers_has_one_before_it():
    pytest.importorskip("transformers", reason="the models are those of transformers")
    network = convert(bert(), plan(hadamard=True), token_batches())
    assert [*transforms(network).values()] == [32, 32, 32, 16] * 2  # q, k and v share one; 48 = 3 x 16
    down = Rule(".*output.dense", hadamard=8)
    assert [*transforms(convert(bert(), Plan((*plan().rules, down)), token_batches())).values()] == [8] * 4


@pytest.mark.parametrize(
    "settings", [W4A4, {"activation_granularity": "tensor"}, {"activation_granularity": "tensor", **W4A4}]
)
def test_bert_equals_the_specification_in_every_mode_and_comes_back_from_its_folder(settings, tmp_path: Path):
    pytest.importorskip("transformers", reason="the models are those of transformers")
    network = convert(bert(), plan(hadamard=True, **settings), token_batches())
    batch = token_batches(1, seed=3)[0]
    assert "hadamard" not in require_specified(network, batch)
    require_integer(network, **batch)
    packed.save(network, tmp_path / "a")
    loaded = packed.load(tmp_path / "a")
    assert torch.equal(loaded.codes(**batch), network.codes(**batch))
    packed.save(loaded, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    values = network(**batch).last_hidden_state
    set_mode(network, "fake")
    assert torch.equal(network(**batch).last_hidden_state, values)


def test_a_language_model_with_4_bit_inputs_is_nearer_to_itself_behind_the_transform():
    pytest.importorskip("transformers", reason="the models are those of transformers")
    model = copy.deepcopy(language_model("LlamaForCausalLM"))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[3] *= 30  # an outlier among down_proj's inputs
    data, errors = [{"input_ids": prompts()}], []
    wanted = model.model(**data[0]).last_hidden_state
    for hadamard in (False, True):
        chosen = Plan((*plan().rules, Rule(".*down_proj", hadamard=hadamard, activation_bits=4)))
        network = convert(model, chosen, data)
        assert "hadamard" not in require_specified(network, data[0])
        errors.append(float((network(**data[0]).last_hidden_state - wanted).square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_layers_that_quant_has_rotated_keep_their_codes_and_their_blocks():
    pytest.importorskip("transformers", reason="the models are those of transformers")
    chosen = Plan.uniform(hadamard=8, activation_granularity="token", **W4A4)
    made: Any = quant.quantize(bert(), chosen)
    network = convert(made, plan(**W4A4), token_batches())
    assert {*transforms(network).values()} == {8}
    key = "layers.1.down"
    layer: Any = made.get_submodule(network[key].name)
    assert torch.equal(network[key].packed_layers[0].codes, layer.weight.codes)
    assert "hadamard" not in require_specified(network, token_batches(1)[0])


def test_weights_that_are_trained_are_rotated_anew():
    pytest.importorskip("transformers", reason="the models are those of transformers")
    model: Any = copy.deepcopy(bert())
    network = convert(model, plan(hadamard=True), token_batches())
    layer = model.encoder.layer[0].output.dense
    before = network["layers.0.down"].packed_layers[0].codes.clone()
    with torch.no_grad():
        layer.weight[:, 0] *= -1
    network.codes(**token_batches(1)[0])
    after = network["layers.0.down"]
    assert not torch.equal(after.packed_layers[0].codes, before)
    assert torch.equal(after.layers[0].weight, rotate(layer.weight, 16))


def test_the_vectors_of_every_transform_pass_on_the_unit(tmp_path: Path):
    pytest.importorskip("transformers", reason="the models are those of transformers")
    network = convert(bert(), plan(hadamard=True, **W4A4), token_batches())
    batches = token_batches(1, seed=7)
    sets = [v for v in network_sets("net", network, batches, {}) if v.unit == "hadamard"]
    assert {v.name: len(v.counts) for v in sets} == {"net-hadamard-32-16": 6, "net-hadamard-16-16": 2}
    assert run_bulk(sets[1], BenchOptions("icarus", tmp_path)).passed


def test_what_does_not_fit_is_one_line():
    pytest.importorskip("transformers", reason="the models are those of transformers")
    with pytest.raises(InputError, match=r"intermediate\.dense: hadamard: a block of 64 must divide the 32 inputs"):
        convert(bert(), Plan((*plan().rules, Rule(".*intermediate.*dense", hadamard=64))), token_batches())
    with pytest.raises(InputError, match=r"share their input, so their hadamard must be equal"):
        convert(bert(), Plan((*plan().rules, Rule(".*query", hadamard=True))), token_batches())
    calibration = calibrate(bert(), plan(hadamard=True), token_batches())
    with pytest.raises(InputError, match=r"hadamard must be what it was for calibration, 32"):
        quantise(calibration, plan())
