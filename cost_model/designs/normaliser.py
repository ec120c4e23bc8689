"""The normaliser as a design: 1/x or 1/sqrt(x) of any positive number, on an 8-bit table of the highest octave."""

from functools import lru_cache

import numpy as np

from cost_model.designs.design import Design
from ga_search import NETWORK_DOMAINS, fit_table
from sim.reference import Normaliser, PwlTable
from sim.vectors.normaliser import normaliser_set, top_scale


def normaliser_design(function: str = "div", entries: int = 8, input_bits: int = 16, stages: int = 4) -> Design:
    """A normaliser of `input_bits` with 8 fraction bits; its work is log-uniform inputs, neighbours alike."""
    table = _table(function, entries)
    reference = Normaliser(table, top_scale(table), input_bits, 8)
    rng = np.random.default_rng(0)
    top = (1 << (input_bits - 1)) - 1
    walk = np.cumsum(rng.normal(0, 0.1, 2048))  # row sums and variances vary slowly
    inputs = np.clip(2.0 ** (input_bits / 2 + walk), 1, top).astype(np.int64)
    random = np.concatenate([rng.integers(-5, top, 600, endpoint=True), 1 << np.arange(input_bits - 1), [0, 1, top]])
    work, check = (
        normaliser_set(name, reference, values, {"function": function}, output_scale=6, stages=stages)
        for name, values in (("work", inputs), ("random", random))
    )
    parameters = {"function": function, "entries": entries, "input_bits": input_bits, "stages": stages}
    return Design(f"normaliser-{function}", f"{function}-{input_bits}", work, (check,), parameters=parameters)


@lru_cache(maxsize=64)
def _table(function: str, entries: int) -> PwlTable:
    return fit_table(function, entries, domain=NETWORK_DOMAINS[function])
