"""The tables of a network: one method's, for each function that a network evaluates."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ga_search.config import METHODS, FitConfig
from ga_search.fit import fit
from ga_search.problem import prepare
from sim.network.operators.tables import EXACT
from sim.reference import InputError, PwlTable
from sim.vectors.suites import load_tables

FUNCTIONS = ("gelu", "exp", "div", "rsqrt")  # of BERT's family
DOMAINS = {"div": (2.0, 4.0), "rsqrt": (1.0, 4.0)}  # the highest octave, two for the root; others take their own
PAPER_DOMAINS = {"div": (0.5, 4.0), "rsqrt": (0.25, 4.0)}

Tables = Mapping[str, PwlTable | str]


def control_tables(functions: Iterable[str] = FUNCTIONS) -> Tables:
    """The correctly rounded function for each."""
    return dict.fromkeys(functions, EXACT)


def fitted_tables(
    method: str, entries: int, functions: Iterable[str] = FUNCTIONS, paper_domains: bool = False, seed: int = 0
) -> Tables:
    """Tables that `method` fits on the domains of a network, or on the paper's. Raises `InputError` as a fit does."""
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    domains = PAPER_DOMAINS if paper_domains else DOMAINS
    return {
        name: fit(
            prepare(
                FitConfig(
                    name, entries=entries, method=method, domain=domains.get(name), seed=seed, certificate=False
                )
            )
        )[0]
        for name in functions
    }  # fmt: skip


def folder_tables(folder: Path, functions: Iterable[str] = FUNCTIONS) -> dict[str, PwlTable]:
    """The smallest table of each function in a folder of table files, reciprocals on their highest octave.

    Raises InputError if one is missing.
    """
    chosen = {}
    tables = [table for _, table in load_tables(folder)]
    for name in functions:
        fitting = [t for t in tables if t.function == name and (name not in DOMAINS or t.domain == DOMAINS[name])]
        if not fitting:
            where = f" on {list(DOMAINS[name])}" if name in DOMAINS else ""
            raise InputError(f"{folder}: must hold a table of {name}{where}")
        chosen[name] = min(fitting, key=lambda table: table.entries)
    return chosen
