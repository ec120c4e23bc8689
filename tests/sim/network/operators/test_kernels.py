"""The compiled kernels equal the specification and the PyTorch code, code for code, on every route and thread count."""

import ast
import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sim
from quant.plan import Settings
from quant.primitives.quantisers import quantise_weight
from sim.network.integer_only import IntegerOnly
from sim.network.operators import kernels
from sim.network.operators.arithmetic import code_type
from sim.network.operators.attention import Softmax
from sim.network.operators.base import Grid
from sim.network.operators.kernels import Requantiser
from sim.network.operators.linear import Linear
from sim.network.operators.norm import Norm
from sim.network.operators.packed_linear import input_quantiser
from sim.network.operators.planes import digits
from sim.network.operators.tables import Gather, TensorNormaliser, normaliser
from sim.reference import requant, residual, token
from sim.reference.arithmetic import code_range
from tests.sim.network.models import bert, plan, token_batches
from tests.sim.tables import secant_table

pytest.importorskip("numba", reason="the extra `fast`")

TABLES = {name: secant_table(name) for name in ("exp", "div", "rsqrt")}
SEEDS = st.integers(0, 1 << 30)


def random(bits: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Signed integers of `bits`, a third of them at the ends of the range."""
    generator = torch.Generator().manual_seed(seed)
    top = 1 << (bits - 1)
    values = torch.randint(-top, top, shape, generator=generator)
    kind = torch.randint(6, shape, generator=generator)
    return torch.where(kind == 0, -top, torch.where(kind == 1, top - 1, values)).to(dtype)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 9), st.integers(1, 70), SEEDS, st.sampled_from([8, 16]), st.booleans(),
    st.sampled_from([(torch.int32, 31), (torch.int64, 45)]),
)  # fmt: skip
def test_a_requantiser_equals_the_specification(rows, n, seed, bits, by_token, kind):
    dtype, width = kind
    psum = random(width - 16 if by_token else width, (rows, n), seed, dtype)
    bias = random(30, (n,), seed + 1)
    multiplier, shift = random(16, (n,), seed + 2).abs().clamp(max=65535), random(6, (n,), seed + 3).abs()
    magnitude = random(16, (rows, 1), seed + 4).abs().clamp(1, 32768) if by_token else None
    total = psum.numpy().astype(np.int64) * (1 if magnitude is None else magnitude.numpy()) + bias.numpy()
    expected = requant.requantise(total, multiplier.numpy(), shift.numpy(), out_bits=bits)
    requantiser = Requantiser(multiplier, shift, bits, bias)
    got = requantiser(psum, magnitude)
    assert got.dtype == (torch.int8 if bits == 8 else torch.int16) and np.array_equal(got.numpy(), expected)
    with kernels.pytorch_only():
        assert torch.equal(requantiser(psum, magnitude), got)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 70), SEEDS, st.integers(2, 8))
def test_tokens_equal_the_specification(rows, n, seed, bits):
    x = random(16, (2, rows, n), seed, torch.int16)
    x[0, 0] = 0
    codes, magnitude = kernels.quantise_tokens(x, bits)
    expected = token.quantise_tokens(x.numpy(), bits)
    assert np.array_equal(codes.numpy(), expected[0]) and np.array_equal(magnitude.numpy(), expected[1])


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(0, 47), st.sampled_from([(2, 3, 5), (3, 5), (1, 3, 5), (5,), (2, 1, 1)]))
def test_an_addition_equals_the_specification_and_broadcasts(seed, shift, shape):
    a, b = random(16, (2, 3, 5), seed, torch.int16), random(16, shape, seed + 1, torch.int16)
    first, second = 65535, seed % 65536
    got = kernels.add_scaled(a, b, (first, second), shift)
    other = np.broadcast_to(b.numpy(), a.shape)
    assert np.array_equal(got.numpy(), residual.add_scaled(a.numpy(), other, (first, second), shift))
    with kernels.pytorch_only():
        assert torch.equal(kernels.add_scaled(b, a, (second, first), shift), got)


@pytest.mark.parametrize("channels", [None, torch.tensor([1, 0, 1, 1, 0])])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int16])
def test_a_gather_equals_pytorch(dtype, channels):
    generator = np.random.default_rng(0)
    values = [generator.integers(-128, 128, 256) for _ in range(1 if channels is None else 2)]
    module = Gather(values, dtype, channels)
    codes = random(8, (3, 100, 5), 0, torch.int8)
    got = module(codes)
    with kernels.pytorch_only():
        assert torch.equal(module(codes), got)
    assert torch.equal(module(codes.transpose(0, 1)), got.transpose(0, 1))


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.sampled_from(["exp", "exact"]), st.integers(1, 40), st.sampled_from([None, "keys", "pairs", "rows"]))
def test_softmax_equals_the_specification_also_where_rows_are_masked(seed, kind, length, masked):
    tables = dict.fromkeys(("exp", "div"), "exact") if kind == "exact" else TABLES
    operator = Softmax("a.softmax", 40)
    operator.quantise(Grid.power(16, 1 + seed % 6), tables["exp"], tables["div"])
    scores = random(16 if seed % 2 else 9, (2, 3, length, length), seed, torch.int16)
    generator = torch.Generator().manual_seed(seed)
    shapes = {"keys": (2, 1, 1, length), "pairs": (2, 1, length, length), "rows": (2, 3, length, 1)}
    valid = None if masked is None else torch.rand(shapes[masked], generator=generator) < 0.6
    got = operator.integer(scores, valid)
    spec = operator.specification
    assert spec is not None
    assert np.array_equal(got.numpy(), spec.compute(scores.numpy(), None if valid is None else valid.numpy()))
    with kernels.pytorch_only():
        whole = None if valid is None else valid.expand(scores.shape)
        assert torch.equal(operator.integer(scores, whole), got)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.booleans(), st.integers(2, 70), st.sampled_from(["rsqrt", "exact"]))
def test_norms_equal_the_specification(seed, centring, n, kind):
    layer = (torch.nn.LayerNorm if centring else torch.nn.RMSNorm)(n)
    with torch.no_grad():
        for k, parameter in enumerate(layer.parameters()):
            parameter.copy_(torch.randn(n, generator=torch.Generator().manual_seed(seed + k)))
    operator = Norm("n", layer)
    grids = (Grid(16, torch.tensor(2.0**-s, dtype=torch.float64)) for s in (9, 12))
    operator.quantise(next(grids), next(grids), "exact" if kind == "exact" else TABLES["rsqrt"])
    x = random(16, (2, 5, n), seed, torch.int16)
    x[0, 0], x[0, 1] = 7, random(3, (n,), seed, torch.int16)
    got, spec = operator.integer(x), operator.specification
    assert spec is not None and np.array_equal(got.numpy(), spec.compute(x.numpy()))
    with kernels.pytorch_only():
        assert torch.equal(operator.integer(x), got)


@pytest.mark.parametrize("function, fraction", [("div", 7), ("rsqrt", 0)])
def test_a_normaliser_equals_the_specification_at_every_power_of_two(function, fraction):
    from sim.network.operators.compiled import evaluate, normalised

    spec = normaliser(function, TABLES[function], 62, fraction)
    constants = kernels.NormaliserConstants.of(spec)
    powers = [v for k in range(62) for v in ((1 << k) - 1, 1 << k, (1 << k) + 1) if v < 1 << 62]
    acc, exponent = spec.evaluate(np.array(powers))
    assert [evaluate(v, constants) for v in powers] == list(zip(acc.tolist(), exponent.tolist(), strict=True))
    left = 14 - spec.table.slope_frac_bits - spec.scale
    expected = TensorNormaliser(spec).output(torch.tensor(powers), 14, 16)
    assert [normalised(v, constants, left, 32767) for v in powers] == expected.tolist()


@given(st.lists(st.integers(-(1 << 24), 1 << 24), min_size=1))
def test_digits_put_together_are_the_values(values):
    parts = digits(torch.tensor(values))
    assert all(part.dtype == torch.int8 for part in parts)
    assert sum(part.long() << 8 * p for p, part in enumerate(parts)).tolist() == values  # pyright: ignore
    top = max(map(abs, values))
    assert len(parts) == 1 if top < 128 else len(parts) <= (2 if top < 127 * 257 else 4)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "bits, group, multiplier_bits, planes",
    [(8, None, 8, (1, 2)), (8, 16, 16, (3, 4)), (4, 16, 8, (2,)), (4, 16, 4, (1, 2)), (2, 24, 4, (1,))],
)
def test_layers_on_planes_equal_the_specification(bits, group, multiplier_bits, planes, symmetric, threads):
    grouped: dict[str, Any] = (
        dict(weight_granularity="group", group_size=group, multiplier_bits=multiplier_bits) if group else {}
    )
    chosen = Settings(weight_bits=bits, weight_symmetric=symmetric, weight_observer="minmax", **grouped)
    torch.manual_seed(0)
    layer = torch.nn.Linear(40, 9)
    operator = Linear({"l": layer})
    by_token = multiplier_bits < 16  # with wide multipliers there is no room for magnitudes
    input, output = Grid(16 if by_token else 8, torch.tensor(2.0**-7, dtype=torch.float64)), Grid.power(16, 10)
    weights = [quantise_weight(layer.weight, chosen)]
    operator.quantise(input_quantiser(input, by_token, 8, None), input, [output], weights)
    [packed] = operator.packed_layers
    codes, magnitude = operator.activations(random(input.bits, (5, 40), 0, code_type(input.bits)))
    arguments = [t.numpy() for t in (codes, magnitude) if t is not None]
    expected = packed.specification.output(*arguments)  # pyright: ignore
    assert np.array_equal(packed(codes, magnitude).numpy(), expected)
    with kernels.pytorch_only():
        assert np.array_equal(packed(codes, magnitude).numpy(), expected)
    assert packed.planes.count in planes


def test_signed_weights_of_4_bits_times_multipliers_of_4_bits_are_one_plane():
    low, high = code_range(4, True)
    weights, multipliers = torch.arange(low, high + 1)[:, None], torch.arange(1, code_range(4, False)[1] + 1)
    assert len(digits(weights * multipliers)) == 1


def test_no_kernel_holds_floating_point():
    from sim.network.operators import compiled

    tree = ast.parse(inspect.getsource(compiled))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Div)]
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert not [value for value in constants if isinstance(value, float)]
    sim.convert(copy.deepcopy(bert()), plan(), token_batches()).codes(**token_batches()[0])
    signatures = [s for value in vars(compiled).values() for s in getattr(value, "signatures", ())]
    assert len(signatures) >= 6 and not [s for s in signatures if "float" in str(s)]


def test_a_mode_that_watches_operations_sees_pytorch():
    x = torch.zeros(2, 2, dtype=torch.int8)
    assert kernels.usable(x)
    with IntegerOnly():
        assert not kernels.usable(x)
    with kernels.pytorch_only():
        assert not kernels.usable(x)


def test_kernels_compile_where_no_folder_for_them_can_be_written(monkeypatch):
    from sim.network.operators import compiled

    honest = compiled.njit

    def without_folder(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return honest(**options)

    monkeypatch.setattr(compiled, "njit", without_folder)
    assert compiled.compile_(lambda x: x + 1)(2) == 3


def test_a_network_that_has_run_can_be_pickled_and_takes_no_sequences():
    [batch] = token_batches(1)
    network = sim.convert(copy.deepcopy(bert()), plan(), [batch])
    codes = network.codes(**batch)
    assert torch.equal(pickle.loads(pickle.dumps(network)).codes(**batch), codes)
    nothing = {name: value[:0] for name, value in batch.items()}
    compiled = network.codes(**nothing)
    with kernels.pytorch_only():
        assert torch.equal(network.codes(**nothing), compiled) and compiled.shape == codes[:0].shape
