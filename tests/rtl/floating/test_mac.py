"""Multiply-accumulate against the specification, in one format and with a wider accumulator, at every depth."""

import numpy as np
import pytest

from rtl.blocks.multiplication import Product, as_operator, carry_save
from rtl.floating.mac import Mac, MacConfig
from sim.reference import InputError, floating
from sim.reference.floating import FP16, FP32, FloatFormat
from tests.rtl.floating.patterns import TINY, run

WIDE = FloatFormat(5, 9)  # holds every product of TINY


def differences(folder, config: MacConfig, count: int, seed: int, rows: Product = carry_save) -> int:
    rng = np.random.default_rng(seed)
    number, total = config.number, config.sum
    a, b = rng.integers(0, 1 << number.bits, (2, count))
    zero = np.zeros_like(a)
    product = floating.multiply_add(number, total, a, b, zero)
    near = (product + rng.integers(-9, 10, count)) % (1 << total.bits) ^ total.sign_bit
    addend = np.where(rng.random(count) < 0.5, near, rng.integers(0, 1 << total.bits, count))
    got = run(folder, Mac(config, rows), [a, b, addend], [number.bits, number.bits, total.bits], total.bits, [], seed)
    return int((got != floating.multiply_add(number, total, a, b, addend)).sum())


@pytest.mark.parametrize("stages", range(1, 11))
def test_every_depth_equals_the_specification(stages, tmp_path):
    assert differences(tmp_path, MacConfig(TINY, stages=stages), 2_000, seed=stages) == 0


@pytest.mark.parametrize("stages", range(1, 10))
def test_every_depth_with_a_wider_accumulator_equals_the_specification(stages, tmp_path):
    assert differences(tmp_path, MacConfig(TINY, WIDE, stages), 2_000, seed=stages) == 0


def test_fp16_with_an_fp32_accumulator_equals_the_specification(tmp_path):
    assert differences(tmp_path, MacConfig(FP16, FP32, 3), 2_000, seed=0) == 0


def test_a_plain_product_equals_the_specification(tmp_path):
    assert differences(tmp_path, MacConfig(TINY, stages=2), 2_000, seed=0, rows=as_operator) == 0


def test_an_accumulator_that_would_round_the_product_twice_is_refused():
    with pytest.raises(InputError, match="accumulator must be the product's format or hold every product, not fp16"):
        MacConfig(FP32, FP16)
    with pytest.raises(InputError, match=r"stages must be in 1\.\.9, not 10"):
        MacConfig(FP16, FP32, 10)
    assert MacConfig(FP16, FP16, 10).sum == FP16
