"""Vectors for one processing element between streams: weights that are shifted in and swapped while beats flow."""

import numpy as np

from rtl.array.processing_element_stream import ElementConfig
from sim.reference import floating
from sim.reference.arithmetic import code_range
from sim.vectors.vector_set import VectorSet


def element_set(
    name: str, config: ElementConfig, activations: np.ndarray, weights: np.ndarray, sums: np.ndarray, reuse: int = 64
) -> VectorSet:
    """A set that takes a new weight every `reuse` beats: shifted in one beat before the swap that puts it in use.

    `activations` and `sums` have a value for each beat, `weights` one for each `reuse` beats; the first two beats of
    the set load the first weight, with activation and sum 0.
    """
    count = len(activations)
    beats = np.arange(count)
    shift, swap = beats % reuse == 0, beats % reuse == 1
    activation, total = (np.where(beats < 2, 0, values) for values in (activations, sums))
    weight = np.asarray(weights, dtype=np.int64)[beats // reuse]
    used, in_use, waiting = [], 0, 0
    for value, shifts, swaps in zip(weight.tolist(), shift.tolist(), swap.tolist(), strict=True):
        used.append(in_use)
        in_use, waiting = (waiting if swaps else in_use), (value if shifts else waiting)
    if config.mac is None:
        expected = total + np.array(used) * activation
    else:
        expected = floating.multiply_add(config.mac.number, config.mac.sum, np.array(used), activation, total)
    columns = {"activation": activation, "weight": weight, "sum": total, "shift": shift, "swap": swap}
    widths = {f"inputs.{key}": (shape.width, shape.signed) for key, shape in config.shapes.items()}
    widths |= {"inputs.shift": (1, False), "inputs.swap": (1, False)}
    widths["expected"] = widths["inputs.sum"]
    arrays = {f"inputs.{key}": np.asarray(values, dtype=np.int64) for key, values in columns.items()}
    arrays |= {"expected": np.asarray(expected, dtype=np.int64), "counts": np.array([count], dtype=np.int64)}
    return VectorSet(name, "element", config.to_dict(), arrays, widths, {"reuse": reuse})


def random_element_set(name: str, seed: int, count: int, config: ElementConfig, reuse: int = 8) -> VectorSet:
    """`count` beats of random operands, sums no larger than an array can bring, a new weight every `reuse` beats."""
    rng = np.random.default_rng(seed)

    def draw(key: str, length: int) -> np.ndarray:
        shape = config.shapes[key]
        low, high = code_range(shape.width, shape.signed)
        if key == "sum" and config.mac is None:
            low, high = (end // config.rows * (config.rows - 1) for end in (low, high))
        return rng.integers(low, high, length, endpoint=True)

    activations, weights = draw("activation", count), draw("weight", -(-count // reuse))
    return element_set(name, config, activations, weights, draw("sum", count), reuse)
