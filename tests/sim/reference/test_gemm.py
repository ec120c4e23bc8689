"""The packed group GEMM against sums in Python integers, and its accumulator bound against what is reached."""

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.gemm import (
    ACTIVATION_BITS,
    GroupedLinear,
    accumulator_range,
    group_borders,
    signed_bits,
)


def layer(rng: np.random.Generator, n: int, k: int, group: int | None, **fields) -> GroupedLinear:
    bits, signed = fields.get("weight_bits", 8), fields.get("weight_signed", True)
    low, high = code_range(bits, signed)
    groups = len(group_borders(k, group))
    return GroupedLinear(
        weights=rng.integers(low, high + 1, (n, k)),
        bias=rng.integers(-1000, 1001, n),
        multiplier=rng.integers(0, 1 << 16, n),
        shift=rng.integers(0, 48, n),
        group=group,
        zero_points=None if signed else rng.integers(0, high + 1, (n, groups)),
        group_multipliers=rng.integers(0, 1 << 16, (n, groups)),
        **fields,
    )


def by_hand(layer: GroupedLinear, a: list[int], n: int) -> tuple[int, int]:
    """(A, y) of one token and one output, term by term."""
    total = int(layer.bias[n])
    for k, value in enumerate(a):
        g = 0 if layer.group is None else k // layer.group
        zero = 0 if layer.zero_points is None else int(layer.zero_points[n, g])
        m = 1 if layer.group_multipliers is None else int(layer.group_multipliers[n, g])
        total += m * (int(layer.weights[n, k]) - zero) * value
    scaled, shift = total * int(layer.multiplier[n]), int(layer.shift[n])
    rounded = (2 * scaled + (1 << shift)) >> (shift + 1)
    low, high = code_range(layer.out_bits, layer.out_signed)
    return total, min(max(rounded + layer.zero_point, low), high)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(list(product(range(2, 9), (True, False), ACTIVATION_BITS))),
    st.sampled_from([None, 1, 3, 32]),
    st.integers(1, 40),
    st.integers(0, 1 << 30),
)
def test_every_output_is_the_sum_over_its_groups_rounded_once(widths, group, k, seed):
    rng = np.random.default_rng(seed)
    weight_bits, signed, activation_bits = widths
    made = layer(
        rng, 2, k, group, weight_bits=weight_bits, weight_signed=signed, activation_bits=activation_bits, zero_point=-7
    )
    low, high = code_range(activation_bits, True)
    a = rng.integers(low, high + 1, (2, k))
    totals, outputs = made.accumulate(a), made.output(a)
    for m, n in product(range(2), range(2)):
        assert (totals[m, n], outputs[m, n]) == by_hand(made, a[m].tolist(), n)
    assert made.bound[0] <= totals.min() and totals.max() <= made.bound[1]


def test_a_layer_s_own_bound_is_reached_at_both_ends():
    made = layer(np.random.default_rng(0), 3, 20, 8, weight_bits=4, weight_signed=False)
    sizes = [8, 8, 4]
    assert made.zero_points is not None
    reached = []
    for channel in range(3):
        signs = made.weights[channel] - np.repeat(made.zero_points[channel], sizes)
        for a in (np.where(signs > 0, -128, 127), np.where(signs > 0, 127, -128)):
            reached.append(made.accumulate(a[None])[0, channel])
    assert (min(reached), max(reached)) == made.bound


@pytest.mark.parametrize("bits, signed", list(product(range(2, 9), (True, False))))
def test_the_bound_of_all_layers_is_tight(bits, signed):
    low, high = code_range(bits, signed)
    # the four extreme (w, z, a) of which one is lowest and one is highest
    cases = [(w, z, a) for w in (low, high) for z in ((0,) if signed else (0, high)) for a in (-128, 127)]
    products = [(w - z) * a * 255 * 9 for w, z, a in cases]
    assert accumulator_range(9, bits, signed, 8, 8, (-5, 4)) == (min(products) - 5, max(products) + 4)


def test_signed_bits_is_the_narrowest_width():
    for low, high, bits in ((0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-3, 1, 3), (-128, 127, 8), (-128, 128, 9)):
        assert signed_bits((low, high)) == bits


def test_a_fault_is_named():
    made = layer(np.random.default_rng(1), 3, 10, 4, weight_bits=4, weight_signed=False)
    for fields, message in (
        ({"weight_bits": 9}, r"weight_bits must be in 2\.\.8, not 9"),
        ({"weight_bits": 2}, r"weights must be in 0\.\.3, not"),
        ({"weight_signed": True}, "zero_points must not be given for signed weights"),
        ({"group": 3}, r"zero_points must have shape \[3, 4\], not \[3, 3\]"),
        ({"zero_points": np.full((3, 3), 16)}, r"zero_points must be in 0\.\.15, not 16"),
        ({"group_multipliers": np.full((3, 3), 1 << 16)}, r"group_multipliers must be in 0\.\.65535, not 65536"),
        ({"bias": np.zeros(3)}, "bias must be integers, not float64"),
        ({"bias": 0}, "bias must be an array, not int"),
        ({"bias": None}, "bias must be an array, not NoneType"),
        ({"multiplier": [1, 1, 1]}, "multiplier must be an array, not list"),
        ({"weights": [[1, 2]]}, "weights must be an array, not list"),
        ({"weight_bits": 4.0}, r"weight_bits must be an integer in 2\.\.8, not 4\.0"),
        ({"activation_bits": 8.0}, "activation_bits must be 4 or 8, not 8.0"),
        ({"group": 2.5}, r"group must be an integer in 1\.\.65536, not 2\.5"),
        ({"group": True}, "group must be an integer in"),
        ({"zero_point": 128}, r"zero_point must be in -128\.\.127, not 128"),
        ({"bias": np.full(3, 1 << 62)}, "A must fit 62 bits, but can reach 4611686"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(made, **fields)
    with pytest.raises(InputError, match=r"activations must be in -128\.\.127, not 128"):
        made.accumulate(np.full((1, 10), 128))
    with pytest.raises(InputError, match=r"activations must have shape \[1, 10\], not \[1, 9\]"):
        made.accumulate(np.zeros((1, 9), dtype=np.int64))
    for value, what in ((np.array(3), r"\[\]"), (np.zeros(10, dtype=int), r"\[10\]"), ([[1]], "list")):
        with pytest.raises(InputError, match=rf"activations must be an array of \(tokens, 10\), not {what}"):
            made.accumulate(value)  # pyright: ignore[reportArgumentType]
    assert made.output(np.zeros((0, 10), dtype=int)).shape == (0, 3)


@pytest.mark.parametrize("kind", [np.uint64, np.int32, np.uint32])
def test_arrays_of_any_integer_type_are_exact(kind):
    made = layer(np.random.default_rng(2), 3, 10, 4, weight_bits=4, weight_signed=False)
    names = ("weights", "multiplier", "shift", "zero_points", "group_multipliers")
    changes = {name: getattr(made, name).astype(kind) for name in names}
    large = (1 << 60) + 1 if kind is np.uint64 else (1 << 31) - 1  # 2**60 + 1 is not a float
    bias = np.full(3, large, dtype=kind)
    again = dataclasses.replace(made, bias=bias, **changes)
    assert all(getattr(again, name).dtype == np.int64 for name in ("bias", *names))
    a = np.random.default_rng(3).integers(-128, 128, (2, 10))
    assert again.accumulate(a).dtype == np.int64
    assert np.array_equal(again.accumulate(a) - large, made.accumulate(a) - made.bias)
    assert again.bound == dataclasses.replace(made, bias=np.full(3, large)).bound
    assert again != dataclasses.replace(again)  # and no error of arrays' truth
