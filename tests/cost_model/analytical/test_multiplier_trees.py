"""Trees counted in closed form against those that are built."""

import numpy as np
import pytest
from amaranth.hdl import Const, Fragment, Module, Shape, Signal, Value

from cost_model.analytical.broadcasting import each
from cost_model.analytical.estimate import estimate
from cost_model.analytical.multiplier_trees import booth, rows
from rtl.blocks import multiplication
from sim.reference import InputError


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


@pytest.mark.parametrize("value", [0, -3, 256, 4.5, float("nan"), "8"])
def test_a_width_that_no_tree_is_counted_for_is_refused_by_name(value):
    for width in (value, [8, value] if isinstance(value, str) else np.array([8, value])):
        with pytest.raises(InputError, match=r"^in_bits must be an integer in 1\.\.255, not "):
            estimate("pwl", entries=8, in_bits=width, stages=2)
    with pytest.raises(InputError, match=r"^width must be an integer in 0\.\.255, not 40[0-9]"):
        estimate("pwl", entries=8, in_bits=200, stages=2)


def test_widths_that_are_too_large_for_a_key_are_not_mixed_up():
    with pytest.raises(InputError, match=r"b must be an integer in 0\.\.255, not 256"):
        each(lambda a, b: (a, b), 1, 256)
    assert [values.tolist() for values in each(lambda a, b: (a, b), np.array([0, 255]), 255.0)] == [
        [0, 255],
        [255, 255],
    ]
