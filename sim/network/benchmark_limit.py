"""The least time that a pass of an integer network could take on a machine: its products, and its memory traffic.

A pass takes products + traffic + rest. The products are the multiply-accumulates of int8, with every plane of wide
weights, at the rate of one large `torch._int_mm`; the traffic is every weight and every tensor between operators, read
and written once, at the rate of a copy. The rest is arithmetic between the products, smaller products' lower rate, and
Python. `profile` says which kinds of operator take the time.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sim.network.graph import Network, Node
from sim.network.operators.attention import Context, Scores
from sim.network.operators.causal import TokenContext, TokenScores
from sim.network.operators.linear import Linear

SIDE = 1024  # of the matrices whose product gives the peak
COPIED = 1 << 25  # bytes
TRIES = 50
BETWEEN = "between operators"  # a pass less its operators: Python, and what is looked at before the first
Batches = Callable[[], Mapping[str, Any]]  # the same arguments each time; a cache must be another one


class Rates(NamedTuple):
    """What the machine does in a second, with the threads of the moment: multiply-accumulates, and bytes copied."""

    macs: float
    bytes: float

    @classmethod
    def measured(cls) -> "Rates":
        """The best of some tries. Bytes count twice, for they are read and written."""
        a = torch.ones(SIDE, SIDE, dtype=torch.int8)
        b = a.clone().t()
        source, target = torch.ones(COPIED, dtype=torch.int8), torch.ones(COPIED, dtype=torch.int8)
        product = _best(lambda: torch._int_mm(a, b))  # pyright: ignore[reportPrivateImportUsage]
        return cls(SIDE**3 / product, 2 * COPIED / _best(lambda: target.copy_(source)))


class Work(NamedTuple):
    """What a pass must do: int8 multiply-accumulates, and bytes that are read or written."""

    macs: int
    bytes: int

    @classmethod
    def of(cls, network: Network, batch: Mapping[str, Any]) -> "Work":
        """That of a pass over a batch, in the mode "integer"."""
        kinds = cls.by_kind(network, batch).values()
        return cls(sum(work.macs for work in kinds), sum(work.bytes for work in kinds))

    @classmethod
    def by_kind(cls, network: Network, batch: Mapping[str, Any]) -> "dict[str, Work]":
        """That of the operators of each kind."""
        found: dict[str, Work] = {}

        def watch(node: Node, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> None:
            own, before = cls.of_node(node, arguments, results), found.get(node.step.kind, cls(0, 0))
            found[node.step.kind] = cls(before.macs + own.macs, before.bytes + own.bytes)

        with torch.no_grad():
            network.run(batch, watch)
        return found

    @classmethod
    def of_node(cls, node: Node, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> "Work":
        """That of one operator."""
        macs, moved = 0, sum(t.nbytes for t in (*arguments, *results) if isinstance(t, Tensor))
        step = node.step
        if isinstance(step, Linear):
            x = arguments[0]
            weights = sum(layer.codes.numel() * len(layer.digits) for layer in step.packed_layers)
            macs = x.numel() // x.shape[-1] * weights
            moved += weights + 2 * x.numel()  # the activations are quantised, then read again
        elif isinstance(step, (Scores, TokenScores)):  # (B, H, T, S) times the width of a head
            macs = results[0].numel() * arguments[0].shape[-1] // step.heads
        elif isinstance(step, (Context, TokenContext)):
            macs = arguments[0].numel() * results[0].shape[-1] // step.heads
        return cls(macs, moved)


def limit(network: Network, batch: Mapping[str, Any], rates: Rates) -> dict[str, float]:
    """The products' and the traffic's seconds of a pass over the batch, and what they come from."""
    work = Work.of(network, batch)
    return {
        "macs": work.macs,
        "bytes_moved": work.bytes,
        "peak_macs_per_second": rates.macs,
        "copied_bytes_per_second": rates.bytes,
        **_least(work, rates),
    }


def profile(network: Network, batches: Batches, rates: Rates, rounds: int) -> list[dict[str, Any]]:
    """The parts of a pass, the longest first: each kind of operator, and what is between them.

    A row has the kind, its `operators`, the median over the rounds of its `seconds`, its `share` of their sum, and the
    seconds of its products and its traffic at the machine's `rates`.
    """
    work = Work.by_kind(network, batches())
    with torch.no_grad():
        passes = [_seconds_by_kind(network, batches()) for _ in range(rounds)]
    seconds = {kind: median(each[kind] for each in passes) for kind in passes[0]}
    total = sum(seconds.values())
    kinds = [node.step.kind for node in network.graph.nodes]
    rows = [
        {
            "kind": kind,
            "operators": kinds.count(kind),
            "seconds": took,
            "share": took / total,
            **_least(work.get(kind, Work(0, 0)), rates),
        }
        for kind, took in seconds.items()
    ]
    return sorted(rows, key=lambda row: -row["seconds"])


def profile_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A profile's rows as lines of text, times in milliseconds."""

    def ms(seconds: float) -> str:
        return f"{seconds * 1e3:8.2f} ms"

    return [
        f"  {row['kind']:<18} {row['operators']:>4} {ms(row['seconds'])} {row['share'] * 100:5.1f} %, "
        f"products at least {ms(row['products_seconds'])}, traffic {ms(row['traffic_seconds'])}"
        for row in rows
    ]


def _least(work: Work, rates: Rates) -> dict[str, float]:
    return {"products_seconds": work.macs / rates.macs, "traffic_seconds": work.bytes / rates.bytes}


def _seconds_by_kind(network: Network, batch: Mapping[str, Any]) -> dict[str, float]:
    """The seconds of one pass in the operators of each kind, and between them."""
    steps = [node.step for node in network.graph.nodes]
    found = dict.fromkeys([step.kind for step in steps], 0.0)

    def timed(kind: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = compute(*arguments)
            found[kind] += time.perf_counter() - started
            return result

        return call

    for step in steps:
        vars(step)["compute"] = timed(step.kind, step.compute)
    try:
        started = time.perf_counter()
        network.run(batch)
        whole = time.perf_counter() - started
    finally:
        for step in steps:
            del vars(step)["compute"]
    return found | {BETWEEN: whole - sum(found.values())}


def _best(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)
