"""A network has the same codes at every node on every route: kernels or PyTorch, products, threads, devices."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import sim
from quant.calibration import tokeniser_of
from quant.formats.checkpoint import load_model
from quant.zoo.packaged import find
from sim.network.graph import Network
from sim.network.operators import exact_gemm, kernels
from sim.reference import InputError
from sim.workloads.sentence import padded
from sim.workloads.sentences import sentences
from tests.sim.network.language_models import language_model, prompts
from tests.sim.network.models import TABLES, Batch, bert, plan, token_batches
from tests.sim.network.specification import require_specified

SETTINGS: dict[str, dict[str, Any]] = {
    "W8A8": {},
    "W8A8 asymmetric": dict(weight_symmetric=False),
    "W4 groups": dict(weight_bits=4, weight_granularity="group", group_size=16),
    "static": dict(activation_granularity="tensor"),
}


class Route(NamedTuple):
    """The steps between the products by kernels or by PyTorch, the products in integers or floats, and the threads."""

    compiled: bool
    integers: bool
    threads: int


ROUTES = [Route(*choice) for choice in product((True, False), (True, False), (1, 2))]


@contextmanager
def on(route: Route, network: Network) -> Iterator[None]:
    """Within the context the network takes the route."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        if not route.compiled:
            stack.enter_context(kernels.pytorch_only())
        if not route.integers:
            patch.setattr(exact_gemm, "_int_mm_is_exact", lambda device: False)
        network.cpu()  # lays the weights out anew
        torch.set_num_threads(route.threads)
        try:
            yield
        finally:
            torch.set_num_threads(1)


def every_result(network: Network, batch: Batch) -> list[list[Tensor]]:
    """The tensors that every node gives."""
    seen: list[list[Tensor]] = []
    with torch.no_grad():
        network.run(batch, lambda node, arguments, results: seen.append([t.cpu() for t in results if t is not None]))
    return seen


def require_the_same_codes(network: Network, batch: Batch) -> None:
    """On every route, and on CUDA if there is one, at every node."""
    expected = every_result(network, batch)
    for route in ROUTES:
        with on(route, network):
            require_equal(every_result(network, batch), expected, route)
    if torch.cuda.is_available():
        moved = {name: value.cuda() for name, value in batch.items()}
        require_equal(every_result(network.cuda(), moved), expected, "CUDA")
        network.cpu()


def require_equal(got: list[list[Tensor]], expected: list[list[Tensor]], route: object) -> None:
    for own, other in zip(got, expected, strict=True):
        assert all(map(torch.equal, own, other)), route


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_small_network(kind, monkeypatch):
    pytest.importorskip("numba", reason="the extra `fast`")
    monkeypatch.setattr(kernels, "BLOCK", 200)  # so that small tensors are several blocks
    batches = token_batches()
    network = sim.convert(copy.deepcopy(bert()), plan(**SETTINGS[kind]), batches)
    for batch in batches:
        require_the_same_codes(network, batch)


def test_a_small_language_model():
    pytest.importorskip("numba", reason="the extra `fast`")
    batch = {"input_ids": prompts()}
    network = sim.convert(language_model("LlamaForCausalLM"), plan(), [batch])
    require_the_same_codes(network, batch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["W8A8", "W4 g64"])
def test_minilm(kind):
    pytest.importorskip("numba", reason="the extra `fast`")
    try:
        folder = find("minilm")
    except InputError as error:
        pytest.skip(str(error))
    settings = SETTINGS["W4 groups"] | {"group_size": 64} if kind == "W4 g64" else {}
    words, texts = tokeniser_of(folder), sentences(20)
    calibration, measured = (padded([[*words(text)] for text in part]) for part in (texts[:8], texts[8:]))
    network = sim.convert(load_model(folder)[0], plan(TABLES, **settings), [calibration])
    assert measured["input_ids"].shape[0] == 12 and not bool(measured["attention_mask"].all())
    require_the_same_codes(network, measured)
    require_specified(network, {name: value[:2] for name, value in measured.items()})
