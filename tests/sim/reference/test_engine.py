"""The engine's instructions against the operations that they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import engine as hardware
from sim.reference.engine import Engine, Walk, tiled, untiled
from sim.reference.requant import requantise
from sim.reference.token import quantise_tokens

LANES, WORDS = 4, 64


@given(st.integers(1, 7), st.integers(1, 13), st.integers(2, 5))
def test_a_tensor_comes_back_from_its_words(rows, channels, lanes):
    tensor = np.arange(rows * channels).reshape(rows, channels)
    words = tiled(tensor, lanes)
    assert (untiled(words, rows, channels) == tensor).all()
    m, n = rows - 1, channels - 1
    assert words[n // lanes * rows + m, n % lanes] == tensor[m, n]


@given(st.integers(0, 63), st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(-9, 9)] * 3))
def test_a_walk_has_the_addresses_of_three_loops(base, counts, strides):
    expected = [
        (base + i * strides[0] + j * strides[1] + k * strides[2]) % WORDS
        for k in range(counts[2])
        for j in range(counts[1])
        for i in range(counts[0])
    ]
    assert Walk(base, counts, strides).addresses(WORDS).tolist() == expected


def _loaded(tensor):
    """An engine that holds a tensor from word 0 on."""
    engine = Engine(WORDS, LANES)
    words = tiled(tensor, LANES)
    engine.execute(hardware.Load(Walk(0, (len(words), 1, 1)), words))
    return engine


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_of_two_activations_is_a_matrix_product(transposed):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-128, 128, (5, 8)), rng.integers(-128, 128, (8, 4))
    engine = _loaded(a)
    stored = tiled(b.T if transposed else b, LANES)
    base, rows = 16, 4 if transposed else 8
    engine.execute(hardware.Load(Walk(base, (len(stored), 1, 1)), stored))
    walk = Walk(base, (4, 2, 1), (1, rows, 0)) if transposed else Walk(base + 3, (4, 2, 1), (-1, 4, 0))
    constants = np.zeros((1, 4), int), np.full((1, 4), 40000), np.full((1, 4), 20)
    o = Walk(40, (5, 1, 1))
    made = hardware.Multiply(o, Walk(0, (5, 2, 1), (1, 5, 0)), walk, *constants, 4, transposed=transposed)
    assert (engine.execute(made).elements == requantise(a @ b, 40000, 20, 0, 16)).all()


def test_a_quantised_row_keeps_its_magnitude_and_zeros_the_lanes_behind_its_end():
    x = np.random.default_rng(1).integers(-30000, 30000, (5, 6))
    engine = _loaded(x)
    walk = Walk(0, (2, 2, 2), (1, 5, 2))  # the first four rows, in groups of two
    engine.execute(hardware.Quantise(walk, walk, 6, 0))
    codes, magnitude = quantise_tokens(x[:4])
    words = engine.read(Walk(0, (5, 2, 1), (1, 5, 0)))
    assert (untiled(words, 5, 6)[:4] == codes).all() and (untiled(words, 5, 6)[4] == x[4]).all()
    assert (engine.magnitudes[:4] == magnitude[:, 0]).all() and not words[5:9, 2:].any()
