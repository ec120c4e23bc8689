"""Integers of the form ±2^a ± 2^b, by which a product is two shifts and a sum."""

from functools import cache
from itertools import product
from typing import NamedTuple

SLOPE_FORMS = ("any", "two-powers")


class Power(NamedTuple):
    """2**exponent, negated if `negative`."""

    negative: bool
    exponent: int

    @property
    def value(self) -> int:
        """The integer."""
        return -(1 << self.exponent) if self.negative else 1 << self.exponent


def exponent_bits(bits: int) -> int:
    """The width of an exponent where the sums have `bits` bits."""
    return (bits - 1).bit_length()


@cache
def two_powers(bits: int, low: int, high: int) -> dict[int, tuple[Power, Power]]:
    """Every sum in `low`..`high` of two powers, ascending, and its powers.

    Exponents are at most `bits` and have `exponent_bits`. The first power is the larger one and has the sum's sign;
    that of 0 is positive, or negative if no sum is positive. 2^a is 2^(a-1) + 2^(a-1), and 1 is 2 - 1.
    """
    found, exponents = {}, range(min(bits + 1, 1 << exponent_bits(bits)))
    for negative, other, first, second in product((False, True), (False, True), exponents, exponents):
        powers = Power(negative, first), Power(other, second)
        total = powers[0].value + powers[1].value
        if second <= first and (total < 0 or total == 0 >= high) == negative:
            found.setdefault(total, powers)
    return {value: found[value] for value in sorted(found) if low <= value <= high}
