"""Softmax, LayerNorm and RMSNorm on 10^5 rows of every kind: PyTorch gives the specification's integers."""

import numpy as np
import pytest
import torch
from torch import nn

from sim.network.operators.attention import Softmax
from sim.network.operators.base import Grid
from sim.network.operators.norm import Norm
from sim.vectors.random_rows import random_rows
from tests.sim.network.models import TABLES

ROWS, LENGTH = 100_000, 12


def rows(seed: int, masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Random, constant, one-hot, saturating and nearly constant rows (ROWS, LENGTH), and which elements are valid."""
    made = random_rows(np.random.default_rng(seed), ROWS, LENGTH, LENGTH, 16, masked)
    valid = np.ones(ROWS * LENGTH, dtype=bool) if made.valid is None else made.valid
    return made.codes.reshape(ROWS, LENGTH), valid.reshape(ROWS, LENGTH)


def test_softmax():
    codes, valid = rows(0, masked=True)
    operator = Softmax("softmax", 64)
    operator.quantise(Grid.power(16, 4), TABLES["exp"], TABLES["div"])
    spec = operator.specification
    assert spec is not None and not valid.all() and (~valid).all(1).any()
    got = operator.integer(torch.tensor(codes, dtype=torch.int16)[None], torch.tensor(valid)[None])[0]
    assert np.array_equal(got.numpy(), spec.compute(codes, valid))


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_norms(kind):
    codes, _ = rows(1, masked=False)
    torch.manual_seed(0)
    layer = kind(LENGTH)
    nn.init.normal_(layer.weight)
    operator = Norm("norm", layer)
    scale = torch.tensor(0.001, dtype=torch.float64)
    operator.quantise(Grid(16, scale), Grid(16, scale), TABLES["rsqrt"])
    spec = operator.specification
    assert spec is not None
    got = operator.integer(torch.tensor(codes, dtype=torch.int16))
    assert np.array_equal(got.numpy(), spec.compute(codes))
