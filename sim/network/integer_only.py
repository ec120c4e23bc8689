"""A check that a network is integer, on every operation that PyTorch dispatches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sim.network.graph import Network
from sim.network.operators import exact_gemm
from sim.reference import InputError


class IntegerOnly(TorchDispatchMode):
    """A context in which operations with floating-point tensors raise `InputError`.

    Only inside `exact_gemm` may floats carry integers. `operations` counts the operations outside of it, `products`
    those inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.products = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if exact_gemm.inside():
            self.products += 1
            return result
        self.operations += 1
        for tensor in _tensors([args, kwargs or {}, result]):
            if tensor.is_floating_point() or tensor.is_complex():
                raise InputError(f"{func}: floating point ({tensor.dtype}) in the integer network")
        return result


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, Mapping):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return []


def require_integer(network: Network, **batch: Tensor) -> IntegerOnly:
    """Run `network.codes` on a batch and check every operation; returns the counts.

    Raises `InputError` at the first operation in floating point.
    """
    network.refresh()
    with torch.no_grad(), IntegerOnly() as mode:
        network.codes(**batch)
    return mode
