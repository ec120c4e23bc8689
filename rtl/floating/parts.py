"""Common parts of floating-point operations: the fields of a pattern, its place in the order, the packed result."""

from typing import NamedTuple

from amaranth.hdl import C, Cat, Mux, Value

from sim.reference.floating import FloatFormat


class Parts(NamedTuple):
    """A pattern taken apart. `zero` is true of subnormals too; `special` of infinities and NaN."""

    sign: Value
    exponent: Value
    fraction: Value
    zero: Value
    special: Value

    @property
    def nan(self) -> Value:
        return self.special & self.fraction.any()

    @property
    def significand(self) -> Value:
        """The fraction with its hidden one, for every class."""
        return Cat(self.fraction, C(1, 1))


def parts(number: FloatFormat, pattern: Value) -> Parts:
    """The fields and the class of a pattern."""
    fraction, exponent = pattern[: number.fraction_bits], pattern[number.fraction_bits : number.bits - 1]
    return Parts(pattern[number.bits - 1], exponent, fraction, ~exponent.any(), exponent.all())


def ordered(number: FloatFormat, pattern: Value) -> Value:
    """`sim.reference.floating.order`: signed, as wide as the pattern, so that numbers compare as integers do."""
    x = parts(number, pattern)
    magnitude = pattern[: number.bits - 1]
    key = Mux(x.zero, 0, Mux(x.sign, ~magnitude, magnitude))[: number.bits - 1]
    # NaN, below -infinity: the one value whose sign bit alone is set
    return Cat(Mux(x.nan, 0, key), Mux(x.nan, 1, x.sign & ~x.zero)).as_signed()


def pack(number: FloatFormat, sign: Value, rounded: Value, zero: Value | int, infinite: Value, nan: Value) -> Value:
    """The pattern of a rounded result; `rounded` is its fraction below a signed exponent of two more bits.

    The result is flushed or overflows by that exponent. `nan` overrules `infinite`, which overrules `zero`, which
    overrules the exponent.
    """
    exponent = rounded[number.fraction_bits :]
    negative = exponent[-1]
    endless = infinite | (~negative & (exponent[-2] | exponent[: number.exponent_bits].all()))
    flushed = zero | negative | ~exponent.any()
    ones = nan | endless
    finite = ~(ones | flushed)
    fraction = Mux(finite, rounded[: number.fraction_bits], 0)[: number.fraction_bits - 1]
    top = nan | (finite & rounded[number.fraction_bits - 1])
    field = [(finite & bit) | ones for bit in exponent[: number.exponent_bits]]
    return Cat(fraction, top, *field, sign & ~nan)
