"""Comparator, multiplier and adder against the specification: every pair of an 8-bit format, at every depth."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from rtl.blocks.multiplication import as_operator
from rtl.floating.operators import STEPS, Operator, OperatorConfig
from rtl.floating.parts import ordered
from sim.reference import InputError, floating
from sim.reference.floating import FloatFormat
from tests.rtl.floating.patterns import TINY, every_pair, run


def expected(operation: str, number: FloatFormat, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if operation == "compare":
        return floating.greater_equal(number, a, b).astype(int)
    return getattr(floating, operation)(number, a, b)


def outputs(folder, config: OperatorConfig, a: np.ndarray, b: np.ndarray, seed: int = 0) -> np.ndarray:
    return run(folder, Operator(config), [a, b], [config.number.bits] * 2, config.out_bits, [], seed)


@pytest.mark.parametrize("operation", STEPS)
def test_every_pair_of_8_bit_patterns_equals_the_specification(operation, tmp_path):
    a, b = every_pair(TINY)
    assert np.array_equal(outputs(tmp_path, OperatorConfig(operation, TINY), a, b), expected(operation, TINY, a, b))


def test_a_plain_product_of_every_pair_equals_the_specification(tmp_path):
    a, b = every_pair(TINY)
    unit = Operator(OperatorConfig("multiply", TINY), as_operator)
    got = run(tmp_path, unit, [a, b], [TINY.bits] * 2, TINY.bits, [], 0)
    assert np.array_equal(got, expected("multiply", TINY, a, b))


@pytest.mark.parametrize("number", [FloatFormat(4, 5), FloatFormat(5, 4), FloatFormat(8, 7)], ids=str)
@pytest.mark.parametrize("operation", ["multiply", "add"])
def test_other_formats_equal_the_specification(operation, number, tmp_path):
    a, b = np.random.default_rng(0).integers(0, 1 << number.bits, (2, 5_000))
    b[:2_500] = (a[:2_500] + np.random.default_rng(1).integers(-40, 40, 2_500)) % (1 << number.bits) ^ number.sign_bit
    assert np.array_equal(outputs(tmp_path, OperatorConfig(operation, number), a, b), expected(operation, number, a, b))


@pytest.mark.parametrize("operation, stages", [(name, s) for name, most in STEPS.items() for s in range(2, most + 1)])
def test_every_depth_equals_the_specification_under_stalls(operation, stages, tmp_path):
    a, b = (column[stages::29] for column in every_pair(TINY))
    got = outputs(tmp_path, OperatorConfig(operation, TINY, stages), a, b, seed=stages)
    assert np.array_equal(got, expected(operation, TINY, a, b))


def test_a_configuration_that_is_none_is_one_line():
    with pytest.raises(InputError, match="operation must be one of compare, multiply, add, not 'divide'"):
        OperatorConfig("divide")
    with pytest.raises(InputError, match=r"stages must be in 1\.\.6, not 7"):
        OperatorConfig("add", stages=7)


def test_the_place_in_the_order_is_the_specification_s_for_every_pattern_nan_lowest():
    m = Module()
    pattern, key = Signal(TINY.bits), Signal(signed(TINY.bits))
    m.d.comb += key.eq(ordered(TINY, pattern))
    got = []

    async def drive(ctx) -> None:
        for value in range(1 << TINY.bits):
            ctx.set(pattern, value)
            got.append(ctx.get(key))

    simulator = Simulator(m)
    simulator.add_testbench(drive)
    simulator.run()
    assert got == floating.order(TINY, np.arange(1 << TINY.bits)).tolist()
