"""Tables made by hand for the tests."""

import numpy as np

from ga_search.methods.secants import FUNCTIONS, secant_table
from sim.reference import LoweredTable
from sim.vectors.pwl import pwl_set
from sim.vectors.vector_set import VectorSet

__all__ = ["FUNCTIONS", "secant_table", "wide_set"]


def wide_set() -> VectorSet:
    """INT32 with the accumulator as output, shifted so far that it needs more than 64 bits."""
    low, high = -(1 << 31), (1 << 31) - 1
    table = LoweredTable(
        (-5, 3), (low, 7, high), (high, low, 12345), intercept_shift=50, output_shift=None, s=0,
        in_bits=32, coef_bits=32, out_bits=32,
    )  # fmt: skip
    return pwl_set("wide", [(table, np.array([low, -6, -5, 0, 2, 3, 4, high] * 5))], {})
