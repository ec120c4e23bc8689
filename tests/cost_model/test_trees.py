"""Trees counted in closed form against those that are built."""

import numpy as np
import pytest
from amaranth.hdl import Const, Fragment, Module, Shape, Signal, Value

from cost_model.trees import booth, rows
from rtl import multiplication


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("a", "b"), [(8, 8), (4, 16), (16, 5), (7, 4), (24, 24)])
def test_a_booth_tree_has_the_adders_and_the_rows_of_the_generated_one(monkeypatch, a, b, signed):
    names = []
    made = multiplication.wire
    monkeypatch.setattr(multiplication, "wire", lambda m, value, name: names.append(name) or made(m, value, name))
    addend = b + 7 if signed else 0
    width = max(a + b, addend) + signed
    left, right = (Signal(Shape(bits, signed)) for bits in (a, b))
    extra = Signal(Shape(addend, True)) if signed else None
    m = Module()
    first_row, second_row = (_bits(row) for row in multiplication.carry_save(m, left, right, width, extra))
    Fragment.get(m, None)  # Amaranth warns of a module that nothing uses
    tree = booth(a, b, width, addend, signed)
    assert tree.adders == sum(name.startswith("added") for name in names)
    assert tree.digits == sum(name.startswith("digit") for name in names)
    second = [not isinstance(bit, Const) for bit in second_row]
    assert tree.low_pairs == sum(second[: width // 2]) and tree.high_pairs == sum(second[width // 2 :])
    assert tree.first_pair == second.index(True)
    assert tree.ones == sum(isinstance(bit, Const) and bit.value for bit in first_row)


def test_a_product_by_rows_needs_one_adder_a_bit_and_row_and_copies_of_the_sign_none():
    assert rows(8, 2, 10, 0, 0)[1] == 0  # two rows are added without a tree
    gated, full, half = rows(8, 3, 11, 0, 0)
    assert gated == 24 and full + half <= 11
    _, wide, _ = rows(8, 3, 30, 0, 0)
    assert wide == full


def test_an_array_of_widths_is_counted_width_by_width():
    a, b = np.array([[4, 8], [16, 8]]), np.array([5, 5])
    together = booth(a, b, a + b + 1, b)
    assert together.adders.shape == (2, 2)
    assert together.adders[1, 0] == booth(16, 5, 22, 5).adders


def _bits(row: Value) -> list[Value]:
    parts = getattr(row, "parts")  # noqa: B009  of a `Cat`, which `Value` does not declare
    assert len(parts) == len(row)
    return list(parts)
