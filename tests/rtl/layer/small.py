"""A softmax, a norm and a program with every instruction, small enough for a simulation within a second."""

from dataclasses import replace

import numpy as np

from rtl.layer.config import EngineConfig
from sim.reference import Norm, Normaliser, Softmax
from sim.reference import engine as hardware
from sim.reference.engine import Instruction, Walk, tiled
from sim.reference.norm import spread_bits_for
from sim.reference.softmax import lower_exp, scales_for, total_bits_for
from tests.sim.tables import secant_table

LENGTH, TOKENS = 7, 5
EXP = lower_exp(secant_table("exp"), 4, 8, 7)
DIV, RSQRT = secant_table("div"), secant_table("rsqrt")
SOFTMAX = Softmax(
    EXP, 7, Normaliser(DIV, DIV.scales[-1], total_bits_for(EXP, TOKENS), 7, False), TOKENS, **scales_for(8)
)
NORM = Norm(
    tuple(range(9000, 9000 + LENGTH)), tuple(range(-9000, 5000, 2000)), 9, 5,
    Normaliser(RSQRT, RSQRT.scales[-1], spread_bits_for(LENGTH, 5), 0, False),
)  # fmt: skip


def every_instruction(config: EngineConfig) -> list[Instruction]:
    """A program that runs every instruction on a tensor of five tokens and seven channels, and stores what it made."""
    rng, lanes = np.random.default_rng(0), config.lanes
    shape = (TOKENS, -(-LENGTH // lanes), 1)
    tensor = rng.integers(-9000, 9000, (TOKENS, LENGTH))

    def words(base: int) -> Walk:
        return Walk(base, shape, (1, TOKENS, 0))

    def rows(base: int, first: int, count: int, groups: int) -> Walk:
        return Walk(base + first, (count, shape[1], groups), (1, TOKENS, count))

    weights = rng.integers(-128, 128, (shape[1] ** 2 * lanes, lanes))
    constants = [rng.integers(low, high, (shape[1], lanes)) for low, high in ((-9999, 9999), (2**14, 2**16))]
    shifts = np.full((shape[1], lanes), 36)
    activations = Walk(10, (TOKENS, shape[1], shape[1]), (1, TOKENS, 0))
    zeros, m, k = np.zeros((shape[1], lanes), int), np.full((shape[1], lanes), 40000), np.full((shape[1], lanes), 20)
    one = slice(0, 1)
    keys = Walk(20, (lanes, shape[1], shape[1]), (1, TOKENS, lanes))
    values = Walk(20 + lanes - 1, (lanes, 2, 1), (-1, lanes, 0))
    mask = np.arange(lanes) % 2 == 1
    table = replace(secant_table("gelu"), out_bits=16).lower(4, 9)
    return [
        hardware.Load(words(0), tiled(tensor, lanes)),
        *(hardware.Normalise(rows(0, *part), rows(0, *part), LENGTH, NORM) for part in ((0, 2, 2), (4, 1, 1))),
        *(hardware.Quantise(rows(10, *part), rows(0, *part), LENGTH, part[0]) for part in ((0, 2, 2), (4, 1, 1))),
        hardware.Multiply(words(20), activations, weights, *constants, shifts, LENGTH, scaled=True, narrow=True),
        hardware.Multiply(words(30), replace(activations, base=20), keys, zeros, m, k, TOKENS, transposed=True),
        hardware.Probabilities(rows(30, 0, 1, TOKENS), rows(30, 0, 1, TOKENS), TOKENS, SOFTMAX, TOKENS - 1),
        hardware.Multiply(
            Walk(40, (TOKENS, 1, 1)),
            Walk(30, (TOKENS, 2, 1), (1, TOKENS, 0)),
            values,
            zeros[one],
            m[one],
            k[one],
            lanes,
        ),
        hardware.Add(words(50), words(0), words(20), (30000, 50000), 16),
        hardware.Map(words(20), words(20), table, mask),
        hardware.Store(Walk(0, (60, 1, 1))),
    ]
