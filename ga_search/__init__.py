"""Fits integer piecewise-linear tables to non-linear functions.

`fit_table` is the one call that the rest of the project, and a notebook, needs. A table is a `PwlTable`
(`sim.reference`), a fit's settings are a `FitConfig`, and the functions that can be fitted are in `FUNCTIONS`.
"""

from ga_search.config import METHODS, OBJECTIVES, FitConfig
from ga_search.fit import fit_table
from ga_search.functions import FUNCTIONS, NETWORK_DOMAINS, Function, gelu, resolve
from sim.reference import InputError, PwlTable

__all__ = [
    "FUNCTIONS",
    "METHODS",
    "NETWORK_DOMAINS",
    "OBJECTIVES",
    "FitConfig",
    "Function",
    "InputError",
    "PwlTable",
    "fit_table",
    "gelu",
    "resolve",
]
