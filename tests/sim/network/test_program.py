"""Programs of the engine against the integer network that they were made from, and faults in them."""

from dataclasses import replace

import numpy as np
import pytest

from sim.network.convert import convert
from sim.network.program import program_of, results_of
from sim.network.program_check import first_difference
from sim.network.program_engine import engine_for
from sim.reference import InputError
from sim.reference import engine as hardware
from tests.sim.network.models import (
    EXACT,
    TABLES,
    bert,
    image_batches,
    plan,
    real_batches,
    token_batches,
    torch_encoder,
    vision_transformer,
)

LENGTH = 12


@pytest.fixture(scope="module")
def network():
    return convert(bert(), plan(TABLES), token_batches())


def _program(network, tokens=LENGTH, lanes=8, row_units=3, **options):
    [batch] = token_batches(1, rows=1, length=tokens, seed=tokens)
    expected = results_of(network, batch)
    config = engine_for(network, LENGTH, lanes, row_units)
    program = program_of(network, config, tokens, int(batch["attention_mask"].sum()), **options)
    return program.with_inputs(expected), expected


@pytest.mark.parametrize("tokens", range(3, LENGTH + 1))
def test_every_operator_of_every_length_equals_the_network(network, tokens):
    assert first_difference(*_program(network, tokens)) is None


@pytest.mark.parametrize("lanes, row_units", [(2, 1), (4, 4), (8, 1), (8, 8)])
def test_every_size_of_the_engine_equals_the_network(network, lanes, row_units):
    assert first_difference(*_program(network, LENGTH - 1, lanes, row_units)) is None


@pytest.mark.parametrize("layers, operators", [((0, 0), 12), ((1, 1), 12), ((0, 1), 24), (None, 25)])
def test_layers_are_a_part_of_the_network(network, layers, operators):
    program, expected = _program(network, layers=layers)
    assert program.operators == operators and first_difference(program, expected) is None


@pytest.mark.parametrize("settings", [{"activation_granularity": "tensor"}, {"weight_bits": 4}])
def test_static_activations_and_narrow_weights_equal_the_network(settings):
    network = convert(bert(), plan(TABLES, **settings), token_batches())
    assert first_difference(*_program(network)) is None


OTHERS = {
    "DistilBert": (lambda: bert("DistilBert"), token_batches, 9),
    "Electra": (lambda: bert("Electra", embedding_size=16), token_batches, 9),
    "norm first": (lambda: torch_encoder(norm_first=True), real_batches, 7),
    "ViT": (vision_transformer, image_batches, 17),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in OTHERS])
def test_other_encoders_are_programs_too(name):
    make, data, valid = OTHERS[name]
    network = convert(make(), plan(TABLES), data())
    [batch] = data(1, rows=1)
    expected = results_of(network, batch)
    tokens = len(expected[network.last_key])
    program = program_of(network, engine_for(network, tokens, 8), tokens, valid).with_inputs(expected)
    assert program.operators >= 24 and first_difference(program, expected) is None


def _changed(program, key, kind, **changes):
    """The program with the first instruction of a kind in an operator changed."""
    for k, step in enumerate(program.steps):
        if step.key == key and isinstance(step.instruction, kind):
            new = {name: change(step.instruction) for name, change in changes.items()}
            steps = [*program.steps]
            steps[k] = replace(step, instruction=replace(step.instruction, **new))
            return replace(program, steps=steps)
    raise AssertionError(f"{key} has no {kind.__name__}")


def _moved(walk, distance):
    return replace(walk, base=walk.base + distance)


FAULTS = {
    "a wrong address": ("layers.0.down", hardware.Multiply, {"a": lambda i: _moved(i.a, 1)}),
    "a swapped head": ("layers.1.scores", hardware.Multiply, {"weights": lambda i: _moved(i.weights, LENGTH)}),
    "a stale magnitude": ("layers.1.out", hardware.Quantise, {"first": lambda i: i.first + LENGTH}),
    "a dropped residual": ("layers.0.add2", hardware.Add, {"multipliers": lambda i: (0, i.multipliers[1])}),
    "a token too few": ("layers.1.softmax", hardware.Probabilities, {"valid": lambda i: i.valid - 1}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_its_operator(network, fault):
    key, kind, changes = FAULTS[fault]
    program, expected = _program(network)
    found = first_difference(_changed(program, key, kind, **changes), expected)
    assert found is not None and found.startswith(key) and "row" in found and "channel" in found


def test_what_no_unit_computes_is_refused(network):
    exact = convert(bert(), plan(EXACT), token_batches())
    with pytest.raises(InputError, match="table"):
        engine_for(exact, LENGTH)
    with pytest.raises(InputError, match=r"layers must be in 0\.\.1, not 2\.\.2"):
        program_of(network, engine_for(network, LENGTH, 8), LENGTH, layers=(2, 2))
    with pytest.raises(InputError, match=r"tokens must be in 1\.\.12, not 13"):
        program_of(network, engine_for(network, LENGTH, 8), 13)
    with pytest.raises(InputError, match="8 channels must be a multiple of the engine's 16 lanes"):
        engine_for(network, LENGTH, 16)
    grouped = convert(bert(), plan(TABLES, weight_bits=4, group_size=16), token_batches())
    with pytest.raises(InputError, match="one scale for each channel"):
        engine_for(grouped, LENGTH, 8)


def test_a_memory_that_is_too_small_is_refused(network):
    config = replace(engine_for(network, LENGTH, 8), words=64)
    with pytest.raises(InputError, match="words of the engine must be at least"):
        program_of(network, config, LENGTH)


def test_channels_of_an_activation_are_in_the_order_of_their_scales(network):
    program, _ = _program(network)
    [order] = [step.place.order for step in program.steps if step.key == "layers.0.up" and step.output]
    scales = network["layers.0.activation"].scales.numpy()
    assert order is not None and (np.diff(scales[order]) >= 0).all() and sorted(order) == list(range(48))
