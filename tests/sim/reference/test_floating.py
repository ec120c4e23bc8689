"""The arithmetic on patterns against numpy's floats, and against float64 where numpy keeps subnormals and we do not."""

import numpy as np
import pytest

from sim.reference import InputError, floating
from sim.reference.floating import FP16, FP32, FloatFormat

NUMPY = {FP32: (np.float32, np.uint32), FP16: (np.float16, np.uint16)}
SMALL = FloatFormat(3, 4)  # 8 bits: every pair can be had
OPERATIONS = {"multiply": np.multiply, "add": np.add}


def pairs(number: FloatFormat, seed: int, count: int) -> np.ndarray:
    """Half of them random patterns, half with exponents near to each other's; int64, (2, count)."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 1 << number.bits, (2, count))
    half = count // 2
    top = (1 << number.bits) - 1
    near = (a[:half] >> number.fraction_bits) + rng.integers(-number.fraction_bits - 3, number.fraction_bits + 4, half)
    b[:half] = np.clip(near << number.fraction_bits, 0, top) | rng.integers(0, 1 << number.fraction_bits, half)
    b[:half] ^= rng.integers(0, 2, half) << number.bits - 1
    return np.stack([a, b & top])


def as_floats(number: FloatFormat, patterns: np.ndarray) -> np.ndarray:
    """numpy's own numbers of these patterns."""
    kind, word = NUMPY[number]
    return patterns.astype(word).view(kind)


def subnormal(number: FloatFormat, patterns: np.ndarray) -> np.ndarray:
    below = patterns & number.sign_bit - 1
    return (below > 0) & (below < number.smallest)


def against_numpy(number: FloatFormat, operation: str, a: np.ndarray, b: np.ndarray) -> tuple[int, int]:
    """(pairs where no subnormal takes part, differences among them)."""
    kind, word = NUMPY[number]
    x, y = as_floats(number, a), as_floats(number, b)
    with np.errstate(all="ignore"):
        want = OPERATIONS[operation](x, y)
        exact = abs(OPERATIONS[operation](x.astype(np.float64), y.astype(np.float64)))
    # numpy rounds a result below the normals at a subnormal's place, even where it comes out as the smallest normal
    free = ~subnormal(number, a) & ~subnormal(number, b) & ~((exact > 0) & (exact < float(np.finfo(kind).tiny)))
    patterns = np.where(np.isnan(want), number.nan, want.view(word).astype(np.int64))
    got = getattr(floating, operation)(number, a, b)
    return int(free.sum()), int((free & (got != patterns)).sum())


def by_float64(number: FloatFormat, operation: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What DESIGN says, from float64: products and sums of such short numbers round to the same in two steps or one."""
    x, y = floating.value(number, a), floating.value(number, b)
    with np.errstate(all="ignore"):
        return floating.encode(number, OPERATIONS[operation](x, y))


@pytest.mark.parametrize("number", [FP32, FP16], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_equal_numpy_wherever_no_subnormal_takes_part(operation, number):
    compared, different = against_numpy(number, operation, *pairs(number, 1, 200_000))
    assert compared > 150_000 and different == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [FP32, FP16], ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_equal_numpy_on_ten_million_pairs_without_a_subnormal(operation, number):
    compared = seed = 0
    while compared < 10_000_000:
        some, different = against_numpy(number, operation, *pairs(number, seed, 1_000_000))
        assert different == 0
        compared, seed = compared + some, seed + 1


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("number", [SMALL, FP16, FP32], ids=str)
def test_operations_equal_float64_rounded_and_flushed_with_subnormals_too(operation, number):
    every = np.arange(1 << SMALL.bits)
    a, b = (np.repeat(every, len(every)), np.tile(every, len(every))) if number is SMALL else pairs(number, 2, 200_000)
    assert np.array_equal(getattr(floating, operation)(number, a, b), by_float64(number, operation, a, b))


def test_encode_rounds_as_numpy_does_and_flushes_after_rounding():
    rng = np.random.default_rng(3)
    for number, (kind, word) in NUMPY.items():
        tiny = float(np.finfo(kind).tiny)
        values = np.concatenate([rng.normal(size=10_000) * 2.0 ** rng.integers(-10, 10, 10_000), [0.0, -0.0, np.inf]])
        values = values[(abs(values) >= tiny) | (values == 0)]
        assert np.array_equal(floating.encode(number, values), values.astype(kind).view(word).astype(np.int64))
        half_unit = tiny * 2.0**-number.fraction_bits / 4  # at the last place below the smallest normal number
        edge = np.array([tiny, tiny - half_unit, np.nextafter(tiny - half_unit, 0), -tiny / 2, 2 * tiny])
        expected = [number.smallest, number.smallest, 0, number.sign_bit, 2 * number.smallest]
        assert floating.encode(number, edge).tolist() == expected
        assert floating.encode(number, [np.nan, 1e300, -1e300]).tolist() == [
            number.nan, number.infinity, number.infinity | number.sign_bit,
        ]  # fmt: skip


def test_a_value_encodes_to_its_own_pattern():
    every = np.arange(1 << 16)
    back = floating.encode(FP16, floating.value(FP16, every))
    expected = np.where(subnormal(FP16, every), every & FP16.sign_bit, every)
    expected = np.where(floating.decode(FP16, every).nan, FP16.nan, expected)
    assert np.array_equal(back, expected)
    assert np.array_equal(np.isnan(floating.value(FP16, every)), np.isnan(as_floats(FP16, every)))


def test_the_product_next_to_the_smallest_normal_number_is_rounded_before_it_is_flushed():
    # (1 + 2**-23) * (1 - 2**-23) * 2**-126 is 2**-126 less a quarter of the last place there
    a, b = (1 << 23) | 1, (FP32.bias - 1) << 23 | (1 << 23) - 2
    assert floating.multiply(FP32, a, b) == FP32.smallest
    with np.errstate(all="ignore"):
        product = floating.value(FP32, a) * floating.value(FP32, b)
    assert product < 2.0**-126
    assert floating.multiply(FP32, a, b - 1) == 0 and floating.multiply(FP32, a | FP32.sign_bit, b - 1) == FP32.sign_bit


@pytest.mark.parametrize(
    "operation, a, b, expected",
    [
        ("multiply", 0x7F800000, 0x00000000, 0x7FC00000),  # infinity * 0
        ("multiply", 0x7F800000, 0x007FFFFF, 0x7FC00000),  # infinity * subnormal
        ("multiply", 0xFFC12345, 0x3F800000, 0x7FC00000),  # a NaN of any kind
        ("multiply", 0x80000001, 0x40000000, 0x80000000),  # a subnormal is a zero of its sign
        ("multiply", 0xFF800000, 0x40000000, 0xFF800000),
        ("multiply", 0x7F000000, 0xFF000000, 0xFF800000),  # overflow
        ("add", 0x7F800000, 0xFF800000, 0x7FC00000),  # infinity - infinity
        ("add", 0x7F800000, 0x7F800001, 0x7FC00000),
        ("add", 0x80000000, 0x80000000, 0x80000000),  # -0 + -0
        ("add", 0x80000000, 0x00000000, 0x00000000),
        ("add", 0x80000001, 0x80000002, 0x80000000),
        ("add", 0x3F800000, 0xBF800000, 0x00000000),  # x - x
        ("add", 0x00800001, 0x80800000, 0x00000000),  # a positive difference below the normals
        ("add", 0x00800000, 0x80800001, 0x80000000),  # a negative one
        ("add", 0x3F800000, 0x33800000, 0x3F800000),  # a tie goes to the even
        ("add", 0x3F800001, 0x33800000, 0x3F800002),
        ("add", 0x3F800000, 0x33800001, 0x3F800001),
        ("add", 0x7F7FFFFF, 0x73000000, 0x7F800000),  # rounds up to infinity
    ],
)
def test_the_special_cases_are_as_the_design_says(operation, a, b, expected):
    assert getattr(floating, operation)(FP32, a, b) == expected
    assert getattr(floating, operation)(FP32, b, a) == expected


def test_greater_equal_is_numpy_s_with_subnormals_as_zeros():
    every = np.arange(1 << SMALL.bits)
    a, b = np.repeat(every, len(every)), np.tile(every, len(every))
    x, y = floating.value(SMALL, a), floating.value(SMALL, b)
    with np.errstate(invalid="ignore"):
        assert np.array_equal(floating.greater_equal(SMALL, a, b), x >= y)
    order = floating.order(SMALL, every)
    assert order.min() == -128 and order.max() == SMALL.infinity and floating.order(SMALL, 128) == 0


def test_convert_gives_the_same_numbers():
    every = np.arange(1 << 16)
    assert np.array_equal(
        floating.value(FP32, floating.convert(FP16, FP32, every)), floating.value(FP16, every), equal_nan=True
    )
    with pytest.raises(InputError, match="target must hold every number of the source"):
        floating.convert(FP32, FP16, every)


def test_multiply_add_rounds_the_product_then_the_sum_and_an_fp16_product_in_fp32_not_at_all():
    rng = np.random.default_rng(4)
    a, b = pairs(FP16, 5, 50_000)
    wide, narrow = rng.integers(0, 1 << 32, 50_000), rng.integers(0, 1 << 16, 50_000)
    for number in (FP16, FP32):
        x, y = (a, b) if number is FP16 else pairs(FP32, 6, 50_000)
        z = narrow if number is FP16 else wide
        expected = floating.add(number, z, floating.multiply(number, x, y))
        assert np.array_equal(floating.multiply_add(number, number, x, y, z), expected)
    with np.errstate(all="ignore"):
        product = floating.value(FP16, a) * floating.value(FP16, b)
        exact = product.astype(np.float32)
    assert np.array_equal(exact.astype(np.float64), product, equal_nan=True)  # 22 bits fit
    patterns = np.where(np.isnan(exact), FP32.nan, exact.view(np.uint32).astype(np.int64))
    assert np.array_equal(floating.multiply_add(FP16, FP32, a, b, wide), floating.add(FP32, wide, patterns))
    with pytest.raises(InputError, match="accumulator must be the product's format or hold every product, not fp16"):
        floating.multiply_add(FP32, FP16, a, b, narrow)


def test_what_is_no_pattern_is_refused():
    with pytest.raises(InputError, match="patterns must be integers, not float64"):
        floating.multiply(FP16, [1.0], [1])
    with pytest.raises(InputError, match=r"patterns must be in 0\.\.65535, not -1\.\.1"):
        floating.add(FP16, [1, -1], [1, 1])
    with pytest.raises(InputError, match=r"exponent_bits must be in 3\.\.8, not 11"):
        FloatFormat(11, 20)
