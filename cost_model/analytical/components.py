"""The components of units, one class each: their sizes from widths and counts, and their area and energy.

Every field is a number or an array, so that one object can represent many design points. A component's `sizes` are its
physical quantities (bits held, full adders, one-bit multiplexers, ...). Area and energy are sums of sizes times
coefficients; `cost_model.calibration.calibrate` fits these to synthesised and simulated units, one set for each
library. A size has the same name wherever it occurs: a bit of an adder is the same in a floating-point and an integer
unit. The energy of a size in a cycle is its coefficient times the activity of the unit's work; clocked sizes always
spend theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from cost_model.analytical.broadcasting import Array, bit_length, levels
from cost_model.analytical.multiplier_trees import Tree, booth, rows

Sizes = dict[str, Array]
CLOCKED = ("flip-flops", "table words in latches")  # their energy is the clock's, whatever the data do


@dataclass(frozen=True)
class Cost:
    """Area in gate equivalents and m², energy per action in J, leakage in W; nan if the library does not give it.

    `proxy` is the switched capacitance per action in NAND2 inputs, for a library without energies.
    """

    area_ge: Array
    area_m2: Array
    energy_j: Array
    proxy: Array
    leakage_w: Array

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


class Component:
    """A part of a unit; `source` says where its coefficients come from."""

    source: ClassVar[str] = "data/coefficients.json: non-negative least squares on data/dataset.json"

    def sizes(self) -> Sizes:
        """The component's physical quantities, by name."""
        raise NotImplementedError

    def area(self, coefficients: Mapping[str, float]) -> Array:
        """The sum of sizes times coefficients."""
        return sum(coefficients.get(name, 0.0) * np.asarray(size, np.float64) for name, size in self.sizes().items())

    def energy(self, coefficients: Mapping[str, float], activity: float) -> Array:
        """The sum of sizes times coefficients, those that are not clocked scaled by `activity`."""
        return self.area({n: c if n in CLOCKED else c * activity for n, c in coefficients.items()})


def added(*parts: Sizes) -> Sizes:
    """The sizes of all parts, added up by name."""
    total: Sizes = {}
    for part in parts:
        for name, size in part.items():
            total[name] = total[name] + size if name in total else size
    return total


@dataclass(frozen=True)
class TableStorage(Component):
    """The table: (entries - 1) thresholds, two lists of coefficients, their write port. `latched` is 0 or 1.

    The port of a latched table is registered, its data twice, in flip-flops without an enable.
    """

    entries: Array
    in_bits: Array
    coef_bits: Array
    latched: Array = 0

    def sizes(self) -> Sizes:
        bits = (self.entries - 1) * self.in_bits + 2 * self.entries * self.coef_bits
        words = 3 * self.entries - 1
        latched = np.asarray(self.latched)
        port = 2 * np.maximum(self.in_bits, self.coef_bits) + 3 + levels(self.entries)
        return {
            "flip-flops": bits * (1 - latched) + port * latched,
            "table bits in flip-flops": bits * (1 - latched),
            "table bits in latches": bits * latched,
            "table words in flip-flops": words * (1 - latched),
            "table words in latches": words * latched,
        }


@dataclass(frozen=True)
class ComparatorBank(Component):
    """`count` comparators of one code with `bits`-wide thresholds."""

    count: Array
    bits: Array

    def sizes(self) -> Sizes:
        return {"comparator bits": self.count * self.bits, "comparators": self.count}


@dataclass(frozen=True)
class Selection(Component):
    """One of `ways` words of `bits`, chosen by a thermometer code."""

    ways: Array
    bits: Array

    def sizes(self) -> Sizes:
        return {"selected bits": self.ways * self.bits, "selection ways": self.ways}


@dataclass(frozen=True)
class BoothProduct(Component):
    """The carry-save tree of `rtl.blocks.multiplication`, a_bits by b_bits plus an addend, and the sum of its two
    rows.
    """

    a_bits: Array
    b_bits: Array
    width: Array
    addend: Array = 0
    signed: bool = True

    @cached_property
    def tree(self) -> Tree:
        """What it is made of."""
        return booth(self.a_bits, self.b_bits, self.width, self.addend, self.signed)

    def sizes(self) -> Sizes:
        tree = self.tree
        return {
            "Booth digits": tree.digits,
            "Booth row bits": tree.row_bits,
            "full adders": tree.adders,
            "adder bits": self.width - tree.first_pair,
        }


@dataclass(frozen=True)
class MergedRecoding(Component):
    """What a recoded factor of `bits` takes more where no register divides its recoding from its selection.

    Synthesis merges the two there: it computes a Booth digit of the table's words, not of the selected one. `merged` is
    0 where a register divides them, else 1.
    """

    bits: Array
    merged: Array

    def sizes(self) -> Sizes:
        return {"merged bits": self.bits * self.merged}


@dataclass(frozen=True)
class RowProduct(Component):
    """The product that synthesis makes of `*`, with an addend in the same tree, and the sum of its two rows."""

    a_bits: Array
    b_bits: Array
    width: Array
    addend: Array = 0
    signed: Array = 1  # whether the narrower factor is

    def sizes(self) -> Sizes:
        gated, full, half = rows(self.a_bits, self.b_bits, self.width, self.addend, self.signed)
        return {
            "gated row bits": gated,
            "full adders of rows": full + half / 2,
            "adder bits": self.width,
        }


@dataclass(frozen=True)
class Shifter(Component):
    """A barrel shifter of `bits` by 0..`distances` - 1."""

    bits: Array
    distances: Array

    def sizes(self) -> Sizes:
        return {"shifter multiplexers": self.bits * levels(self.distances)}


@dataclass(frozen=True)
class ShiftedSum(Component):
    """The rows of `rtl.blocks.multiplication.shifted_sum`: `bits` shifted twice, by less than `distances` each, and
    `addends`; and the sum of its two rows.
    """

    bits: Array
    distances: Array
    width: Array
    addends: Array = 1

    def sizes(self) -> Sizes:
        return {
            "shifter multiplexers": (2 * self.bits + self.distances) * levels(self.distances),
            "inverted bits": 2 * self.bits,
            "full adders": self.addends * (self.bits + self.distances),
            "adder bits": self.width,
        }


@dataclass(frozen=True)
class Adder(Component):
    """A sum of `bits`."""

    bits: Array

    def sizes(self) -> Sizes:
        return {"adder bits": self.bits}


@dataclass(frozen=True)
class Rounding(Component):
    """Round half up and saturate from `in_bits` to `out_bits`."""

    in_bits: Array
    out_bits: Array

    def sizes(self) -> Sizes:
        return {
            "incremented bits": self.out_bits,
            "clamped bits": self.out_bits,
            "tested bits": np.maximum(self.in_bits - self.out_bits, 0),
        }


@dataclass(frozen=True)
class PipelineRegisters(Component):
    """`bits` in flip-flops that hold while the pipeline stalls, valid bits among them."""

    bits: Array

    def sizes(self) -> Sizes:
        return {"flip-flops": self.bits, "register bits": self.bits}


@dataclass(frozen=True)
class WeightRegisters(Component):
    """`bits` in flip-flops that hold and seldom change, such as stationary weights."""

    bits: Array

    def sizes(self) -> Sizes:
        return {"flip-flops": self.bits, "held bits": self.bits}


@dataclass(frozen=True)
class FloatOrder(Component):
    """`count` patterns of `bits` mapped to integers of the same order."""

    bits: Array
    count: Array = 1

    def sizes(self) -> Sizes:
        return {"ordered bits": self.bits * self.count}


@dataclass(frozen=True)
class FloatAdder(Component):
    """Compare, align, add, normalise, round, pack in a format."""

    exponent_bits: Array
    fraction_bits: Array

    def sizes(self) -> Sizes:
        exponent, fraction = self.exponent_bits, self.fraction_bits
        magnitude, significand = exponent + fraction, fraction + 1
        aligned, total = significand + 2, significand + 4
        return {
            "comparator bits": magnitude,
            "multiplexer bits": 2 * magnitude,
            "shifter multiplexers": aligned * bit_length(significand + 1) + total * levels(total),
            "adder bits": exponent + aligned + exponent,
            "inverted bits": aligned,
            "tested bits": aligned,
            "leading-zero bits": total,
            "incremented bits": exponent + fraction + 2,
            "packed bits": 1 + magnitude,
        }


@dataclass(frozen=True)
class FloatMultiplier(Component):
    """A product of significands and the sum of exponents, packed; rounded where `rounded` is 1."""

    exponent_bits: Array
    fraction_bits: Array
    rounded: Array = 1

    def sizes(self) -> Sizes:
        exponent, fraction, rounded = self.exponent_bits, self.fraction_bits, np.asarray(self.rounded)
        significand = fraction + 1
        product = BoothProduct(significand, significand, 2 * significand, signed=False)
        own = {
            "adder bits": 2 * exponent,
            "multiplexer bits": significand * rounded + (2 * significand) * (1 - rounded),
            "incremented bits": exponent + 2 + fraction * rounded,
            "tested bits": 2 * (exponent + fraction) + fraction * rounded,
            "packed bits": 1 + exponent + fraction * rounded + (2 * significand) * (1 - rounded),
        }
        return added(product.sizes(), own)


@dataclass(frozen=True)
class LeadingOne(Component):
    """The leading one of `bits` in groups, and the alignment of one code of `code_bits` for each of `groups`."""

    bits: Array
    groups: Array
    code_bits: Array

    def sizes(self) -> Sizes:
        return {"leading-one bits": self.bits, "aligned bits": self.groups * self.code_bits}


@dataclass(frozen=True)
class Fixed(Component):
    """The part of a unit that does not depend on its widths."""

    unit: str
    points: Array

    def sizes(self) -> Sizes:
        return {f"fixed part of {self.unit}": np.ones(np.shape(self.points))}
