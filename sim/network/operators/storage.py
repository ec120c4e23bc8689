"""Storage of operators in a packed folder: tensors, weights and lowered tables.

The exact control stores the values of its function instead of a table, as the tensor "SITE.values".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from quant.formats.packed import PackedModel
from quant.plan import Plan
from quant.primitives.quantisers import QuantisedWeight
from sim.network.operators.tables import ValueNormaliser, ValueTable, control
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable

NORMALISER = ("scale", "input_bits", "input_frac_bits")


@dataclass
class Contents:
    """The contents of a network's packed folder."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, QuantisedWeight] = field(default_factory=dict)
    tables: dict[str, LoweredTable] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Writer:
    """Collects what one operator stores, under its `key`."""

    key: str
    contents: Contents

    def tensor(self, name: str, tensor: Tensor) -> None:
        """Store a tensor as KEY.NAME."""
        self.contents.tensors[f"{self.key}.{name}"] = tensor

    def weight(self, name: str, weight: QuantisedWeight, bound: int) -> None:
        """Store a weight under its own name, with the largest magnitude of its accumulators."""
        self.contents.weights[name], self.contents.bounds[name] = weight, bound

    def table(self, name: str, table: LoweredTable) -> None:
        """Store a lowered table, or the control's values, as KEY.NAME."""
        if isinstance(table, ValueTable):
            self.tensor(f"{name}.values", torch.tensor(table.values))
        else:
            self.contents.tables[f"{self.key}.{name}"] = table

    def normaliser(self, name: str, normaliser: Normaliser) -> dict[str, int]:
        """Store a normaliser's table; returns its numbers for the row."""
        self.table(name, normaliser.lowered)
        return {key: getattr(normaliser, key) for key in NORMALISER}


@dataclass(frozen=True)
class Reader:
    """Gives one operator what `Writer` stored under its `key`."""

    key: str
    model: PackedModel

    def tensor(self, name: str) -> Tensor:
        """The tensor KEY.NAME."""
        return self.model.tensors[f"{self.key}.{name}"]

    def weight(self, name: str) -> QuantisedWeight:
        """The weight of that name."""
        return self.model.weights[name]

    def table(self, name: str, function: str, scale: int, exponent: int, out_bits: int, bits: int = 8) -> LoweredTable:
        """The table KEY.NAME; for the control of `bits`, which stores values only, with these formats."""
        values = self.model.tensors.get(f"{self.key}.{name}.values")
        if values is None:
            return self.model.tables[f"{self.key}.{name}"]
        plain = replace(control(function, bits).lower(scale, exponent), out_bits=out_bits)
        fields = {name: getattr(plain, name) for name in LoweredTable.__dataclass_fields__}
        return ValueTable(**fields, values=tuple(values.tolist()))

    def normaliser(self, function: str, site: str, numbers: Mapping[str, int], bits: int = 8) -> Normaliser:
        """The normaliser of `function`, whose table is the plan's. Raises InputError if the stored one is another."""
        given = {key: numbers[key] for key in NORMALISER}
        values = self.model.tensors.get(f"{self.key}.{function}.values")
        if values is not None:
            return ValueNormaliser(control(function, bits), input_signed=False, values=tuple(values.tolist()), **given)
        result = Normaliser(_table_of(self.model.plan, site, function), input_signed=False, **given)
        if result.lowered != self.model.tables[f"{self.key}.{function}"]:
            raise InputError(f"{self.key}.{function}: the lowered table is not that of the plan's")
        return result


def label(table: LoweredTable) -> str:
    """A table as a report shows it."""
    return "exact" if isinstance(table, ValueTable) else f"{len(table.slopes)} entries"


def _table_of(plan: Plan, site: str, function: str) -> PwlTable:
    """The table that a plan's rules give a site; the last rule that has one counts."""
    table: Any = None
    for rule in plan.rules:
        if rule.matches(site):
            table = rule.settings.get("tables", {}).get(function, table)
    if not isinstance(table, PwlTable):
        raise InputError(f"{site}: the plan has no table of {function}")
    return table
