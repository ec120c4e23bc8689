"""Floating-point arithmetic on bit patterns, as in the hardware of the baseline.

The formats are IEEE 754 binary formats and rounding is to nearest even, with three common simplifications:

- A subnormal operand is a zero of its sign.
- A result is rounded to full precision as if the exponent had no lower end; if its magnitude is then below the smallest
  normal number it is a zero of its sign. (A result that rounds up to the smallest normal number stays.)
- There is one NaN: quiet, positive, only the fraction's top bit set.

Every function takes and returns patterns as int64 arrays of any shape, unsigned, in the format's `bits`.
"""

from dataclasses import dataclass

import numpy as np

from sim.common.errors import InputError


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format: sign, biased exponent and fraction, from the top bit down.

    Parameters
    ----------
    exponent_bits : int
        3 to 8.
    fraction_bits : int
        4 to 24, without the hidden one.

    Raises
    ------
    InputError
        If a width is out of its range.
    """

    exponent_bits: int
    fraction_bits: int

    def __post_init__(self) -> None:
        for name, low, high in (("exponent_bits", 3, 8), ("fraction_bits", 4, 24)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} must be in {low}..{high}, not {getattr(self, name)}")

    def __str__(self) -> str:
        names = [name for name, number in FORMATS.items() if number == self]
        return names[0] if names else f"{self.exponent_bits} + {self.fraction_bits} bits"

    @property
    def bits(self) -> int:
        """Width of a pattern."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def bias(self) -> int:
        """The exponent bias."""
        return (1 << self.exponent_bits - 1) - 1

    @property
    def special(self) -> int:
        """The exponent field of infinities and NaN."""
        return (1 << self.exponent_bits) - 1

    @property
    def infinity(self) -> int:
        return self.special << self.fraction_bits

    @property
    def nan(self) -> int:
        """The canonical NaN."""
        return self.infinity | 1 << self.fraction_bits - 1

    @property
    def smallest(self) -> int:
        """The smallest positive normal number."""
        return 1 << self.fraction_bits

    @property
    def largest(self) -> int:
        """The largest finite number."""
        return self.infinity - 1

    @property
    def sign_bit(self) -> int:
        return 1 << self.bits - 1


FP32 = FloatFormat(8, 23)
FP16 = FloatFormat(5, 10)
FORMATS = {"fp32": FP32, "fp16": FP16}


@dataclass(frozen=True)
class Decoded:
    """The fields of patterns: `sign` (0 or 1), `exponent` as stored, `significand` with its hidden one.

    `nan`, `infinite` and `zero` are booleans; subnormals count as zeros. A significand has a meaning only if all
    three are false.
    """

    sign: np.ndarray
    exponent: np.ndarray
    significand: np.ndarray
    nan: np.ndarray
    infinite: np.ndarray
    zero: np.ndarray


def checked(number: FloatFormat, patterns: object) -> np.ndarray:
    """`patterns` as int64. Raises `InputError` unless they are integers of the format's width."""
    array = np.asarray(patterns)
    if array.dtype.kind not in "iu":
        raise InputError(f"patterns must be integers, not {array.dtype}")
    if array.size and not (array.min() >= 0 and array.max() < 1 << number.bits):
        raise InputError(f"patterns must be in 0..{(1 << number.bits) - 1}, not {array.min()}..{array.max()}")
    return array.astype(np.int64)


def decode(number: FloatFormat, patterns: object) -> Decoded:
    """The fields and the class of each pattern."""
    array = checked(number, patterns)
    exponent = array >> number.fraction_bits & number.special
    fraction = array & (1 << number.fraction_bits) - 1
    top = exponent == number.special
    return Decoded(
        sign=array >> number.bits - 1,
        exponent=exponent,
        significand=fraction | 1 << number.fraction_bits,
        nan=top & (fraction != 0),
        infinite=top & (fraction == 0),
        zero=exponent == 0,
    )


def multiply(number: FloatFormat, a: object, b: object) -> np.ndarray:
    """a * b, rounded once. 0 * infinity is NaN."""
    x, y = decode(number, a), decode(number, b)
    sign = x.sign ^ y.sign
    product = x.significand * y.significand  # in [2**2f, 2**(2f+2))
    carry = product >> 2 * number.fraction_bits + 1
    exponent = x.exponent + y.exponent - number.bias + carry
    finite = _round(number, sign, exponent, product << 1 - carry, number.fraction_bits + 1)
    zero, infinite = x.zero | y.zero, x.infinite | y.infinite
    result = np.where(infinite, number.infinity, np.where(zero, 0, finite & ~number.sign_bit)) | sign << number.bits - 1
    return np.where(x.nan | y.nan | (zero & infinite), number.nan, result)


def add(number: FloatFormat, a: object, b: object) -> np.ndarray:
    """a + b, rounded once. Opposite infinities give NaN; x - x is +0, and (-0) + (-0) is -0."""
    x, y = decode(number, a), decode(number, b)
    a, b = np.broadcast_arrays(checked(number, a), checked(number, b))
    swap = (a & ~number.sign_bit) < (b & ~number.sign_bit)

    def ordered(of_x: np.ndarray, of_y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(swap, of_y, of_x), np.where(swap, of_x, of_y)

    sign, _ = ordered(x.sign, y.sign)
    exponent, lower = ordered(x.exponent, y.exponent)
    big, small = ordered(np.where(x.zero, 0, x.significand), np.where(y.zero, 0, y.significand))
    # three more bits: two that a subtraction can shift up, and a sticky bit
    distance = np.minimum(exponent - lower, number.fraction_bits + 4)
    aligned = small << 3 >> distance
    aligned |= (aligned << distance) != small << 3
    subtract = x.sign != y.sign
    total = (big << 3) + np.where(subtract, -aligned, aligned)
    top = number.fraction_bits + 5  # bits with the carry
    lift = top - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    lift = np.where(total == 0, 0, lift)
    finite = _round(number, sign, exponent + 1 - lift, total << lift, 4)
    finite = np.where(total == 0, (x.sign & y.sign) << number.bits - 1, finite)
    endless = np.where(x.infinite, x.sign, y.sign) << number.bits - 1 | number.infinity
    result = np.where(x.infinite | y.infinite, endless, finite)
    return np.where(x.nan | y.nan | (x.infinite & y.infinite & subtract), number.nan, result)


def convert(source: FloatFormat, target: FloatFormat, patterns: object) -> np.ndarray:
    """The same numbers in a format with at least as many exponent and fraction bits; exact.

    Subnormals of `source` become zeros. Raises `InputError` if `target` is narrower.
    """
    if source.exponent_bits > target.exponent_bits or source.fraction_bits > target.fraction_bits:
        raise InputError(f"target must hold every number of the source, {target} does not hold {source}")
    x = decode(source, patterns)
    exponent = x.exponent + target.bias - source.bias
    fraction = (x.significand - (1 << source.fraction_bits)) << target.fraction_bits - source.fraction_bits
    finite = np.where(x.zero, 0, exponent << target.fraction_bits | fraction)
    signed = np.where(x.infinite, target.infinity, finite) | x.sign << target.bits - 1
    return np.where(x.nan, target.nan, signed)


def multiply_add(product: FloatFormat, accumulator: FloatFormat, a: object, b: object, addend: object) -> np.ndarray:
    """addend + a * b in the accumulator's format; a and b are in the product's.

    If both formats are the same, product and sum are each rounded. With a wider accumulator the product is formed in
    the accumulator's format, where it must be exact (as an FP16 product is in FP32), so that only the sum is rounded.
    Raises `InputError` if it would not be exact.
    """
    require_exact_product(product, accumulator)
    if product == accumulator:
        return add(accumulator, addend, multiply(product, a, b))
    wide = (convert(product, accumulator, operand) for operand in (a, b))
    return add(accumulator, addend, multiply(accumulator, *wide))


def require_exact_product(product: FloatFormat, accumulator: FloatFormat) -> None:
    """Raise `InputError` unless the formats are equal or every product is exact in the accumulator's."""
    fits = (
        accumulator.fraction_bits > 2 * product.fraction_bits
        and accumulator.bias > 2 * product.bias
        and accumulator.exponent_bits > product.exponent_bits
    )
    if product != accumulator and not fits:
        raise InputError(f"accumulator must be the product's format or hold every product, not {accumulator}")


def order(number: FloatFormat, patterns: object) -> np.ndarray:
    """Signed integers of the format's width in the order of the numbers; both zeros are 0 and NaN is the lowest.

    a >= b exactly if order(a) >= order(b), for every b that is not NaN.
    """
    array = checked(number, patterns)
    x = decode(number, array)
    magnitude = array & ~number.sign_bit
    key = np.where(x.zero, 0, np.where(x.sign == 1, ~magnitude, magnitude))
    return np.where(x.nan, -number.sign_bit, key)


def greater_equal(number: FloatFormat, a: object, b: object) -> np.ndarray:
    """a >= b as booleans; false if either is NaN."""
    x, y = decode(number, a), decode(number, b)
    return (order(number, a) >= order(number, b)) & ~x.nan & ~y.nan


def encode(number: FloatFormat, values: object) -> np.ndarray:
    """The patterns nearest to real numbers (float64): round to nearest even, flush, overflow to infinity."""
    array = np.asarray(values, dtype=np.float64)
    mantissa, exponent = np.frexp(np.where(np.isfinite(array), abs(array), 1.0))
    kept = np.rint(np.ldexp(mantissa, number.fraction_bits + 1)).astype(np.int64)  # rint is to nearest even
    sign = np.signbit(array).astype(np.int64)
    finite = _round(number, sign, exponent + number.bias - 1, kept << 1, 1)
    signed = np.where(np.isinf(array), number.infinity | sign << number.bits - 1, finite)
    return np.where(np.isnan(array), number.nan, np.where(array == 0, sign << number.bits - 1, signed))


def value(number: FloatFormat, patterns: object) -> np.ndarray:
    """The real numbers of patterns as float64; exact. Subnormals are zeros."""
    x = decode(number, patterns)
    magnitude = np.ldexp(
        x.significand.astype(np.float64), (x.exponent - number.bias - number.fraction_bits).astype(int)
    )
    magnitude = np.where(x.nan, np.nan, np.where(x.infinite, np.inf, np.where(x.zero, 0.0, magnitude)))
    return np.where(x.sign == 1, -magnitude, magnitude)


def _round(
    number: FloatFormat, sign: np.ndarray, exponent: np.ndarray, significand: np.ndarray, below: int
) -> np.ndarray:
    """Round away the `below` lowest bits of a significand whose top bit is set, and pack the pattern."""
    rest = significand & (1 << below) - 1
    kept = significand >> below
    half = 1 << below - 1
    kept = kept + ((rest > half) | ((rest == half) & (kept & 1 == 1)))
    exponent = exponent + (kept >> number.fraction_bits + 1)
    finite = exponent << number.fraction_bits | kept & (1 << number.fraction_bits) - 1
    magnitude = np.where(exponent < 1, 0, np.where(exponent >= number.special, number.infinity, finite))
    return magnitude | sign << number.bits - 1
