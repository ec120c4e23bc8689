"""Processing elements, requantisers and normalisers as designs.

**The work** of an element: the outputs of GELU on the real inputs of `cost_model.designs.design` are the activations,
the weights are Gaussian (seed 0), a new one for every 64 beats, and the sum that comes from above is Gaussian with the
deviation that half of an array's rows give. All are quantised to the element's formats by their maxima.
"""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from cost_model.designs.design import INPUTS, Design
from ga_search import gelu
from rtl.array.processing_element_stream import ElementConfig
from rtl.floating.mac import MacConfig
from rtl.requant import RequantConfig
from sim.reference import InputError, floating
from sim.reference.arithmetic import code_range
from sim.reference.floating import FP16, FP32, FloatFormat
from sim.reference.requant import requantise
from sim.vectors.processing_element import element_set, random_element_set
from sim.vectors.requant import requant_set
from sim.vectors.vector_set import VectorSet

REUSE = 64
# format: (weight bits, activation bits)
INTEGER_ELEMENTS = {"W8A8": (8, 8), "W4A8": (4, 8), "W4A4": (4, 4), "W2A8": (2, 8)}
FLOAT_ELEMENTS = {"FP16": FP16, "FP32": FP32}
ELEMENTS = (*INTEGER_ELEMENTS, *FLOAT_ELEMENTS)


def element_design(number: str, stages: int = 1, rows: int = 16) -> Design:
    """An element of the array in a format: W8A8, W4A8, W4A4, W2A8 (latency 1), FP16 (sum in FP32) or FP32."""
    if number in INTEGER_ELEMENTS:
        return integer_element(*INTEGER_ELEMENTS[number], rows)
    if number not in FLOAT_ELEMENTS:
        raise InputError(f"format must be one of {', '.join(ELEMENTS)}, not {number!r}")
    return float_element(FLOAT_ELEMENTS[number], FP32, stages, number)


def integer_element(weight_bits: int, activation_bits: int, rows: int = 16) -> Design:
    """The element in row `rows` - 1 of an integer array."""
    config = ElementConfig(rows, weight_bits, activation_bits)
    activations, weights, sums = _values(rows)
    work = element_set(
        "work",
        config,
        _codes(activations, activation_bits),
        _codes(weights, weight_bits),
        _codes(sums, config.shapes["sum"].width, 2 ** (weight_bits + activation_bits - 2) * math.sqrt(rows)),
        REUSE,
    )
    name = f"W{weight_bits}A{activation_bits}"
    parameters = {"rows": rows, "weight_bits": weight_bits, "activation_bits": activation_bits}
    return Design(
        f"element-{name}", name, work, (random_element_set("random", 1, 2000, config),), parameters=parameters
    )


def float_element(number: FloatFormat, accumulator: FloatFormat, stages: int, name: str) -> Design:
    """The floating-point element with its sum `stages` cycles later."""
    config = ElementConfig(mac=MacConfig(number, accumulator, stages))
    activations, weights, sums = _values(16)
    a, w = (floating.encode(number, values) for values in (activations, weights))
    work = element_set("work", config, a, w, floating.encode(accumulator, sums), REUSE)
    return Design(
        f"element-{name}", name, work, (random_element_set("random", 1, 2000, config),), parameters={"stages": stages}
    )


def requant_design(stages: int = 3, **fields: Any) -> Design:
    """A requantiser; `fields` are those of `rtl.requant.RequantConfig`."""
    config = RequantConfig(stages=stages, **fields)
    checks = requant_set("random", 0, 400, stages=stages, **fields)
    rng = np.random.default_rng(0)
    count = 2048
    shift = max(min(config.in_bits - 5 + config.multiplier_bits - config.out_bits, config.max_shift), 0)
    value = np.clip(rng.normal(0, 2.0 ** (config.in_bits - 5), count), *code_range(config.in_bits, True))
    top = 1 << config.multiplier_bits
    multiplier = rng.integers(top // 2, top, count // 64 + 1)[np.arange(count) // 64]
    work = _requant_work(config, value.astype(np.int64), multiplier, np.full(count, shift))
    return Design("requant", f"{config.in_bits}to{config.out_bits}", work, (checks,), parameters={**fields})


def _requant_work(config: RequantConfig, value: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> VectorSet:
    arrays = {
        "inputs.value": value,
        "inputs.multiplier": multiplier,
        "inputs.shift": shift,
        "expected": requantise(value, multiplier, shift, 0, config.out_bits, config.out_signed),
        "counts": np.array([len(value)], dtype=np.int64),
        "zero_point": np.zeros(1, dtype=np.int64),
    }
    widths = {
        "inputs.value": (config.in_bits, True),
        "inputs.multiplier": (config.multiplier_bits, False),
        "inputs.shift": (config.max_shift.bit_length(), False),
        "expected": (config.out_bits, config.out_signed),
        "zero_point": (config.out_bits, config.out_signed),
    }
    return VectorSet("work", "requant", asdict(config), arrays, widths, {"seed": 0})


def _values(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations, weights and sums as real numbers, the products' scale for the sums."""
    x = np.load(INPUTS).astype(np.float64)
    activations = gelu(x)
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, -(-len(x) // REUSE))
    return activations, weights, rng.normal(0, activations.std() * math.sqrt(rows / 2), len(x))


def _codes(values: np.ndarray, bits: int, largest: float | None = None) -> np.ndarray:
    """Codes with the largest magnitude at the top code, or at `largest`."""
    low, high = code_range(bits, True)
    scaled = np.floor(values / abs(values).max() * (high if largest is None else largest) + 0.5)
    return np.clip(scaled, low, high).astype(np.int64)
