"""Bit packing: what is packed comes back, and every code lies at the bits that the order states."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.formats.packing import pack, row_bytes, unpack
from sim.reference import InputError
from sim.reference.arithmetic import code_range


@given(st.integers(1, 16), st.booleans(), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32))
def test_packed_codes_come_back_and_lie_where_the_order_says(bits, signed, rows, count, seed):
    low, high = code_range(bits, signed)
    codes = np.random.default_rng(seed).integers(low, high + 1, (rows, count))
    packed = pack(torch.from_numpy(codes), bits, signed)
    assert packed.shape == (rows, row_bytes(count, bits)) and packed.dtype == torch.uint8
    assert np.array_equal(unpack(packed, count, bits, signed).numpy(), codes)
    for row, stream in zip(codes, packed.numpy(), strict=True):
        number = int.from_bytes(stream.tobytes(), "little")
        assert [(number >> i * bits) & ((1 << bits) - 1) for i in range(count)] == [int(c) % (1 << bits) for c in row]


def test_long_matrices_are_packed_in_parts_with_the_same_bytes(monkeypatch):
    codes = torch.randint(-4, 4, (50, 31))
    whole = pack(codes, 3, True)
    monkeypatch.setattr("quant.formats.packing.CHUNK", 100)
    assert torch.equal(pack(codes, 3, True), whole) and torch.equal(unpack(whole, 31, 3, True), codes)


@pytest.mark.parametrize("code, bits, signed", [(4, 3, True), (-5, 3, True), (8, 3, False), (-1, 3, False)])
def test_a_code_that_does_not_fit_is_refused(code, bits, signed):
    with pytest.raises(InputError, match=r"codes must be in .*, not "):
        pack(torch.tensor([[code]]), bits, signed)
