"""Every route of the integer matrix product equals int64, and the bounds that choose a route are where they must be."""

import pytest
import torch

from sim.network.operators import exact_gemm
from sim.network.operators.exact_gemm import Weight, batched

SHAPES = [(1, 1, 1), (2, 1, 3), (1, 1, 40), (5, 7, 3), (33, 384, 20), (2, 1000, 4)]


def codes(*shape: int, seed: int = 0, extreme: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    random = torch.randint(-128, 128, shape, generator=generator)
    return (torch.where(random < 100, -128, 127) if extreme else random).to(torch.int8)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("route", ["int_mm", "float32", "float64"])
@pytest.mark.parametrize("rows, inner, outer", SHAPES)
def test_every_route_equals_int64(route, rows, inner, outer, extreme):
    a, w = codes(rows, inner, extreme=extreme), codes(outer, inner, seed=1, extreme=extreme)
    got = Weight(w, route).product(a)
    assert got.dtype == torch.int32 and torch.equal(got.long(), a.long() @ w.long().T)


def test_random_shapes_equal_int64_by_every_route():
    generator = torch.Generator().manual_seed(3)
    for rows, inner, outer in torch.randint(1, 40, (60, 3), generator=generator).tolist():
        a, w = codes(rows, inner, seed=rows), codes(outer, inner, seed=outer)
        for route in ("int_mm", "float32", "float64"):
            assert torch.equal(Weight(w, route).product(a).long(), a.long() @ w.long().T), (rows, inner, outer, route)


def test_the_self_test_has_shapes_of_one_input_and_random_ones(monkeypatch):
    seen: list[tuple[int, int, int]] = []
    honest = exact_gemm._int_mm

    def watch(a, b):
        seen.append((a.shape[0], a.shape[1], b.shape[1]))
        return honest(a, b)

    monkeypatch.setattr(exact_gemm, "_int_mm", watch)
    exact_gemm._int_mm_is_exact.__wrapped__("cpu")
    assert (2, 1, 3) in seen and len(set(seen)) > 15


def test_autocast_does_not_round_a_product():
    a, b = torch.full((1, 8, 1024), 127, dtype=torch.int8), torch.full((1, 1024, 8), 127, dtype=torch.int8)
    with torch.autocast("cpu", torch.bfloat16):
        assert int(batched(a, b)[0, 0, 0]) == 1024 * 127 * 127
        for route in ("int_mm", "float32", "float64"):
            assert int(Weight(b[0].T.contiguous(), route).product(a[0])[0, 0]) == 1024 * 127 * 127


def test_leading_axes_are_kept():
    a, w = codes(2, 3, 5, 8), codes(4, 8, seed=1)
    assert torch.equal(Weight(w).product(a).long(), a.long() @ w.long().T)


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize("inner", [1, 32, 1024, 1025, 5000])
def test_products_of_activations_equal_int64_however_long(inner, extreme):
    a, b = codes(2, 3, 4, inner, extreme=extreme), codes(2, 3, inner, 5, seed=1, extreme=extreme)
    assert torch.equal(batched(a, b).long(), a.long() @ b.long())


def test_without_an_exact_int_mm_the_weights_decide_between_float32_and_float64(monkeypatch):
    monkeypatch.setattr(exact_gemm, "_int_mm_is_exact", lambda device: False)
    assert Weight(torch.full((2, 1024), 127, dtype=torch.int8)).route == "float32"
    assert Weight(torch.full((2, 1024), -128, dtype=torch.int8)).route == "float32"  # 2**24 itself is held
    assert Weight(torch.full((2, 1025), -128, dtype=torch.int8)).route == "float64"


def test_float32_beyond_its_bound_would_be_wrong():
    a, w = (torch.full((1, 1041), -128, dtype=torch.int8) for _ in range(2))
    a[0, 0], w[0, 0] = 1, 1
    assert int(Weight(w, "float64").product(a)) == 1040 * 128 * 128 + 1
    assert int(Weight(w, "float32").product(a)) != 1040 * 128 * 128 + 1  # no float32 is that odd


def test_the_self_test_finds_an_int_mm_that_saturates_or_fails(monkeypatch):
    def saturating(a, b):
        return torch.clamp(a.int() @ b.int(), -(1 << 15), (1 << 15) - 1)

    def missing(a, b):
        raise RuntimeError("not implemented")

    for broken in (saturating, missing):
        monkeypatch.setattr(exact_gemm, "_int_mm", broken)
        assert exact_gemm._int_mm_is_exact.__wrapped__("cpu") is False


def test_codes_of_another_type_are_refused():
    with pytest.raises(ValueError, match="codes must be int8"):
        Weight(torch.zeros(2, 2, dtype=torch.int16))
