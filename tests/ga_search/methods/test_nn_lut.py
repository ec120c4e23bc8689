"""NN-LUT as a fair baseline: converted exactly, better with entries and with restarts."""

import numpy as np
import pytest

from ga_search.functions import FUNCTIONS
from ga_search.methods import nn_lut as module
from ga_search.methods.nn_lut import _convert, nn_lut
from sim.reference import InputError


def real_error(table, function) -> float:
    x = np.linspace(function.domain[0], function.domain[1], 2001)
    i = np.searchsorted(table.breakpoints, x, side="right")
    return float(((table.slopes[i] * x + table.intercepts[i] - function.evaluate(x)) ** 2).mean())


def test_the_converted_table_is_the_network():
    rng = np.random.default_rng(0)
    n, b, m = rng.normal(size=(3, 9))
    table = _convert(n, b, m, 0.25)
    x = np.linspace(-5, 5, 1001)
    network = np.maximum(x[:, None] * n + b, 0.0) @ m + 0.25
    i = np.searchsorted(table.breakpoints, x, side="right")
    np.testing.assert_allclose(table.slopes[i] * x + table.intercepts[i], network, atol=1e-12)


def test_the_error_falls_with_entries():
    function = FUNCTIONS["gelu"]
    errors = [real_error(nn_lut(function, entries, 0, 4, steps=800), function) for entries in (4, 8, 16)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_the_error_falls_with_restarts():
    function = FUNCTIONS["exp"]
    few, many = (
        [real_error(nn_lut(function, 8, seed, restarts, steps=400), function) for seed in range(3)]
        for restarts in (1, 8)
    )
    assert all(b <= a * (1 + 1e-9) for a, b in zip(few, many, strict=True)) and sum(many) < 0.9 * sum(few)


def test_the_same_seed_gives_the_same_network():
    one, two = (nn_lut(FUNCTIONS["silu"], 6, 5, 2, steps=50) for _ in range(2))
    assert (one.slopes == two.slopes).all() and (one.breakpoints == two.breakpoints).all()


def test_without_torch_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="nn-lut needs PyTorch, please install it"):
        nn_lut(FUNCTIONS["gelu"], 8, 0, 1)
