"""The steps of `rtl`'s pipelines for an array of units at once: the fields of each step, and its delay in gate levels.

Names, delays and fields are those of `rtl.pwl.pwl_steps`, `rtl.floating.multiplier.multiplier_steps` and
`rtl.floating.adder.adder_steps`; a test compares the delays with those of the generated units.
"""

from typing import NamedTuple

import numpy as np

from cost_model.analytical.broadcasting import Array, bit_length, levels
from cost_model.analytical.components import BoothProduct
from cost_model.analytical.multiplier_trees import Tree
from cost_model.analytical.pipeline_registers import Step


class Format(NamedTuple):
    """Field widths of a floating-point format, in bits."""

    exponent: Array
    fraction: Array

    @property
    def bits(self) -> Array:
        return 1 + self.exponent + self.fraction

    @property
    def significand(self) -> Array:
        return self.fraction + 1


def pwl_steps(source: str, entries: Array, in_bits: Array, coef_bits: Array, acc: Array, tree: Tree) -> list[Step]:
    """From the field `source`, a code, to the accumulator `acc`."""
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


def rounded_product_steps(number: Format, a: str, b: str) -> list[Step]:
    """From the patterns `a` and `b` to `product`, rounded to their own format."""
    exponent, fraction = number
    product = 2 * number.significand
    kept = {"kept": product - (fraction - 1), "sticky": 1}
    return [
        _compress(number, a, b, number),
        Step(("row_0", "row_1"), 2 + number.significand, kept),
        Step(("kept", "sticky", "scale"), 2 + fraction, {"product_rounded": fraction + exponent + 2}),
        Step(("product_rounded", *_CLASSES), 7, {"product": number.bits}),
    ]


def exact_product_steps(number: Format, a: str, b: str, target: Format) -> list[Step]:
    """From the patterns `a` and `b` to `product`, exact in the wider format `target`."""
    product = 2 * number.significand
    made = {"product": 1 + target.exponent + product - 1}  # the fraction bits below are always 0
    return [
        _compress(number, a, b, target),
        Step(("row_0", "row_1"), 2 + number.significand, {"kept": product}),
        Step(("kept", "scale", *_CLASSES), 4 + number.exponent, made),
    ]


def float_adder_steps(number: Format, a: str, b: str) -> list[Step]:
    """From the patterns `a` and `b` to `result`, their rounded sum."""
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


_CLASSES = ("product_sign", "product_zero", "product_special", "product_nan")


def _compress(number: Format, a: str, b: str, target: Format) -> Step:
    """The two rows of the significands' product, its exponent in the format `target`, and its class."""
    product = 2 * number.significand
    tree = BoothProduct(number.significand, number.significand, product, signed=False).tree
    rows = {"row_0": product, "row_1": tree.low_pairs + tree.high_pairs, "scale": target.exponent + 2}
    return Step((a, b), 6 + number.significand, {**rows, **dict.fromkeys(_CLASSES, 1)})
