"""Symmetry: a table of half a function serves both halves.

odd         f(-x) = -f(x)      tanh, erf
complement  f(-x) = 1 - f(x)   sigmoid
gated       f(-x) = f(x) - x   GELU, SiLU and hard swish, which are x times a complement

The table is one of x >= 0. A function that is only ever asked for one sign of x may be folded in any way.
"""

import numpy as np

SYMMETRIES = ("none", "odd", "complement", "gated")


def fold(symmetry: str, x: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(|x|, f(|x|)) from x and f(x), real numbers; unchanged without a symmetry."""
    negative = x < 0
    if symmetry == "odd":
        value = np.where(negative, -value, value)
    elif symmetry == "complement":
        value = np.where(negative, 1.0 - value, value)
    elif symmetry == "gated":
        value = value - np.minimum(x, 0.0)
    return (x if symmetry == "none" else np.abs(x)), value


def unfold(symmetry: str, y: np.ndarray, q: np.ndarray, one: int) -> np.ndarray:
    """f(x) for the codes q from y = f(|x|), both integers in the accumulator's units.

    `one` is the factor from a code to these units where the symmetry is "gated", and the number of them that is 1 where
    it is "complement".
    """
    negative = q < 0
    if symmetry == "odd":
        return np.where(negative, -y, y)
    if symmetry == "complement":
        return np.where(negative, one - y, y)
    if symmetry == "gated":
        return y + np.where(negative, q, 0) * one
    return y
