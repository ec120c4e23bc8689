"""The components of a unit, one class each: how their size follows from widths and counts, and what an action costs.

Every field is a number or an array, so that one object stands for a million design points. A component's `sizes` are
its physical quantities (bits held, partial products, one-bit multiplexers, ...); area and energy are sums of sizes
times coefficients, which `cost_model.calibrate` fits to synthesised and simulated units, one set for each library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

Array = Any  # a number or an array of them
Coefficients = Mapping[str, Mapping[str, float]]  # quantity -> size's name -> coefficient


@dataclass(frozen=True)
class Cost:
    """Area in m² and in gate equivalents, energy per action in J, leakage in W; nan where a library does not give it.

    `proxy` is the switched capacitance per action in NAND2 inputs, of a library without energies.
    """

    area_ge: Array
    area_m2: Array
    energy_j: Array
    proxy: Array
    leakage_w: Array

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def levels(ways: Array) -> Array:
    """ceil(log2(ways)), at least 0: the stages of a shifter or a tree."""
    return np.ceil(np.log2(np.maximum(np.asarray(ways, dtype=np.float64), 1)))


class Component:
    """A part of a unit; `source` is where its coefficients come from."""

    source: ClassVar[str] = "data/coefficients.json: non-negative least squares on data/dataset.json"

    def sizes(self) -> dict[str, Array]:
        """The component's physical quantities, by name."""
        raise NotImplementedError

    def quantity(self, coefficients: Mapping[str, float]) -> Array:
        """The sum of sizes times coefficients."""
        return sum(coefficients.get(name, 0.0) * np.asarray(size, np.float64) for name, size in self.sizes().items())


@dataclass(frozen=True)
class TableStorage(Component):
    """The table: (entries - 1) thresholds, two lists of coefficients, their write port. `latched` is 0 or 1."""

    entries: Array
    in_bits: Array
    coef_bits: Array
    latched: Array = 0

    def sizes(self) -> dict[str, Array]:
        bits = (self.entries - 1) * self.in_bits + 2 * self.entries * self.coef_bits
        words = 3 * self.entries - 1
        latched = np.asarray(self.latched)
        port = np.maximum(self.in_bits, self.coef_bits)
        return {
            "table bits in flip-flops": bits * (1 - latched),
            "table bits in latches": bits * latched,
            "table words in flip-flops": words * (1 - latched),
            "table words in latches": words * latched,
            "latch port bits": (2 * port + 4) * latched,
        }


@dataclass(frozen=True)
class ComparatorBank(Component):
    """`count` comparators of one code with `bits`-wide thresholds."""

    count: Array
    bits: Array

    def sizes(self) -> dict[str, Array]:
        return {"comparator bits": self.count * self.bits, "comparators": self.count}


@dataclass(frozen=True)
class Selection(Component):
    """One of `ways` words of `bits`, chosen by a thermometer code."""

    ways: Array
    bits: Array

    def sizes(self) -> dict[str, Array]:
        return {"selected bits": self.ways * self.bits, "selection ways": self.ways}


@dataclass(frozen=True)
class Multiplier(Component):
    """A product of `a_bits` by `b_bits`: full adders for all partial products but the edges, and the final sum."""

    a_bits: Array
    b_bits: Array

    def sizes(self) -> dict[str, Array]:
        inner = (np.asarray(self.a_bits) - 1) * (np.asarray(self.b_bits) - 1)
        return {"inner partial products": inner, "product bits": self.a_bits + self.b_bits}


@dataclass(frozen=True)
class Shifter(Component):
    """A barrel shifter of `bits` by 0..`distances` - 1."""

    bits: Array
    distances: Array

    def sizes(self) -> dict[str, Array]:
        return {"shifter multiplexers": self.bits * levels(self.distances)}


@dataclass(frozen=True)
class Adder(Component):
    """A sum of `bits`."""

    bits: Array

    def sizes(self) -> dict[str, Array]:
        return {"adder bits": self.bits}


@dataclass(frozen=True)
class Rounding(Component):
    """Round half up and saturate from `in_bits` to `out_bits`."""

    in_bits: Array
    out_bits: Array

    def sizes(self) -> dict[str, Array]:
        return {"rounded bits": self.out_bits, "saturated bits": np.maximum(self.in_bits - self.out_bits, 0)}


@dataclass(frozen=True)
class PipelineRegisters(Component):
    """`bits` in flip-flops that hold while the pipeline stalls, and the handshake of `stages`."""

    bits: Array
    stages: Array

    def sizes(self) -> dict[str, Array]:
        return {"register bits": self.bits, "stages": self.stages}


@dataclass(frozen=True)
class FloatAdder(Component):
    """Compare, align, add, normalise, round in a format."""

    exponent_bits: Array
    fraction_bits: Array

    def sizes(self) -> dict[str, Array]:
        significand = self.fraction_bits + 4  # with guard, round and sticky
        return {
            "float shifter multiplexers": significand * levels(significand),
            "float significand bits": significand,
            "float exponent bits": self.exponent_bits,
        }


@dataclass(frozen=True)
class FloatMultiplier(Component):
    """A product of significands, rounded where `rounded` is 1, and the sum of exponents."""

    exponent_bits: Array
    fraction_bits: Array
    rounded: Array = 1

    def sizes(self) -> dict[str, Array]:
        significand = self.fraction_bits + 1
        return {
            "inner partial products": (significand - 1) * (significand - 1),
            "product bits": 2 * significand,
            "float product bits": significand * np.asarray(self.rounded) + self.exponent_bits,
        }


@dataclass(frozen=True)
class FloatRegisters(Component):
    """Pipeline registers of a floating-point unit: about one word and its flags for each stage."""

    bits: Array
    stages: Array

    def sizes(self) -> dict[str, Array]:
        return {"float register bits": self.bits * self.stages, "stages": self.stages}


@dataclass(frozen=True)
class ProcessingElement(Component):
    """A product added to a sum of `sum_bits`: every row of partial products is sign-extended to the sum's width."""

    weight_bits: Array
    activation_bits: Array
    sum_bits: Array

    def sizes(self) -> dict[str, Array]:
        rows = np.minimum(self.weight_bits, self.activation_bits)
        held = self.activation_bits + 2 * np.asarray(self.weight_bits) + 3 + self.sum_bits
        return {"extended partial products": rows * self.sum_bits, "register bits": held}


@dataclass(frozen=True)
class Accumulators(Component):
    """`count` sums of `bits`, of which one a cycle is added to: a column of an array."""

    bits: Array
    count: Array = 1

    def sizes(self) -> dict[str, Array]:
        return {"adder bits": self.bits, "register bits": self.bits * self.count}


@dataclass(frozen=True)
class LeadingOne(Component):
    """The leading one of `bits` in groups, and the alignment of one code of `code_bits` for each of `groups`."""

    bits: Array
    groups: Array
    code_bits: Array

    def sizes(self) -> dict[str, Array]:
        return {"leading-one bits": self.bits, "aligned bits": self.groups * self.code_bits}


@dataclass(frozen=True)
class Fixed(Component):
    """What a unit of this kind has whatever its widths."""

    kind: str
    points: Array

    def sizes(self) -> dict[str, Array]:
        return {f"fixed part of {self.kind}": np.ones(np.shape(self.points))}


def register_bits(step_levels: list[Array], live_bits: list[Array], stages: Array) -> Array:
    """The bits of all ranks where `rtl.pipeline.cut` puts them, for arrays of units.

    `step_levels` are the steps' delays, `live_bits` the bits that live on after each step. The cut is the one of least
    maximum delay, among those of least sum of squares: the same rule, every possible cut priced at once.
    """
    count = len(step_levels)
    shape = np.broadcast_shapes(*(np.shape(a) for a in (*step_levels, *live_bits, stages)))
    stage_list = np.broadcast_to(np.asarray(stages), shape).ravel()
    delays = np.stack([np.broadcast_to(np.asarray(a, np.float64), shape).ravel() for a in step_levels])
    bits = np.stack([np.broadcast_to(np.asarray(a, np.float64), shape).ravel() for a in live_bits])
    total = np.empty(len(stage_list))
    for depth in np.unique(stage_list):
        here = np.flatnonzero(stage_list == depth)
        until = np.concatenate([np.zeros((1, len(here))), np.cumsum(delays[:, here], axis=0)])
        held = bits[:, here]
        best = np.full(len(here), np.inf)
        answer = np.zeros(len(here))
        for inner in combinations(range(1, count), int(depth) - 1):
            edges = [0, *inner, count]
            parts = np.diff(until[edges], axis=0)
            price = parts.max(axis=0) * 1e6 + (parts * parts).sum(axis=0)
            better = price < best
            best = np.where(better, price, best)
            answer = np.where(better, held[[edge - 1 for edge in edges[1:]]].sum(axis=0), answer)
        total[here] = answer + depth  # and a valid bit for each rank
    return total.reshape(shape)
