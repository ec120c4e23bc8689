"""The tables of a network: one for each function that it evaluates, from one method."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ga_search import NETWORK_DOMAINS, fit_table
from sim.network.operators.tables import EXACT
from sim.reference import InputError, PwlTable
from sim.vectors.suites import load_tables

FUNCTIONS = ("gelu", "exp", "div", "rsqrt")  # of BERT's family
GATED = ("gelu", "gelu-tanh", "silu", "hswish")  # f(-x) = f(x) - x

Tables = Mapping[str, PwlTable | str]


def control_tables(functions: Iterable[str] = FUNCTIONS) -> Tables:
    """The control "exact" for each function: correctly rounded values."""
    return dict.fromkeys(functions, EXACT)


def fitted_tables(
    method: str,
    entries: int,
    functions: Iterable[str] = FUNCTIONS,
    paper_domains: bool = False,
    coef_bits: int = 8,
    probability_bits: int = 8,
    folded: bool = False,
) -> dict[str, PwlTable]:
    """Tables fitted by `method` on the domains of a network, or on the paper's. Raises `InputError` if a fit does.

    The reciprocal of a softmax has input codes as wide as its probabilities, as its control has: rounded to 8 bits, a
    sum is wrong by up to 0.8 %, and 1/x with it however good its table. Where `folded`, the tables of `GATED` functions
    are of |x|, which gives each side all entries: channels of small values, which have fine scales, use few segments.
    """
    domains = {} if paper_domains else NETWORK_DOMAINS
    return {
        name: fit_table(
            name,
            entries,
            method,
            domain=domains.get(name),
            coef_bits=coef_bits,
            in_bits=probability_bits if name == "div" else 8,
            symmetry="gated" if folded and name in GATED else "none",
        )
        for name in functions
    }


def folder_tables(folder: Path, functions: Iterable[str] = FUNCTIONS) -> dict[str, PwlTable]:
    """The smallest table of each function in a folder of table files, reciprocals on their highest octave.

    Raises InputError if one is missing.
    """
    chosen = {}
    tables = [table for _, table in load_tables(folder)]
    for name in functions:
        fitting = [
            t
            for t in tables
            if t.function == name and (name not in NETWORK_DOMAINS or t.domain == NETWORK_DOMAINS[name])
        ]
        if not fitting:
            where = f" on {list(NETWORK_DOMAINS[name])}" if name in NETWORK_DOMAINS else ""
            raise InputError(f"{folder}: must hold a table of {name}{where}")
        chosen[name] = min(fitting, key=lambda table: table.entries)
    return chosen
