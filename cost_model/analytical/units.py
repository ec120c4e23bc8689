"""The units of the analytical model, one class each: parameters, pipelines and components.

A parameter is a number, or an array for many units at once. Widths, steps and delays are those of `rtl`.
`cost_model.calibration.design_space` has a class for each unit, which draws the measured points for the coefficients.
"""

from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import ClassVar

import numpy as np

from cost_model.analytical.broadcasting import Array, levels, require_integers
from cost_model.analytical.components import (
    Adder,
    BoothProduct,
    ComparatorBank,
    Component,
    Fixed,
    FloatAdder,
    FloatMultiplier,
    FloatOrder,
    LeadingOne,
    MergedRecoding,
    PipelineRegisters,
    Rounding,
    RowProduct,
    Selection,
    Shifter,
    TableStorage,
    WeightRegisters,
)
from cost_model.analytical.pipeline_registers import Pipeline, Step, register_bits
from cost_model.analytical.steps import (
    Format,
    exact_product_steps,
    float_adder_steps,
    pwl_steps,
    rounded_product_steps,
)
from sim.reference import InputError

SHIFT_INTERCEPT, SHIFT_OUTPUT = 8, 16  # distances of the reference unit's shifters
SELECT = 1  # the step that selects, among those of `cost_model.analytical.steps.pwl_steps`
NORMALISER_BITS = 8  # codes and coefficients of its table


@dataclass(frozen=True)
class Unit:
    """A unit, or many in arrays; `name` is its name in calls and in data files."""

    name: ClassVar[str]

    def pipelines(self) -> list[Pipeline]:
        """The unit's pipeline; several if its shape decides between them (`Pipeline.when`), none if it has no steps."""
        return []

    def components(self) -> dict[str, Component]:
        """The unit's components, by name."""
        raise NotImplementedError

    def registers(self) -> PipelineRegisters:
        """The registers between its stages."""
        return PipelineRegisters(register_bits(self.pipelines()))


def unit(name: str, **parameters: Array) -> Unit:
    """The unit called `name`.

    Raises `InputError` if the name is unknown, a parameter is unknown or missing, or a width is not an integer in
    1..255.
    """
    if name not in UNITS:
        raise InputError(f"unit must be one of {', '.join(UNITS)}, not {name!r}")
    known = {field.name: field.default is MISSING for field in fields(UNITS[name])}
    if unknown := [key for key in parameters if key not in known]:
        raise InputError(f"{name}: parameters must be among {', '.join(known)}, not {', '.join(unknown)}")
    if missing := [key for key, required in known.items() if required and key not in parameters]:
        raise InputError(f"{name}: {', '.join(missing)} must be given")
    for key, value in parameters.items():
        if key.endswith("_bits") and value is not None:
            require_integers(key, value, 1)
    return UNITS[name](**parameters)


@dataclass(frozen=True)
class Pwl(Unit):
    """`rtl.pwl.Pwl` with the reference unit's shifters; widths not given are the input's."""

    name: ClassVar[str] = "pwl"
    entries: Array
    in_bits: Array
    stages: Array
    coef_bits: Array = None
    out_bits: Array = None
    storage: Array = "flops"

    def _widths(self) -> tuple[Array, Array, Array, Array, Array]:
        """Entries, the three widths, and the accumulator's."""
        coef_bits = self.in_bits if self.coef_bits is None else self.coef_bits
        out_bits = self.in_bits if self.out_bits is None else self.out_bits
        entries, in_bits, coef_bits, out_bits = _floats(self.entries, self.in_bits, coef_bits, out_bits)
        acc = np.maximum(in_bits + coef_bits, coef_bits + SHIFT_INTERCEPT - 1) + 1
        return entries, in_bits, coef_bits, out_bits, acc

    def _product(self) -> BoothProduct:
        _, in_bits, coef_bits, _, acc = self._widths()
        return BoothProduct(in_bits, coef_bits, acc, coef_bits + SHIFT_INTERCEPT - 1)

    def pipelines(self) -> list[Pipeline]:
        return [self._pipeline]

    @cached_property
    def _pipeline(self) -> Pipeline:
        entries, in_bits, coef_bits, out_bits, acc = self._widths()
        tree = self._product().tree
        steps = [
            *pwl_steps("payload", entries, in_bits, coef_bits, acc, tree),
            Step(
                ("acc",),
                levels(np.minimum(SHIFT_OUTPUT, acc + 1)),
                {"scaled": acc + 1 - np.maximum(tree.ones - 1, 0)},
            ),
            Step(("scaled",), out_bits, {"code": out_bits}),
        ]
        return Pipeline(steps, "code", self.stages)

    def components(self) -> dict[str, Component]:
        entries, in_bits, coef_bits, out_bits, acc = self._widths()
        divided = self._pipeline.ranks[SELECT]
        return {
            "table storage": TableStorage(entries, in_bits, coef_bits, np.asarray(self.storage) == "latches"),
            "comparator bank": ComparatorBank(entries - 1, in_bits),
            "selection": Selection(entries, 2 * coef_bits),
            "recoding": MergedRecoding(coef_bits, 1 - divided),
            "multiplier": self._product(),
            "intercept shifter": Shifter(coef_bits, SHIFT_INTERCEPT),
            "output shifter": Shifter(acc + 1, SHIFT_OUTPUT),
            "rounding": Rounding(acc, out_bits),
            "pipeline registers": self.registers(),
            "fixed": Fixed(self.name, acc),
        }


@dataclass(frozen=True)
class FloatPwl(Unit):
    """`rtl.floating.pwl.FloatPwl`; stages are limited to its steps."""

    name: ClassVar[str] = "fp-pwl"
    entries: Array
    exponent_bits: Array
    fraction_bits: Array
    stages: Array
    storage: Array = "flops"

    def _shape(self) -> tuple[Array, Format]:
        entries, exponent, fraction = _floats(self.entries, self.exponent_bits, self.fraction_bits)
        return entries, Format(exponent, fraction)

    def pipelines(self) -> list[Pipeline]:
        entries, number = self._shape()
        bits, choice = number.bits, 2 * levels(entries)
        compare = Step(("payload",), 6 + 2 * levels(bits), {"x": bits, "above": entries - 1})
        product = rounded_product_steps(number, "slope", "x")
        total = float_adder_steps(number, "product", "intercept")
        early = [compare, Step(("above",), choice, {"slope": bits, "intercept": bits}), *product, *total]
        fetch = Step(("above",), choice, {"intercept": bits})
        # the comparators' bits go to the adder in place of the intercept, if they are fewer
        late = [compare, Step(("above",), choice, {"slope": bits}), *product, fetch, *total]
        return [
            Pipeline(late, "result", np.minimum(self.stages, len(late)), when=entries - 1 < bits),
            Pipeline(early, "result", np.minimum(self.stages, len(early))),
        ]

    def components(self) -> dict[str, Component]:
        entries, number = self._shape()
        bits = number.bits
        return {
            "table storage": TableStorage(entries, bits, bits, np.asarray(self.storage) == "latches"),
            "order": FloatOrder(bits, 2),
            "comparator bank": ComparatorBank(entries - 1, bits),
            "selection": Selection(entries, 2 * bits),
            "float multiplier": FloatMultiplier(*number),
            "float adder": FloatAdder(*number),
            "pipeline registers": self.registers(),
            "fixed": Fixed(self.name, bits),
        }


@dataclass(frozen=True)
class ProcessingElement(Unit):
    """The integer processing element in row `rows` - 1 of the array (`rtl.array.processing_element`)."""

    name: ClassVar[str] = "element"
    rows: Array
    weight_bits: Array
    activation_bits: Array

    def components(self) -> dict[str, Component]:
        rows, weight, activation = _floats(self.rows, self.weight_bits, self.activation_bits)
        total = weight + activation + levels(rows)
        return {
            "product and sum": RowProduct(weight, activation, total, total),
            "registers": PipelineRegisters(activation + 3 + total),
            "weights": WeightRegisters(2 * weight),
            "fixed": Fixed(self.name, total),
        }


@dataclass(frozen=True)
class FloatProcessingElement(Unit):
    """The array's processing element around `rtl.floating.mac.Mac`; with `wide_sum` it adds exact products in FP32.

    Stages are limited to its steps.
    """

    name: ClassVar[str] = "fp-element"
    exponent_bits: Array
    fraction_bits: Array
    stages: Array
    wide_sum: Array = False

    def _formats(self) -> tuple[Format, Format, np.ndarray]:
        """(format of the factors, format of the sum, whether the sum is wide)."""
        number, wide = Format(*_floats(self.exponent_bits, self.fraction_bits)), np.asarray(self.wide_sum, bool)
        return number, Format(np.where(wide, 8.0, number.exponent), np.where(wide, 23.0, number.fraction)), wide

    def pipelines(self) -> list[Pipeline]:
        number, summed, wide = self._formats()
        total = float_adder_steps(summed, "addend", "product")
        waiting = {"addend": summed.bits}
        exact = [*exact_product_steps(number, "a", "b", summed), *total]
        rounded = [*rounded_product_steps(number, "a", "b"), *total]
        return [
            Pipeline(exact, "result", np.minimum(self.stages, len(exact)), waiting, when=wide),
            Pipeline(rounded, "result", np.minimum(self.stages, len(rounded)), waiting),
        ]

    def components(self) -> dict[str, Component]:
        number, summed, wide = self._formats()
        return {
            "float multiplier": FloatMultiplier(*number, 1 - wide),
            "float adder": FloatAdder(*summed),
            "pipeline registers": self.registers(),
            "activation": PipelineRegisters(number.bits + 2),
            "weights": WeightRegisters(2 * number.bits),
            "fixed": Fixed(self.name, number.bits),
        }


@dataclass(frozen=True)
class Requantiser(Unit):
    """`rtl.requant.Requantiser`."""

    name: ClassVar[str] = "requant"
    in_bits: Array
    multiplier_bits: Array
    max_shift: Array
    out_bits: Array
    stages: Array

    def _widths(self) -> tuple[Array, Array, Array, Array]:
        """Widths of the input, the multiplier and the output, and the shifter's distances."""
        wide, multiplier, shift, out = _floats(self.in_bits, self.multiplier_bits, self.max_shift, self.out_bits)
        return wide, multiplier, out, shift + 1

    def pipelines(self) -> list[Pipeline]:
        wide, multiplier, out, distances = self._widths()
        product, shift = wide + multiplier, levels(distances)
        steps = [
            Step(
                ("payload",),
                2 * levels(np.minimum(wide, multiplier)) + product,
                {"product": product, "shift": shift},
            ),
            Step(("product", "shift"), shift, {"scaled": product + 1}),
            Step(("scaled",), out + 6, {"moved": out + 3}),
            Step(("moved",), 2, {"code": out}),
        ]
        return [Pipeline(steps, "code", self.stages)]

    def components(self) -> dict[str, Component]:
        wide, multiplier, out, distances = self._widths()
        product = wide + multiplier
        return {
            "multiplier": RowProduct(wide, multiplier, product, 0, wide <= multiplier),
            "shifter": Shifter(product + 1, distances),
            "rounding": Rounding(product, out),
            "zero point": Adder(out + 3),
            "pipeline registers": self.registers(),
            "fixed": Fixed(self.name, product),
        }


@dataclass(frozen=True)
class Normaliser(Unit):
    """`rtl.normaliser.NormaliserUnit` of div or rsqrt on an 8-bit table of the highest octave."""

    name: ClassVar[str] = "normaliser"
    function: Array
    entries: Array
    input_bits: Array
    stages: Array

    def _widths(self) -> tuple[Array, Array, Array, Array, Array]:
        """Entries, the input's width, the groups of its bits, and the widths of a code and of the accumulator."""
        entries, width = _floats(self.entries, self.input_bits)
        groups = np.ceil((width - 1) / np.where(np.asarray(self.function) == "div", 1, 2))
        bits = np.full(np.shape(width), float(NORMALISER_BITS))
        return entries, width, groups, bits, 2 * bits + 1

    def _product(self) -> BoothProduct:
        *_, bits, acc = self._widths()
        return BoothProduct(bits, bits, acc, acc - 1)

    def pipelines(self) -> list[Pipeline]:
        entries, width, groups, bits, acc = self._widths()
        code = bits - 1
        steps = [
            Step(("payload",), 4 * levels(width), {"magnitude": width - 1, "hot": groups, "largest": 1}),
            Step(("magnitude", "hot"), 2 * levels(groups + 1), {"aligned": code + 1, "hot": groups - 1}),
            Step(("aligned", "largest"), code + 2, {"q_in": code}),
            *pwl_steps("q_in", entries, bits, bits, acc, self._product().tree),
            Step(("acc", "hot"), 2 * levels(groups + 1) + levels(groups), {"scaled": acc}),
            Step(("scaled", "largest"), bits + 1, {"result": bits}),
        ]
        return [Pipeline(steps, "result", self.stages)]

    def components(self) -> dict[str, Component]:
        entries, width, groups, bits, acc = self._widths()
        return {
            "leading one": LeadingOne(width, groups, bits),
            "table storage": TableStorage(entries, bits, bits),
            "comparator bank": ComparatorBank(entries - 1, bits),
            "selection": Selection(entries, 2 * bits),
            "multiplier": self._product(),
            "shifter": Shifter(acc, groups),
            "rounding": Rounding(acc, bits),
            "pipeline registers": self.registers(),
            "fixed": Fixed(self.name, width),
        }


UNITS: dict[str, type[Unit]] = {
    kind.name: kind for kind in (Pwl, FloatPwl, ProcessingElement, FloatProcessingElement, Requantiser, Normaliser)
}


def _floats(*values: Array) -> list[Array]:
    return [np.asarray(value, np.float64) for value in values]
