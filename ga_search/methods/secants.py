"""Tables without a fit: chords between breakpoints, rounded to the grid."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from sim.reference import PwlTable

FUNCTIONS: dict[str, tuple[Callable[[float], float], tuple[float, float], int]] = {
    "gelu": (lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))), (-4, 4), 6),
    "exp": (math.exp, (-8, 0), 6),
    "div": (lambda x: 1 / x, (2, 4), 8),
    "rsqrt": (lambda x: 1 / math.sqrt(x), (1, 4), 7),
}
STEPS = {"div": 1, "rsqrt": 2}


def chord_table(function: str, entries: int = 8) -> PwlTable:
    """A table of `function` (gelu, exp, div or rsqrt) that is good enough to run a network on."""
    f, (low, high), frac = FUNCTIONS[function]
    edges = np.linspace(low, high, entries + 1)
    if function == "exp":
        edges = -(np.linspace(math.sqrt(6), 0, entries + 1) ** 2)  # closer where it is steeper
    edges = np.round(edges * 64) / 64
    slopes = [(f(b) - f(a)) / (b - a) for a, b in pairwise(edges)]
    intercepts = [f(a) - s * a for a, s in zip(edges, slopes, strict=False)]
    mu = min(frac, 6)

    def grid(values: list[float], bits: int) -> tuple[int, ...]:
        return tuple(int(v) for v in np.clip(np.round(np.array(values) * 2**bits), -128, 127))

    return PwlTable(
        function=function,
        domain=(low, high),
        scales=tuple(range(7)) if function in ("gelu", "exp") else (5,),
        slope_frac_bits=frac,
        intercept_frac_bits=mu,
        bp_frac_bits=6,
        slopes=grid(slopes, frac),
        intercepts=grid(intercepts, mu),
        breakpoints=tuple(round(e * 64) for e in edges[1:-1]),
        normaliser_step=STEPS.get(function),
    )
