"""The integer Hadamard transform against the Sylvester matrix and rationals."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.hadamard import Hadamard, block_size, butterflies


def sylvester(block: int) -> np.ndarray:
    """Entry (i, j) is -1 to the number of ones that i and j share."""
    i = np.arange(block)
    return 1 - 2 * (np.bitwise_count(i[:, None] & i) & 1).astype(np.int64)


@pytest.mark.parametrize("block", [2, 4, 8, 64, 512])
def test_the_butterflies_are_the_sylvester_matrix_in_blocks_and_twice_gives_the_block(block):
    x = np.random.default_rng(block).integers(-(1 << 15), 1 << 15, (3, 3 * block))
    got = butterflies(x, block)
    assert (got == (x.reshape(3, 3, block) @ sylvester(block)).reshape(x.shape)).all()
    assert (butterflies(got, block) == block * x).all()


@given(st.integers(1, 5), st.data())
def test_every_result_equals_the_definition_within_the_stated_widths(log, data):
    block = 1 << log
    unit = Hadamard(block, data.draw(st.integers(0, log)), data.draw(st.integers(4, 16)), data.draw(st.integers(4, 16)))
    low, high = code_range(unit.in_bits, True)
    x = np.array(data.draw(st.lists(st.integers(low, high), min_size=block, max_size=block)))
    low, high = code_range(unit.out_bits, True)
    total = (sylvester(block) @ x).tolist()
    want = [min(max(floor(Fraction(t, 1 << unit.shift) + Fraction(1, 2)), low), high) for t in total]
    assert unit.transform(x).tolist() == want
    part = x
    for k in range(1, log + 1):
        part = butterflies(part.reshape(-1, 2, block >> k).swapaxes(1, 2).reshape(-1), 2)
        part = part.reshape(-1, block >> k, 2).swapaxes(1, 2).reshape(-1)
        assert abs(part).max() <= 1 << (unit.widths[f"stage.{k}"][0] - 1)
        assert part.max() < 1 << (unit.widths[f"stage.{k}"][0] - 1)
    assert max(map(abs, total)) + ((1 << unit.shift) >> 1) < 1 << (unit.widths["rounded"][0] - 1)


@pytest.mark.parametrize("bits", [4, 16])
def test_with_the_largest_shift_no_corner_saturates_by_more_than_the_rounding(bits):
    low, high = code_range(bits, True)
    for block in (2, 64, 4096):
        unit = Hadamard(block, block.bit_length() - 1, bits, bits)
        assert unit.transform(np.full(block, low))[0] == low
        assert unit.transform(np.full(block, high))[0] == high


def test_the_block_of_a_width_is_its_largest_power_of_two():
    assert [block_size(width) for width in (384, 1536, 576, 6, 8192)] == [128, 512, 64, 2, 4096]
    assert block_size(384, 32) == 32


BAD = [
    (lambda: block_size(385), "a Hadamard transform needs an even number of inputs, not 385"),
    (lambda: block_size(384, 256), "a block of 256 must divide the 384 inputs"),
    (lambda: block_size(384, 3), "block must be a power of two, not 3"),
    (lambda: Hadamard(1, 0), "block must be in 2..4096, not 1"),
    (lambda: Hadamard(8, 4), "shift must be in 0..3, not 4"),
    (lambda: Hadamard(8, 0, 3), "in_bits must be in 4..16, not 3"),
    (lambda: Hadamard(8, 0, out_bits=17), "out_bits must be in 4..16, not 17"),
    (lambda: Hadamard(2, 0).transform(np.zeros(2)), "codes must be integers, not float64"),
    (lambda: Hadamard(2, 0, 4).transform(np.array([0, 8])), "codes must be in -8..7, not 0..8"),
    (lambda: Hadamard(4, 0).transform(np.zeros(6, int)), "a block of 4 must divide the 6 inputs"),
    (lambda: Hadamard(2, 0).transform(np.array(5)), "codes must have an axis of blocks"),
]


@pytest.mark.parametrize("make, message", BAD, ids=[message for _, message in BAD])
def test_what_does_not_fit_is_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert str(error.value) == message
