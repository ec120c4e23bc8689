"""The check that a network is integer: every operation that PyTorch dispatches is looked at.

What leaves PyTorch (numpy, lists, Python numbers) cannot be followed, and is refused. What Python computes by itself,
with sizes and constants, is not seen, unless a float of it comes back as an argument.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sim.network.graph import Network
from sim.network.operators import exact_gemm
from sim.reference import InputError

ESCAPES = {Tensor.numpy, Tensor.tolist, Tensor.item, Tensor.__array__, Tensor.__float__, Tensor.__complex__}


class _NoEscape(TorchFunctionMode):
    """Refuses the methods that take values out of PyTorch."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in ESCAPES and not exact_gemm.inside():
            raise InputError(f"Tensor.{func.__name__}: takes values out of PyTorch in the integer network")
        return func(*args, **(kwargs or {}))


class IntegerOnly(TorchDispatchMode):
    """A context in which anything in floating point raises `InputError`: an operation that takes or gives tensors of
    it, a Python float as an argument, and a method that takes values out of PyTorch.

    Only inside `exact_gemm` may floats carry integers. `operations` counts the operations outside of it, `products`
    those inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.products = 0
        self._escape = _NoEscape()

    def __enter__(self) -> Self:
        self._escape.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._escape.__exit__(*error)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if exact_gemm.inside():
            self.products += 1
            return result
        self.operations += 1
        for value in _leaves([args, kwargs or {}, result]):
            if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
                raise InputError(f"{func}: floating point ({value.dtype}) in the integer network")
            if isinstance(value, float):
                raise InputError(f"{func}: floating point (the argument {value!r}) in the integer network")
        return result


def _leaves(value: Any) -> list[Any]:
    """Tensors and numbers, however they are nested."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _leaves(item)]
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [value]


def require_integer(network: Network, **batch: Any) -> IntegerOnly:
    """Run `network.codes` on a batch and check every operation behind the boundary; returns the counts.

    Raises `InputError` at the first operation in floating point.
    """
    network.refresh()
    batch = network.input_codes(batch)
    with torch.no_grad(), IntegerOnly() as mode:
        network.codes(**batch)
    return mode
