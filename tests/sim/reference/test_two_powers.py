"""Sums of two powers of two: which there are, and how each is written."""

import pytest

from sim.reference.two_powers import exponent_bits, two_powers


@pytest.mark.parametrize("bits, low, high", [(8, -128, 127), (7, 0, 127), (5, -31, 0), (4, -8, 7)])
def test_every_sum_of_two_powers_is_there_with_the_first_one_larger_and_of_its_sign(bits, low, high):
    exponents = [e for e in range(bits + 1) if e < 1 << exponent_bits(bits)]
    sums = {a * 2**i + b * 2**j for a in (-1, 1) for b in (-1, 1) for i in exponents for j in exponents}
    found = two_powers(bits, low, high)
    assert list(found) == sorted(v for v in sums if low <= v <= high)
    for value, (first, second) in found.items():
        assert first.value + second.value == value and first.exponent >= second.exponent
        assert first.negative == (value < 0 or value == 0 == high)
        assert {first.exponent, second.exponent} <= set(exponents)
