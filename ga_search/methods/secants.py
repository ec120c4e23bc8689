"""Tables without a fit: secants between breakpoints, rounded to the grid."""

import math

import numpy as np

from ga_search.functions import FUNCTIONS as CALLABLES
from ga_search.functions import NETWORK_DOMAINS
from sim.reference import PwlTable

FUNCTIONS = {"gelu": 6, "exp": 6, "div": 8, "rsqrt": 7}  # with the fraction bits of their slopes
STEPS = {"div": 1, "rsqrt": 2}


def secant_table(function: str, entries: int = 8) -> PwlTable:
    """A table of `function` (gelu, exp, div or rsqrt) that is good enough to run a network on.

    Parameters
    ----------
    function : a key of `FUNCTIONS`
    entries : number of segments

    Returns
    -------
    PwlTable of 8 bits on the domain that a network uses
    """
    frac = FUNCTIONS[function]
    low, high = NETWORK_DOMAINS.get(function, CALLABLES[function].domain)
    edges = np.linspace(low, high, entries + 1)
    if function == "exp":
        edges = -(np.linspace(math.sqrt(6), 0, entries + 1) ** 2)  # closer where it is steeper
    edges = np.round(edges * 64) / 64
    values = CALLABLES[function].evaluate(edges)
    slopes = np.diff(values) / np.diff(edges)
    intercepts = values[:-1] - slopes * edges[:-1]
    mu = min(frac, 6)

    def grid(values: np.ndarray, bits: int) -> tuple[int, ...]:
        return tuple(int(v) for v in np.clip(np.round(values * 2**bits), -128, 127))

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
