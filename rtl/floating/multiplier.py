"""The steps of a product: significands multiplied, normalised by one bit at most, rounded once."""

from collections.abc import Mapping

from amaranth.hdl import C, Cat, Module, Mux, Value, signed

from rtl.blocks import pipeline
from rtl.blocks.multiplication import Product, carry_save
from rtl.blocks.pipeline import Fields, Step
from rtl.floating.parts import Parts, pack, parts
from sim.reference.floating import FloatFormat


def multiplier_steps(
    number: FloatFormat, target: FloatFormat, a: str, b: str, result: str, product: Product = carry_save
) -> list[Step]:
    """From the fields `a` and `b`, patterns of `number`, to the field `result`, a pattern of `target`.

    If `target` is another format than `number`, it must hold every product exactly
    (`sim.reference.floating.require_exact_product`), and nothing is rounded.
    """
    below = number.fraction_bits - 1 if target == number else 0  # bits that only affect the sticky bit

    def compress(m: Module, f: Mapping[str, Value]) -> Fields:
        x, y = parts(number, f[a]), parts(number, f[b])
        rows = product(m, x.significand, y.significand, 2 * (number.fraction_bits + 1), None, None)
        return {"row_0": rows[0], "row_1": rows[1]} | _classes(number, target, x, y)

    def carry(m: Module, f: Mapping[str, Value]) -> Fields:
        exact = (f["row_0"] + f["row_1"])[:-1]
        return {"kept": exact[below:], "sticky": exact[:below].any()}

    significand = number.fraction_bits + 1
    return [
        Step("compress", (a, b), 6 + significand, compress),
        Step("carry", ("row_0", "row_1"), 2 + significand, carry),
        *(_rounding(number, result) if target == number else _exact(number, target, result)),
    ]


def _classes(number: FloatFormat, target: FloatFormat, x: Parts, y: Parts) -> Fields:
    """The exponent (in the target's bias) of a product below 2, the sign, and whether it is zero, infinite or NaN."""
    zero, special = x.zero | y.zero, x.special | y.special
    # a carry into the sum makes the constant a power of two, which costs no adder
    total = (Cat(C(1, 1), x.exponent) + Cat(C(1, 1), y.exponent))[1:]
    shape = signed(target.exponent_bits + 2)
    scale = (total + C(target.bias - 2 * number.bias - 1, shape))[: shape.width].as_signed()
    return {
        "scale": scale,
        "product_sign": x.sign ^ y.sign,
        "product_zero": zero,
        "product_special": special,
        "product_nan": x.nan | y.nan | (special & zero),
    }


CLASSES = ("scale", "product_sign", "product_zero", "product_special", "product_nan")


def _rounding(number: FloatFormat, result: str) -> list[Step]:
    f_bits = number.fraction_bits

    def round_(m: Module, f: Mapping[str, Value]) -> Fields:
        kept = f["kept"]  # from the top: carry, hidden one, fraction, guard
        carry = kept[-1]
        fraction = Mux(carry, kept[2 : 2 + f_bits], kept[1 : 1 + f_bits])
        guard = Mux(carry, kept[1], kept[0])
        rest = f["sticky"] | (carry & kept[0])
        up = guard & (rest | fraction[0])
        # one addition rounds and raises the exponent of a product of 2 or more
        total = Cat(fraction, f["scale"]) + Cat(up, C(0, f_bits - 1), carry)
        return {"product_rounded": total[: f_bits + len(f["scale"])]}

    def pack_(m: Module, f: Mapping[str, Value]) -> Fields:
        _, sign, zero, special, nan = (f.get(name, C(0)) for name in CLASSES)
        return {result: pack(number, sign, f["product_rounded"], zero, special, nan)}

    return [
        Step("round product", ("kept", "sticky", "scale"), 2 + pipeline.adder_levels(number.fraction_bits), round_),
        Step("pack product", ("product_rounded", *CLASSES[1:]), 7, pack_),
    ]


def _exact(number: FloatFormat, target: FloatFormat, result: str) -> list[Step]:
    def normalise(m: Module, f: Mapping[str, Value]) -> Fields:
        kept = f["kept"]
        scale, sign, zero, special, nan = (f[name] for name in CLASSES)
        carry = kept[-1]
        fraction = Mux(carry, kept[:-1], Cat(C(0, 1), kept[:-2]))
        exponent = (scale + carry)[: target.exponent_bits + 2]
        spare = target.fraction_bits - len(fraction)
        return {result: pack(target, sign, Cat(C(0, spare), fraction, exponent), zero, special, nan)}

    return [Step("normalise product", ("kept", *CLASSES), 4 + pipeline.adder_levels(number.exponent_bits), normalise)]
