"""Which layers the array's regression is made of: every width, ragged shapes, groups, both ends of what is possible."""

from itertools import cycle, product
from typing import Any

import numpy as np

from rtl.array.config import ArrayConfig
from rtl.pwl import PwlConfig
from sim.reference.arithmetic import code_range
from sim.reference.gemm import WEIGHT_BITS, GroupedLinear, group_borders
from sim.vectors.array import ArraySet, array_set
from sim.vectors.pwl import random_table

GROUPS = (32, 64, 128, None)
SHAPE = (9, 203, 7)  # tokens, inputs, outputs: divides neither the 5 x 3 array nor a group nor the depth of 4
# name, rows, columns, group, depth, (tokens, inputs, outputs), operands
SHAPES: tuple[tuple[str, int, int, int | None, int, tuple[int, int, int], str], ...] = (
    ("1x1-1x1x1", 1, 1, None, 1, (1, 1, 1), "stream"),
    ("8x4-1x1x1", 8, 4, 32, 16, (1, 1, 1), "stream"),
    ("one-row", 1, 6, 32, 8, (11, 70, 13), "stream"),
    ("one-column", 6, 1, 64, 8, (11, 70, 5), "stream"),
    ("wide-group", 40, 2, 32, 8, (10, 70, 5), "stream"),
    ("memories", 5, 3, 64, 4, (9, 200, 7), "memory"),
    ("memories-per-channel", 4, 8, None, 16, (21, 33, 20), "memory"),
)


def array_suite(seed: int = 0, quick: bool = False) -> list[ArraySet]:
    """Random layers in every combination of widths, groups and shapes, and layers at the ends of their bounds."""
    rng = np.random.default_rng(seed)
    sets = []
    groups = cycle(GROUPS)
    for bits, signed, (activation_bits, two_pass) in product(
        WEIGHT_BITS, (True, False), ((4, False), (8, False), (8, True))
    ):
        group = next(groups)
        name = f"w{bits}{'s' if signed else 'u'}-a{activation_bits}{'-two-pass' if two_pass else ''}"
        config = ArrayConfig(
            5, 3, bits, signed, activation_bits, two_pass, group, 8 if group else 0, max_inputs=256, depth=4
        )
        sets.append(random_array_set(f"array-{name}-g{group or 'channel'}", rng, config, SHAPE, seed))
    for name, rows, columns, group, depth, shape, operands in SHAPES:
        config = ArrayConfig(rows, columns, 4, False, 8, True, group, 8 if group else 0, max_inputs=256, depth=depth)
        sets.append(random_array_set(f"array-{name}", rng, config, shape, seed, operands=operands))
    narrow = ArrayConfig(5, 3, 4, two_pass=True, group=32, max_inputs=256, depth=4)
    sets.append(random_array_set("array-one-pass-of-two", rng, narrow, SHAPE, seed, activation_bits=4))
    sets += bound_sets()
    sets.append(pwl_array_set(rng, seed))
    wide = ArrayConfig(5, 3, 4, False, 8, True, 32, 16, max_inputs=256, depth=4)
    sets.append(random_array_set("array-16-bit-multipliers", rng, wide, SHAPE, seed))
    # shorter than the way through the grid: the next job begins before the constants of this one are needed
    short = ArrayConfig(2, 5, 4, False, 8, True, 32, 8, max_inputs=256, depth=2)
    sets.append(random_array_set("array-memories-short", rng, short, (3, 2, 12), seed, operands="memory"))
    if quick:
        kept = ("w4u-a8-two-pass", "w2s-a4", "8x4", "memories-per", "bound-lowest-w4u-two-pass", "pwl")
        sets = [vectors for vectors in sets if any(part in vectors.name for part in kept)]
    return sets


def random_array_set(
    name: str,
    rng: np.random.Generator,
    config: ArrayConfig,
    shape: tuple[int, int, int],
    seed: int,
    activation_bits: int | None = None,
    operands: str = "stream",
) -> ArraySet:
    """A layer of random codes, both ends of weights, zero points, multipliers and activations among them."""
    tokens, k, n = shape
    layer = random_layer(rng, config, k, n, activation_bits)
    low, high = code_range(layer.activation_bits, True)
    inputs = with_ends(rng, low, high, (tokens, k))
    return array_set(name, config, layer, inputs, {"seed": seed}, operands=operands)


def random_layer(
    rng: np.random.Generator, config: ArrayConfig, k: int, n: int, activation_bits: int | None = None
) -> GroupedLinear:
    """A layer of `k` inputs and `n` outputs for `config`; its results are mostly inside the codes."""
    groups = len(group_borders(k, config.group))
    low, high = code_range(config.weight_bits, config.weight_signed)
    zero_points = multipliers = None
    if not config.weight_signed:
        zero_points = with_ends(rng, low, high, (n, groups))
    if config.group_multiplier_bits:
        multipliers = with_ends(rng, 0, (1 << config.group_multiplier_bits) - 1, (n, groups))
    bits = activation_bits or config.activation_bits
    top = (1 << config.group_multiplier_bits) - 1 or 1
    spread = high * (1 << bits - 1) * top * np.sqrt(k) / 2
    bias = min(int(spread), code_range(config.bias_width, True)[1])
    scale = (1 << config.out_bits) / 4 / spread
    shift = int(np.clip(15 - np.ceil(np.log2(scale)), 0, 47))
    multiplier = np.clip(rng.uniform(0.5, 1.5, n) * scale * 2.0**shift, 1, 65535).astype(np.int64)
    return GroupedLinear(
        weights=with_ends(rng, low, high, (n, k)),
        bias=rng.integers(-bias, bias + 1, n),
        multiplier=multiplier,
        shift=np.full(n, shift),
        weight_bits=config.weight_bits,
        weight_signed=config.weight_signed,
        activation_bits=bits,
        group=config.group,
        zero_points=zero_points,
        group_multipliers=multipliers,
        zero_point=int(rng.integers(-9, 10)) + (0 if config.out_signed else 1 << config.out_bits - 1),
        out_bits=config.out_bits,
        out_signed=config.out_signed,
    )


def with_ends(rng: np.random.Generator, low: int, high: int, shape: tuple[int, int]) -> np.ndarray:
    """Random integers in low..high; a tenth of them at each end, and where there are two or more, one at each."""
    values = rng.integers(low, high + 1, shape)
    draw = rng.random(shape)
    values = np.where(draw < 0.1, low, np.where(draw > 0.9, high, values))
    if values.size > 1:
        values.flat[0], values.flat[-1] = low, high
    return values


def bound_sets() -> list[ArraySet]:
    """Layers whose accumulators reach both ends of the bound that the array was built for, seen at the output in full.

    The code is 32 bits wide, m_c 1 and k_c 0, so that it is the accumulator.
    """
    sets = []
    for bits, signed, two_pass in product(WEIGHT_BITS, (True, False), (False, True)):
        fields: dict[str, Any] = dict(group_multiplier_bits=5, max_inputs=70, depth=4, out_bits=32)
        config = ArrayConfig(5, 3, bits, signed, two_pass=two_pass, group=32, **fields)
        low, high = code_range(bits, signed)
        ends = ((low, 0, 127), (low, 0, -128)) if signed else ((high, 0, -128), (0, high, -128))
        for name, end, (weight, zero, activation) in zip(
            ("lowest", "highest"), config.accumulator_range, ends, strict=True
        ):
            layer = GroupedLinear(
                weights=np.full((4, 70), weight),
                bias=np.full(4, code_range(config.bias_width, True)[name == "highest"]),
                multiplier=np.ones(4, dtype=np.int64),
                shift=np.zeros(4, dtype=np.int64),
                weight_bits=bits,
                weight_signed=signed,
                group=32,
                zero_points=None if signed else np.full((4, 3), zero),
                group_multipliers=np.full((4, 3), 31),
                out_bits=32,
            )
            kind = f"w{bits}{'s' if signed else 'u'}{'-two-pass' if two_pass else ''}"
            source = {"bound": end}
            sets.append(array_set(f"array-bound-{name}-{kind}", config, layer, np.full((5, 70), activation), source))
    return sets


def pwl_array_set(rng: np.random.Generator, seed: int) -> ArraySet:
    """GEMM, bias and a random table as one stream."""
    table = random_table(rng, 8, 0, slope_frac_bits=6, intercept_frac_bits=4).lower(4, 2)
    pwl = PwlConfig(max_intercept_shift=max(table.intercept_shift, 7))
    config = ArrayConfig(5, 3, 4, False, group=32, max_inputs=256, depth=4, pwl=pwl, stages=5)
    layer = random_layer(rng, config, SHAPE[1], SHAPE[2])
    inputs = with_ends(rng, -128, 127, SHAPE[:2])
    return array_set("array-pwl", config, layer, inputs, {"seed": seed}, table)
