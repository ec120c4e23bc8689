"""The carry-save product against integers."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rtl.blocks.multiplication import carry_save


class Product(wiring.Component):
    """y = a * b from the two rows."""

    def __init__(self, a_bits: int, b_bits: int) -> None:
        super().__init__({"a": In(a_bits), "b": In(b_bits), "y": Out(a_bits + b_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        first, second = carry_save(m, self.a, self.b)
        assert len(first) == len(second) == len(self.y)
        m.d.comb += self.y.eq(first + second)
        return m


def differences(unit: Product, pairs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    found = []

    async def drive(ctx) -> None:
        for a, b in pairs:
            ctx.set(unit.a, a)
            ctx.set(unit.b, b)
            if (y := ctx.get(unit.y)) != a * b:
                found.append((a, b, y))

    simulator = Simulator(unit)
    simulator.add_testbench(drive)
    simulator.run()
    return found


@pytest.mark.parametrize("a_bits, b_bits", [(1, 1), (1, 4), (4, 1), (4, 4), (5, 4), (4, 5), (5, 5), (2, 7), (7, 2)])
def test_every_product_of_a_few_bits_is_exact(a_bits, b_bits):
    pairs = [(a, b) for a in range(1 << a_bits) for b in range(1 << b_bits)]
    assert differences(Product(a_bits, b_bits), pairs) == []


@pytest.mark.parametrize("bits", [11, 24])
def test_products_of_significands_are_exact(bits):
    rng = np.random.default_rng(0)
    top = (1 << bits) - 1
    corners = [0, 1, 2, top >> 1, (top >> 1) + 1, top - 1, top, top // 3, top // 3 * 2]
    pairs = [(a, b) for a in corners for b in corners] + rng.integers(0, top + 1, (150, 2)).tolist()
    assert differences(Product(bits, bits), pairs) == []
