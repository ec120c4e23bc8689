"""The steps of a product: significands multiplied, normalised by one bit at most, rounded once."""

from collections.abc import Mapping

from amaranth.hdl import C, Cat, Module, Mux, Value, signed

from rtl import pipeline
from rtl.floating.parts import Parts, pack, parts
from rtl.pipeline import Fields, Step
from sim.reference.floating import FloatFormat

HALVED_FRACTION_BITS = 20  # a product of wider fractions is made by halves where the unit is deep enough


def is_wide(number: FloatFormat) -> bool:
    """Whether the format's products gain by being made in halves."""
    return number.fraction_bits > HALVED_FRACTION_BITS


def multiplier_steps(number: FloatFormat, target: FloatFormat, halved: bool, a: str, b: str, result: str) -> list[Step]:
    """From the fields `a` and `b`, patterns of `number`, to the field `result`, a pattern of `target`.

    Where `target` is not `number` it holds every product (`sim.reference.floating.require_exact_product`) and nothing
    is rounded. `halved` makes the product of significands in two steps, each with a shorter carry.
    """
    return [
        *(_halved if halved else _whole)(number, target, a, b),
        *(_rounding(number, result) if target == number else _exact(number, target, result)),
    ]


def _whole(number: FloatFormat, target: FloatFormat, a: str, b: str) -> list[Step]:
    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        x, y = parts(number, f[a]), parts(number, f[b])
        product = x.significand * y.significand
        return _kept(number, target, product, C(0, 1)) | _classes(number, target, x, y)

    significand = number.fraction_bits + 1
    return [Step("multiply", (a, b), pipeline.multiplier_levels(significand, significand), multiply)]


def _halved(number: FloatFormat, target: FloatFormat, a: str, b: str) -> list[Step]:
    """The first operand's significand in two halves; the low half's last bits matter only to the sticky bit."""
    significand = number.fraction_bits + 1
    half = significand // 2

    def multiply(m: Module, f: Mapping[str, Value]) -> Fields:
        x, y = parts(number, f[a]), parts(number, f[b])
        low = x.significand[:half] * y.significand
        high = x.significand[half:] * y.significand
        # of the low product's last bits the round needs to know only whether any is 1
        dropped = low[: half if target == number else 0]
        return {"low": low[len(dropped) :], "high": high, "lost": dropped.any()} | _classes(number, target, x, y)

    def join(m: Module, f: Mapping[str, Value]) -> Fields:
        low, high = f["low"], f["high"]
        if target == number:
            total = (low + high)[: 2 * significand - half]
            return _kept(number, target, Cat(C(0, half), total), f["lost"])
        total = (low[half:] + high)[: 2 * significand - half]
        return _kept(number, target, Cat(low[:half], total), C(0, 1))

    return [
        Step("multiply", (a, b), pipeline.multiplier_levels(half, significand), multiply),
        Step("join", ("low", "high", "lost"), pipeline.adder_levels(2 * significand - half), join),
    ]


def _kept(number: FloatFormat, target: FloatFormat, product: Value, lost: Value) -> Fields:
    """The bits of the product that can become part of the result, and whether any other is 1."""
    if target != number:
        return {"kept": product, "sticky": lost}
    below = number.fraction_bits - 1
    return {"kept": product[below:], "sticky": product[:below].any() | lost}


def _classes(number: FloatFormat, target: FloatFormat, x: Parts, y: Parts) -> Fields:
    """The exponent, in the target's bias, of a product below 2; the sign; and whether it is no number to be rounded."""
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
        Step("round product", ("kept", "sticky", "scale"), 4 + pipeline.adder_levels(number.bits), round_),
        Step("pack product", ("product_rounded", *CLASSES[1:]), 4, pack_),
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
