"""The vectors meet what can go wrong, and the benches notice a unit that is wrong in any of these ways."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import C, Cat, Mux, Value

from rtl.blocks.pipeline import Step
from rtl.floating import multiplier, operators
from sim.cosim import run as runner
from sim.cosim.dut import device
from sim.cosim.options import BenchOptions
from sim.reference import InputError, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FP16, FP32
from sim.vectors import floating_operands
from sim.vectors.floating import float_pwl_set, float_suite, mac_set, operator_set, random_float_pwl_set
from sim.vectors.floating_operands import corner_values
from sim.vectors.suites import random_suite

PRODUCTS = operator_set("products", "fp-mul", FP16, seed=3, count=3_000)
SUMS = operator_set("sums", "fp-add", FP16, seed=3, count=3_000)
PWL = random_float_pwl_set("pwl", FP16, seed=3, tables=6, entries=5, each=50, stages=2)


def operands(vectors) -> list[np.ndarray]:
    return list(vectors.columns("inputs").values())


@pytest.mark.parametrize("vectors", [PRODUCTS, SUMS], ids=["multiply", "add"])
def test_operands_and_results_have_every_class_and_every_pair_of_exponents(vectors):
    a, b = operands(vectors)
    for column in (a, b, vectors.arrays["expected"]):
        x = floating.decode(FP16, column)
        for some in (x.nan, x.infinite, x.zero & (x.sign == 1), x.zero & (x.sign == 0)):
            assert some.any()
    for column in (a, b):
        assert ((column & FP16.sign_bit - 1) < FP16.smallest).any()
    pairs = {(i, j) for i, j in zip((a >> 10 & 31).tolist(), (b >> 10 & 31).tolist(), strict=True)}
    assert len(pairs) == 32 * 32


def test_sums_tie_both_ways_cancel_by_every_distance_and_leave_the_normals():
    a, b = operands(SUMS)
    with np.errstate(invalid="ignore"):
        exact = floating.value(FP16, a) + floating.value(FP16, b)
    rounded = floating.value(FP16, SUMS.arrays["expected"])
    normal = np.isfinite(exact) & np.isfinite(rounded) & (rounded != 0)
    unit = np.ldexp(1.0, np.frexp(rounded[normal])[1] - 11)
    tie = abs(exact[normal] - rounded[normal]) == unit / 2
    assert (exact[normal][tie] > rounded[normal][tie]).sum() > 20 and (
        exact[normal][tie] < rounded[normal][tie]
    ).sum() > 20
    assert ((exact != 0) & (rounded == 0)).sum() > 20  # flushed
    large = np.maximum(abs(floating.value(FP16, a)), abs(floating.value(FP16, b)))[normal]
    lost = np.frexp(large)[1] - np.frexp(rounded[normal])[1]
    assert set(range(11)) <= set(lost.tolist())


def test_products_meet_the_edge_where_rounding_before_and_after_the_flush_differ():
    for number, vectors in ((FP16, PRODUCTS), (FP32, operator_set("wide", "fp-mul", FP32, seed=1, count=20_000))):
        a, b = operands(vectors)
        with np.errstate(all="ignore"):
            exact = abs(floating.value(number, a) * floating.value(number, b))
        smallest = float(floating.value(number, number.smallest))
        kept = (exact < smallest) & (vectors.arrays["expected"] & number.sign_bit - 1 == number.smallest)
        assert kept.sum() > 8


def test_the_full_suite_has_a_million_of_each_operation_every_corner_pair_of_fp16_and_every_depth():
    sizes = {v.name: v.size for v in float_suite(0, False, ("fp-mul", "fp-add"))}
    assert set(sizes) == {f"random-fp-{op}-{name}" for op in ("mul", "add") for name in ("fp16", "fp32")}
    assert min(sizes.values()) >= 1_000_000
    assert (
        min(sizes[f"random-fp-{op}-fp16"] for op in ("mul", "add")) >= 1_000_000 + 256**2
    )  # random ones beside corners
    depths = [
        v.configuration["stages"]
        for v in float_suite(0, False, ("fp-pwl",))
        if v.name.startswith("random-fp-pwl-fp32-8-")
    ]
    assert depths == list(range(1, 14))


def test_every_pair_of_256_corner_values_is_in_the_fp16_set():
    rng = np.random.default_rng(5)
    values = corner_values(FP16, rng, 256)
    assert len(set(values.tolist())) == 256
    a, b = operands(operator_set("corners", "fp-add", FP16, seed=5, count=70_000))
    have = set(zip(a.tolist(), b.tolist(), strict=True))
    assert all((x, y) in have for x in values.tolist() for y in values.tolist())


def test_beside_the_corner_pairs_the_fp16_set_has_as_many_random_ones_as_were_asked_for(monkeypatch):
    anything, drawn = floating_operands.anything, []
    monkeypatch.setattr(floating_operands, "anything", lambda *a: (drawn.append(a[2]), anything(*a))[1])
    vectors = operator_set("random", "fp-mul", FP16, seed=5, count=70_000)
    assert drawn == [70_000] and vectors.size > 70_000 + 256**2
    operator_set("random", "fp-mul", FP32, seed=5, count=70_000)
    assert drawn[1] < 70_000


def tampered(make: Callable[..., list[Step]], name: str, **forced: int) -> Callable[..., list[Step]]:
    """`make`, whose step `name` sees constants in place of some of the fields it reads."""

    def wrong(*arguments: Any) -> list[Step]:
        def spoil(step: Step) -> Step:
            def logic(m: Any, f: Mapping[str, Any]) -> Any:
                fields: dict[str, Any] = {**f, **{key: C(value, 1) for key, value in forced.items()}}
                return step.logic(m, fields)

            return replace(step, logic=logic)

        steps = make(*arguments)
        assert name in [step.name for step in steps]
        return [spoil(step) if step.name == name else step for step in steps]

    return wrong


def mismatches(vectors) -> int:
    outcome = runner.run_bulk(vectors, BenchOptions("icarus"))
    assert outcome.problem is None
    return outcome.mismatches


@pytest.mark.parametrize(
    "sticky", [0, 1], ids=["lost, so that more than half is a tie", "stuck, so that a tie rounds up"]
)
def test_a_wrong_sticky_bit_of_a_product_is_found(sticky, monkeypatch):
    monkeypatch.setattr(multiplier, "_rounding", tampered(multiplier._rounding, "round product", sticky=sticky))
    assert mismatches(PRODUCTS)


def test_a_product_that_is_flushed_before_it_is_rounded_is_found(monkeypatch):
    made = multiplier._rounding

    def early(number: Any, result: str) -> list[Step]:
        first, last = made(number, result)

        def logic(m: Any, f: Mapping[str, Any]) -> Any:
            before = (f["scale"] + f["kept"][-1]) <= 0
            return last.logic(m, {**f, "product_zero": f["product_zero"] | before})

        return [first, replace(last, logic=logic, reads=(*last.reads, "scale", "kept"))]

    monkeypatch.setattr(multiplier, "_rounding", early)
    wrong = runner.run_bulk(PRODUCTS, BenchOptions("icarus"))
    assert wrong.mismatches and wrong.first is not None
    assert {wrong.first["expected"] & FP16.sign_bit - 1, wrong.first["got"] & FP16.sign_bit - 1} == {FP16.smallest, 0}


@pytest.mark.parametrize(
    "step, forced",
    [
        ("add", {"below": 0}),  # the sticky bit under the sum
        ("round", {"rest": 1}),  # ties round up
        ("round", {"rest": 0}),
        ("pack", {"sum_nan": 0}),  # infinity - infinity
        ("pack", {"nonzero": 1}),  # x - x is not +0
    ],
)
def test_a_fault_in_a_sum_is_found(step, forced, monkeypatch):
    monkeypatch.setattr(operators, "adder_steps", tampered(operators.adder_steps, step, **forced))
    assert mismatches(SUMS)


def test_a_comparator_that_leaves_out_equality_is_found():
    unit = device(PWL)
    text, edits = re.subn(r">= \$signed\(threshold_2\)", "> $signed(threshold_2)", unit.verilog)
    assert edits == 1
    outcome = runner.run_bulk(PWL, BenchOptions("icarus", dut=replace(unit, verilog=text)))
    assert outcome.mismatches and outcome.first is not None
    assert outcome.first["segment"] >= 3  # the third threshold is where it shows


def test_a_comparator_that_takes_nan_for_a_number_is_found(monkeypatch):
    # in the piecewise-linear unit itself the entry of a NaN cannot be seen: every entry's line takes NaN to NaN
    def without_nan(number: Any, pattern: Any) -> Any:
        magnitude = pattern[:-1]
        key = Mux(magnitude < number.smallest, 0, Mux(pattern[-1], ~magnitude, magnitude))[: number.bits - 1]
        return Value.cast(Cat(key, pattern[-1] & (magnitude >= number.smallest))).as_signed()

    compare = operator_set("comparisons", "fp-compare", FP16, seed=3, count=2_000)
    assert mismatches(compare) == 0
    monkeypatch.setattr(operators, "ordered", without_nan)
    assert mismatches(compare)


def test_a_mac_set_has_addends_that_cancel_the_product():
    vectors = mac_set("mac", FP16, FP32, seed=0, count=3_000)
    a, b, addend = operands(vectors)
    product = floating.multiply_add(FP16, FP32, a, b, np.zeros_like(a))
    assert (abs((product ^ FP32.sign_bit) - addend) <= 3).sum() > 200
    assert ((vectors.arrays["expected"] & FP32.sign_bit - 1) == 0).sum() > 20


def test_a_set_that_no_unit_computes_is_one_line():
    with pytest.raises(InputError, match=r"stages must be in 1\.\.6, not 7"):
        operator_set("s", "fp-add", FP16, 0, 1_000, stages=7)
    with pytest.raises(InputError, match=r"configuration: .*unexpected keyword argument 'depth'"):
        device(replace(SUMS, configuration={**SUMS.configuration, "depth": 3}))
    loads = [(FloatTable(FP16, (0,) * 4, (0,) * 5, (0,) * 5), np.array([0]))]
    with pytest.raises(InputError, match="entries of the table must be at most the unit's 2, not 5"):
        float_pwl_set("s", loads, {}, entries=2)


def test_random_sets_are_the_same_for_the_same_seed():
    first, again = (random_suite(7, True, ("fp-mac",))[0] for _ in range(2))
    assert all(np.array_equal(first.arrays[key], again.arrays[key]) for key in first.arrays)
