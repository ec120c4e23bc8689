"""The kinds of unit, each as the components that it is made of; widths and steps are those of `rtl`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cost_model.analytical.broadcasting import Array, bit_length, levels, require_integers
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
    PipelineRegisters,
    Rounding,
    RowProduct,
    Selection,
    Shifter,
    TableStorage,
    WeightRegisters,
)
from cost_model.analytical.multiplier_trees import Tree
from cost_model.analytical.pipeline_registers import Step, register_bits
from sim.reference import InputError

SHIFT_INTERCEPT, SHIFT_OUTPUT = 8, 16  # distances of the reference unit's shifters
NORMALISER_BITS = 8  # codes and coefficients of its table


class Format(NamedTuple):
    """Field widths of a floating-point format, and the steps' estimates that follow from them."""

    exponent: Array
    fraction: Array

    @property
    def bits(self) -> Array:
        return 1 + self.exponent + self.fraction

    @property
    def significand(self) -> Array:
        return self.fraction + 1


def components(kind: str, **parameters: Array) -> dict[str, Component]:
    """The components of a unit of a kind, by name.

    Raises `InputError` for an unknown kind or parameter, a width that is no integer in 1..255, or one that makes a
    product of the unit wider than that.
    """
    if kind not in _KINDS:
        raise InputError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
    for name, value in parameters.items():
        if name.endswith("_bits") and value is not None:
            require_integers(name, value, 1)
    try:
        return _KINDS[kind](**parameters)
    except TypeError as error:
        raise InputError(f"{kind}: {str(error).removeprefix('_').replace('()', '')}") from None


def _pwl(
    entries: Array, in_bits: Array, stages: Array, coef_bits: Array = None, out_bits: Array = None,
    storage: Array = "flops",
) -> dict[str, Component]:  # fmt: skip
    coef_bits = in_bits if coef_bits is None else coef_bits
    out_bits = in_bits if out_bits is None else out_bits
    entries, in_bits, coef_bits, out_bits = _floats(entries, in_bits, coef_bits, out_bits)
    acc = np.maximum(in_bits + coef_bits, coef_bits + SHIFT_INTERCEPT - 1) + 1
    product = BoothProduct(in_bits, coef_bits, acc, coef_bits + SHIFT_INTERCEPT - 1)
    steps = [
        *_pwl_steps("payload", entries, in_bits, coef_bits, acc, product.tree),
        Step(
            ("acc",),
            levels(np.minimum(SHIFT_OUTPUT, acc + 1)),
            {"scaled": acc + 1 - np.maximum(product.tree.ones - 1, 0)},
        ),
        Step(("scaled",), out_bits, {"code": out_bits}),
    ]
    return {
        "table storage": TableStorage(entries, in_bits, coef_bits, np.asarray(storage) == "latches"),
        "comparator bank": ComparatorBank(entries - 1, in_bits),
        "selection": Selection(entries, 2 * coef_bits),
        "multiplier": product,
        "intercept shifter": Shifter(coef_bits, SHIFT_INTERCEPT),
        "output shifter": Shifter(acc + 1, SHIFT_OUTPUT),
        "rounding": Rounding(acc, out_bits),
        "pipeline registers": PipelineRegisters(register_bits(steps, "code", stages)),
        "fixed": Fixed("pwl", acc),
    }


def _pwl_steps(source: str, entries: Array, in_bits: Array, coef_bits: Array, acc: Array, tree: Tree) -> list[Step]:
    half, ones = acc // 2, tree.ones
    rows = {"row_0": acc - ones, "row_1": tree.low_pairs + tree.high_pairs}
    low = {"low": half + (tree.low_pairs > 0), "high_0": acc - half - ones, "high_1": tree.high_pairs}
    rounds = np.ceil(np.log((coef_bits // 2 + 2) / 2) / np.log(1.5))
    return [
        Step((source,), 2 * levels(in_bits), {"q": in_bits, "above": entries - 1}),
        Step(("above",), 2 * levels(entries), {"slope": coef_bits, "intercept": coef_bits}),
        Step(("q", "slope", "intercept"), 8 + 4 * rounds, rows),
        Step(("row_0", "row_1"), half, low),
        Step(("high_0", "high_1", "low"), acc - half, {"acc": acc - np.maximum(ones - 1, 0)}),
    ]


def _fp_pwl(
    entries: Array, exponent_bits: Array, fraction_bits: Array, stages: Array, storage: Array = "flops"
) -> dict[str, Component]:
    entries, exponent, fraction = _floats(entries, exponent_bits, fraction_bits)
    number = Format(exponent, fraction)
    bits = number.bits
    late = entries - 1 < bits  # the comparators' bits go along to the adder and not the intercept
    choice = 2 * levels(entries)
    multiply = _float_multiplier_steps(number, "slope", "x", rounded=1)
    steps = [
        Step(("payload",), 6 + 2 * levels(bits), {"x": bits, "above": entries - 1}),
        Step(("above",), choice, {"slope": bits, "intercept": np.where(late, 0, bits)}),
        *multiply,
        *_float_adder_steps(number, "product", "intercept"),
    ]
    fetch = Step(("above",), choice, {"intercept": bits})
    later = [*steps[: 2 + len(multiply)], fetch, *steps[2 + len(multiply) :]]
    registers = np.where(late, _held(later, stages, 13), _held(steps, stages, 12))
    return {
        "table storage": TableStorage(entries, bits, bits, np.asarray(storage) == "latches"),
        "order": FloatOrder(bits, 2),
        "comparator bank": ComparatorBank(entries - 1, bits),
        "selection": Selection(entries, 2 * bits),
        "float multiplier": FloatMultiplier(exponent, fraction),
        "float adder": FloatAdder(exponent, fraction),
        "pipeline registers": PipelineRegisters(registers),
        "fixed": Fixed("fp-pwl", bits),
    }


def _held(steps: list[Step], stages: Array, deepest: int) -> Array:
    """The registers of a unit; more stages than it has steps count as the most that there are."""
    return register_bits(steps, "result", np.minimum(stages, deepest))


def _float_multiplier_steps(number: Format, a: str, b: str, rounded: int, target: Format | None = None) -> list[Step]:
    exponent, fraction = number
    product = 2 * number.significand
    target = target or number
    classes = {f"product_{name}": 1 for name in ("sign", "zero", "special", "nan")}
    tree = BoothProduct(number.significand, number.significand, product, signed=False).tree
    rows = {"row_0": product, "row_1": tree.low_pairs + tree.high_pairs, "scale": target.exponent + 2, **classes}
    compress = Step((a, b), 6 + number.significand, rows)
    if not rounded:
        kept = Step(("row_0", "row_1"), 2 + number.significand, {"kept": product})
        made = {"product": 1 + target.exponent + product - 1}  # the fraction bits below are always 0
        return [compress, kept, Step(("kept", "scale", *classes), 4 + exponent, made)]
    kept = {"kept": product - (fraction - 1), "sticky": 1}
    return [
        compress,
        Step(("row_0", "row_1"), 2 + number.significand, kept),
        Step(("kept", "sticky", "scale"), 2 + fraction, {"product_rounded": fraction + exponent + 2}),
        Step(("product_rounded", *classes), 7, {"product": number.bits}),
    ]


def _float_adder_steps(number: Format, a: str, b: str) -> list[Step]:
    exponent, fraction = number
    magnitude, significand = exponent + fraction, number.significand
    shift = bit_length(significand + 3)
    aligned = {"exponent": exponent, "fraction": fraction, "aligned": significand + 2, "below": 1}
    return [
        Step((a, b), 2 * levels(magnitude) + 5, {"large": magnitude, "small": magnitude, "sum_sign": 1, "subtract": 1}),
        Step(
            ("large", "small", "sum_sign", "subtract"),
            exponent + 2 * shift,
            {**aligned, "sum_sign": 1, "sum_special": 1, "sum_nan": 1},
        ),
        Step(("exponent", "fraction", "aligned", "below", "subtract"), fraction + 4, {"total": significand + 4}),
        Step(
            ("total", "exponent"),
            4 * shift + 2,
            {"normal": significand, "rest": 1, "nonzero": 1, "lifted": exponent + 2},
        ),
        Step(("normal", "rest", "lifted"), 2 + fraction, {"rounded": magnitude + 2}),
        Step(("rounded", "nonzero", "sum_sign", "sum_special", "sum_nan"), 7, {"result": number.bits}),
    ]


def _element(rows: Array, weight_bits: Array, activation_bits: Array) -> dict[str, Component]:
    rows, weight, activation = _floats(rows, weight_bits, activation_bits)
    total = weight + activation + levels(rows)
    return {
        "product and sum": RowProduct(weight, activation, total, total),
        "registers": PipelineRegisters(activation + 3 + total),
        "weights": WeightRegisters(2 * weight),
        "fixed": Fixed("element", total),
    }


def _fp_element(
    exponent_bits: Array, fraction_bits: Array, stages: Array, wide_sum: Array = False
) -> dict[str, Component]:
    exponent, fraction = _floats(exponent_bits, fraction_bits)
    wide = np.asarray(wide_sum, bool)
    number = Format(exponent, fraction)
    summed = Format(np.where(wide, 8.0, exponent), np.where(wide, 23.0, fraction))
    adder = _float_adder_steps(summed, "addend", "product")
    waiting = {"addend": summed.bits}
    rounded, exact = (
        register_bits(
            [*_float_multiplier_steps(number, "a", "b", style, summed), *adder],
            "result",
            np.minimum(stages, most),
            waiting,
        )
        for style, most in ((1, 10), (0, 9))
    )
    return {
        "float multiplier": FloatMultiplier(exponent, fraction, 1 - wide),
        "float adder": FloatAdder(*summed),
        "pipeline registers": PipelineRegisters(np.where(wide, exact, rounded)),
        "activation": PipelineRegisters(number.bits + 2),
        "weights": WeightRegisters(2 * number.bits),
        "fixed": Fixed("fp-element", number.bits),
    }


def _requant(
    in_bits: Array, multiplier_bits: Array, max_shift: Array, out_bits: Array, stages: Array
) -> dict[str, Component]:
    wide, multiplier, out = _floats(in_bits, multiplier_bits, out_bits)
    distances = np.asarray(max_shift, np.float64) + 1
    product = wide + multiplier
    steps = [
        Step(
            ("payload",),
            2 * levels(np.minimum(wide, multiplier)) + product,
            {"product": product, "shift": levels(distances)},
        ),
        Step(("product", "shift"), levels(distances), {"scaled": product + 1}),
        Step(("scaled",), out + 6, {"moved": out + 3}),
        Step(("moved",), 2, {"code": out}),
    ]
    return {
        "multiplier": RowProduct(wide, multiplier, product, 0, wide <= multiplier),
        "shifter": Shifter(product + 1, distances),
        "rounding": Rounding(product, out),
        "zero point": Adder(out + 3),
        "pipeline registers": PipelineRegisters(register_bits(steps, "code", stages)),
        "fixed": Fixed("requant", product),
    }


def _normaliser(function: Array, entries: Array, input_bits: Array, stages: Array) -> dict[str, Component]:
    entries, width = _floats(entries, input_bits)
    octaves = np.where(np.asarray(function) == "div", 1, 2)
    groups = np.ceil((width - 1) / octaves)
    bits = np.full(np.shape(width), float(NORMALISER_BITS))
    code, acc = bits - 1, 2 * bits + 1
    product = BoothProduct(bits, bits, acc, acc - 1)
    steps = [
        Step(("payload",), 4 * levels(width), {"magnitude": width - 1, "hot": groups, "largest": 1}),
        Step(("magnitude", "hot"), 2 * levels(groups + 1), {"aligned": code + 1, "hot": groups - 1}),
        Step(("aligned", "largest"), code + 2, {"q_in": code}),
        *_pwl_steps("q_in", entries, bits, bits, acc, product.tree),
        Step(("acc", "hot"), 2 * levels(groups + 1) + levels(groups), {"scaled": acc}),
        Step(("scaled", "largest"), bits + 1, {"result": bits}),
    ]
    return {
        "leading one": LeadingOne(width, groups, bits),
        "table storage": TableStorage(entries, bits, bits),
        "comparator bank": ComparatorBank(entries - 1, bits),
        "selection": Selection(entries, 2 * bits),
        "multiplier": product,
        "shifter": Shifter(acc, groups),
        "rounding": Rounding(acc, bits),
        "pipeline registers": PipelineRegisters(register_bits(steps, "result", stages)),
        "fixed": Fixed("normaliser", width),
    }


def _floats(*values: Array) -> list[Array]:
    return [np.asarray(value, np.float64) for value in values]


_KINDS: dict[str, Callable[..., dict[str, Component]]] = {
    "pwl": _pwl,
    "fp-pwl": _fp_pwl,
    "element": _element,
    "fp-element": _fp_element,
    "requant": _requant,
    "normaliser": _normaliser,
}
