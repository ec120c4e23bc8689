"""Vectors for the requantiser: corners of every operand, and random accumulators."""

from itertools import product
from typing import Any

import numpy as np

from rtl.requant import RequantConfig
from sim.reference.arithmetic import code_range
from sim.reference.requant import requantise
from sim.vectors.vector_set import VectorSet


def requant_set(name: str, seed: int, count: int, **changes: Any) -> VectorSet:
    """Every combination of corner operands, then `count` random vectors, at five zero points; a load for each.

    Random accumulators have every magnitude, and half of the shifts bring the product near the codes, so that rounding
    and not only saturation is seen. `changes` are fields of `rtl.requant.RequantConfig`.
    """
    config = RequantConfig(**changes)
    rng = np.random.default_rng(seed)
    low, high = code_range(config.out_bits, config.out_signed)
    zero_points = [0, low, high, *rng.integers(low, high + 1, 2).tolist()]
    parts = [_operands(config, rng, -(-count // len(zero_points))) for _ in zero_points]
    value, multiplier, shift = (np.concatenate([part[k] for part in parts]) for k in range(3))
    counts = [len(part[0]) for part in parts]
    expected = [
        requantise(*part, zero, config.out_bits, config.out_signed)
        for part, zero in zip(parts, zero_points, strict=True)
    ]
    arrays = {
        "inputs.value": value,
        "inputs.multiplier": multiplier,
        "inputs.shift": shift,
        "expected": np.concatenate(expected),
        "counts": np.array(counts, dtype=np.int64),
        "zero_point": np.array(zero_points, dtype=np.int64),
    }
    widths = {
        "inputs.value": (config.in_bits, True),
        "inputs.multiplier": (config.multiplier_bits, False),
        "inputs.shift": (config.max_shift.bit_length(), False),
        "expected": (config.out_bits, config.out_signed),
        "zero_point": (config.out_bits, config.out_signed),
    }
    return VectorSet(name, "requant", config.to_dict(), arrays, widths, {"seed": seed})


def _operands(config: RequantConfig, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = code_range(config.in_bits, True)
    top = (1 << config.multiplier_bits) - 1
    values = [low, low + 1, -129, -128, -2, -1, 0, 1, 2, 127, 128, high - 1, high]
    values = [v for v in values if low <= v <= high]
    shifts = sorted({0, 1, 2, config.max_shift // 2, max(config.max_shift - 1, 0), config.max_shift})
    corner = np.array(list(product(values, sorted({0, 1, 2, (top + 1) // 2, top}), shifts)), dtype=np.int64).T
    magnitude = rng.integers(0, config.in_bits, count)
    value = rng.integers(low, high, count, endpoint=True) >> magnitude
    multiplier = rng.integers(0, top, count, endpoint=True)
    bits = np.frexp((abs(value.astype(np.float64)) + 1) * (multiplier + 1))[1]  # the product's size in bits
    near = bits - config.out_bits + rng.integers(-2, 4, count)
    shift = np.where(rng.random(count) < 0.5, near, rng.integers(0, config.max_shift, count, endpoint=True))
    random = (value, multiplier, np.clip(shift, 0, config.max_shift))
    value, multiplier, shift = (np.concatenate([c, r]) for c, r in zip(corner, random, strict=True))
    return value, multiplier, shift
