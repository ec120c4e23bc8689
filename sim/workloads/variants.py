"""The sets of tables that an evaluation compares, and the parts of one that a resumed run does not repeat."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.run_directory import RunDirectory
from sim.common.errors import require_range
from sim.network.operators.tables import EXACT
from sim.network.table_sets import Tables, control_tables, fitted_tables
from sim.reference import InputError

Methods = Sequence[tuple[str, int]]
PAPER = "-paper"  # after a method's name: its reciprocals are fitted on the paper's own domains
WIDE = "-16-bit"  # after a method's name: its coefficients have 16 bits
FOLDED = "-folded"  # after a method's name: its activations' tables are of |x|
# two entries are the negative control
METHODS: Methods = (("genetic", 8), ("genetic", 2), ("gqa-lut", 8), ("nn-lut", 8), ("genetic", 16))


@dataclass(frozen=True)
class Variant:
    """A set of tables: those of a method for all functions, or for one while the others are exact."""

    method: str
    entries: int | None
    operation: str = "all"  # or a function

    @property
    def name(self) -> str:
        """Of its part of a run."""
        return "-".join(str(part) for part in (self.method, self.entries, self.operation) if part is not None)


def refined() -> list[Variant]:
    """Ours with what costs more hardware than entries: folded tables, and coefficients of 16 bits."""
    method = METHODS[0][0]
    return [Variant(method + FOLDED, 8), *(Variant(method + WIDE, entries) for entries in (8, 16))]


def variants(functions: Sequence[str], single: bool, methods: Methods | None = None) -> list[Variant]:
    """The control first, then every method for all functions, then ours, GQA-LUT's and NN-LUT's for one at a time."""
    methods = METHODS if methods is None else methods
    every = [Variant(EXACT, None), *(Variant(*method) for method in methods)]
    chosen = (
        [(name, entries) for name, entries in methods if entries != 2 and not name.endswith(PAPER)] if single else []
    )
    return every + [Variant(*method, function) for method in chosen for function in functions]


@dataclass(frozen=True)
class Options:
    """The options of an evaluation: `images` are measured, `calibration` others choose the scales of each seed."""

    images: int
    calibration: int
    seeds: tuple[int, ...] = (0, 1, 2)
    granularity: str = "token"
    single: bool = True  # one operation at a time too, at the first seed
    wide: bool = False  # the `refined` variants too

    def __post_init__(self) -> None:
        require_range("images", self.images, 2, 100_000)
        require_range("calibration", self.calibration, 1, 10_000)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds must be different numbers, not {list(self.seeds)}")

    def pairs(self, functions: Sequence[str]) -> list[tuple[Variant, int]]:
        """Every variant with each seed that measures it, in the order of measuring: all seeds of a variant together."""
        return [
            (variant, seed)
            for variant in variants(functions, self.single) + (refined() if self.wide else [])
            for seed in (self.seeds if variant.operation == "all" else self.seeds[:1])
        ]


class Fits:
    """The tables of each variant for the `functions` of a network, each method's fitted once.

    `probability_bits` are those of its softmax sites (`sim.network.table_sets.fitted_tables`).
    """

    def __init__(self, functions: Sequence[str], probability_bits: int = 8) -> None:
        self.functions, self.probability_bits = functions, probability_bits
        self._fitted: dict[tuple[str, int], Tables] = {}

    def tables(self, variant: Variant) -> Tables:
        """A table, or "exact", for each function."""
        control = control_tables(self.functions)
        if variant.entries is None:
            return control
        key = variant.method, variant.entries
        if key not in self._fitted:
            paper, wide, folded = (variant.method.endswith(suffix) for suffix in (PAPER, WIDE, FOLDED))
            name = variant.method.removesuffix(PAPER).removesuffix(WIDE).removesuffix(FOLDED)
            bits = 16 if wide else 8
            self._fitted[key] = fitted_tables(
                name, variant.entries, self.functions, paper, bits, self.probability_bits, folded
            )
        fitted = self._fitted[key]
        return fitted if variant.operation == "all" else {**control, variant.operation: fitted[variant.operation]}


def part(run: RunDirectory, name: str, measure: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """The tensors of a finished part of a run, or else those that `measure` gives, kept with the seconds it took."""
    done = run.done(name)
    if done is not None:
        return done[0]
    started = time.perf_counter()
    found = measure()
    row: dict[str, Any] = {"seconds": time.perf_counter() - started}
    run.finish(name, found, row)
    return {key: torch.as_tensor(value) for key, value in found.items()}
