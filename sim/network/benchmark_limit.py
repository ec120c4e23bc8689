"""The least time that a pass of an integer network could take on a machine: its products, and its memory traffic.

A pass takes products + traffic + rest. The products are the multiply-accumulates of int8, with every plane of wide
weights, at the rate of one large `torch._int_mm`; the traffic is every weight and every tensor between operators, read
and written once, at the rate of a copy. The rest is arithmetic between the products, smaller products' lower rate, and
Python.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sim.network.graph import Network, Node
from sim.network.operators.attention import Context, Scores
from sim.network.operators.linear import Linear

SIDE = 2048  # of the matrices whose product gives the peak
COPIED = 1 << 26  # bytes
TRIES = 9


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
    def of(cls, network: Network, batch: Mapping[str, Tensor]) -> "Work":
        """That of a pass over a batch, in the mode "integer"."""
        macs = moved = 0

        def watch(node: Node, arguments: tuple[Any, ...], results: tuple[Any, ...]) -> None:
            nonlocal macs, moved
            moved += sum(t.nbytes for t in (*arguments, *results) if isinstance(t, Tensor))
            step = node.step
            if isinstance(step, Linear):
                x = arguments[0]
                weights = sum(layer.codes.numel() * len(layer.digits) for layer in step.packed_layers)
                macs += x.numel() // x.shape[-1] * weights
                moved += weights + 2 * x.numel()  # the activations are quantised, then read again
            elif isinstance(step, (Scores, Context)):  # (B, H, T, S) times the width of a head
                pairs = results[0] if isinstance(step, Scores) else arguments[0]
                macs += pairs.numel() * arguments[0 if isinstance(step, Scores) else 1].shape[-1] // step.heads

        with torch.no_grad():
            network.run(batch, watch)
        return cls(macs, moved)


def limit(network: Network, batch: Mapping[str, Tensor], rates: Rates) -> dict[str, float]:
    """The products' and the traffic's seconds of a pass over the batch, and what they come from."""
    work = Work.of(network, batch)
    return {
        "macs": work.macs,
        "bytes_moved": work.bytes,
        "peak_macs_per_second": rates.macs,
        "copied_bytes_per_second": rates.bytes,
        "products_seconds": work.macs / rates.macs,
        "traffic_seconds": work.bytes / rates.bytes,
    }


def _best(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)
