"""Operands that show whether a floating-point unit is right: every pair of exponents, ties, cancellation, the edges."""

import numpy as np

from sim.reference.floating import FloatFormat

Pair = np.ndarray  # int64, shape (2, n): patterns of a and of b


def landmarks(number: FloatFormat) -> np.ndarray:
    """Both signs of zero, infinity, NaN (canonical, signalling, full), subnormals, the ends of the normals, 1 and 2."""
    f = number.fraction_bits
    one = number.bias << f
    magnitudes = [
        0, 1, number.smallest - 1, number.smallest, number.smallest + 1, number.smallest << 1,
        one - 1, one, one + 1, one + (1 << f), number.largest - 1, number.largest,
        number.infinity, number.infinity + 1, number.nan, number.sign_bit - 1,
    ]  # fmt: skip
    return np.array([s | m for m in magnitudes for s in (0, number.sign_bit)], dtype=np.int64)


def corner_values(number: FloatFormat, rng: np.random.Generator, count: int) -> np.ndarray:
    """`count` different values: the landmarks, corner fractions at chosen exponents, and random ones."""
    f, top = number.fraction_bits, (1 << number.fraction_bits) - 1
    fractions = [0, 1, 2, top >> 1, (top >> 1) + 1, (top >> 1) + 2, top - 1, top]
    exponents = [0, 1, 2, number.bias - f, number.bias - 1, number.bias, number.bias + 1, number.special - 1]
    grid = [s | e << f | m for e in exponents for m in fractions for s in (0, number.sign_bit)]
    chosen = np.concatenate([landmarks(number), grid, rng.integers(0, 1 << number.bits, 2 * count)])
    _, first = np.unique(chosen, return_index=True)
    return chosen[np.sort(first)][:count]


def every_pair(values: np.ndarray) -> Pair:
    """All pairs of the values, in both orders."""
    return np.stack([np.repeat(values, len(values)), np.tile(values, len(values))])


def exponent_pairs(number: FloatFormat, rng: np.random.Generator, each: int) -> Pair:
    """Every pair of exponent fields `each` times, with random signs; half of the fractions are corners."""
    exponents = np.tile(every_pair(np.arange(number.special + 1)), each)
    f, top = number.fraction_bits, (1 << number.fraction_bits) - 1
    fractions = rng.integers(0, top + 1, exponents.shape)
    corners = rng.choice([0, 1, top >> 1, (top >> 1) + 1, top - 1, top], exponents.shape)
    fractions = np.where(rng.random(exponents.shape) < 0.5, corners, fractions)
    return exponents << f | fractions | rng.integers(0, 2, exponents.shape) << number.bits - 1


def near_products(number: FloatFormat, rng: np.random.Generator, count: int) -> Pair:
    """Products next to the smallest normal number and to the overflow, from both sides.

    The significand of b is 2 / a's, less or more a few last places, so that the product is just below or above a power
    of two; about a third of them round up to it.
    """
    f = number.fraction_bits
    hidden = 1 << f
    significand = rng.integers(hidden + 1, 2 * hidden, count)
    partner = (1 << 2 * f + 1) // significand + rng.choice([-1, 0, 0, 0, 1, 2], count)
    partner = np.clip(partner, hidden, 2 * hidden - 1)
    a = rng.integers(1, number.special, count)
    target = rng.choice([-1, 0, 0, 0, 1, number.special - 2, number.special - 1], count)
    b = np.clip(target - a + number.bias, 1, number.special - 1)
    a = np.clip(target - b + number.bias, 1, number.special - 1)
    return _signed(number, rng, a << f | significand - hidden, b << f | partner - hidden)


def tie_products(number: FloatFormat, rng: np.random.Generator, count: int) -> Pair:
    """Products half way between two numbers, most of them: odd significands whose product has one bit too many."""
    f = number.fraction_bits
    length = rng.integers(2, f + 1, count)
    a, b = (
        np.minimum(rng.integers(1 << n - 1, 1 << n) | 1, (1 << n) - 1) << f + 1 - n for n in (length, f + 3 - length)
    )
    exponents = rng.integers(number.special // 4, 3 * number.special // 4, (2, count)) << f
    return _signed(number, rng, exponents[0] | a - (1 << f), exponents[1] | b - (1 << f))


def tie_sums(number: FloatFormat, rng: np.random.Generator, count: int) -> Pair:
    """b is half a last place of a, next to it, or a power of two about there; either sign, either order."""
    f = number.fraction_bits
    a = rng.integers(f + 4, number.special, count) << f | rng.choice([0, 0, 1, 2, 3], count)
    a = np.where(rng.random(count) < 0.5, a | rng.integers(0, 1 << f, count), a)
    distance = f + rng.choice([-1, 0, 1, 1, 1, 2, 3], count)
    b = ((a >> f) - distance << f) + rng.choice([-1, 0, 0, 0, 1], count)
    swap = rng.random(count) < 0.5
    return _signed(number, rng, np.where(swap, b, a), np.where(swap, a, b))


def cancellations(number: FloatFormat, rng: np.random.Generator, count: int) -> Pair:
    """Sums of nearly opposite numbers: every lift of the normalisation, exact zeros, results below the normals."""
    f = number.fraction_bits
    a = rng.integers(1, number.special, count) << f | rng.integers(0, 1 << f, count)
    apart = rng.integers(0, 1 << rng.integers(0, f + 1, count)) * rng.choice([-1, 0, 1, 1], count)
    b = np.clip(a + apart, number.smallest, number.largest)
    sign = rng.integers(0, 2, count) << number.bits - 1
    return np.stack([a | sign, b | number.sign_bit ^ sign])


def anything(number: FloatFormat, rng: np.random.Generator, count: int) -> Pair:
    """Random patterns."""
    return rng.integers(0, 1 << number.bits, (2, count))


def _signed(number: FloatFormat, rng: np.random.Generator, a: np.ndarray, b: np.ndarray) -> Pair:
    return np.stack([a, b]) | rng.integers(0, 2, (2, len(a))) << number.bits - 1
