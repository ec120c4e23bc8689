"""Whether parameters have changed since they were read, at no cost in memory or time while they have not.

A snapshot shares each parameter's memory by PyTorch's copy-on-write: the first write, through whatever tensor, array or
storage, moves the parameter to memory of its own. An unmoved parameter is therefore unchanged. Where memory cannot be
shared (mapped files, arrays of other libraries, or a tensor that has views, which may hold its address already), the
snapshot is a copy, and every check compares all of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# PyTorch's own names, not documented; a version without them gets copies
_SHARES = hasattr(Tensor, "_lazy_clone") and all(
    hasattr(torch._C, name) for name in ("_storage_Use_Count", "_is_cow_tensor", "_data_address")
)


class Snapshot:
    """The values of some parameters at the time of its construction."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._copies = [_copy(parameter) for parameter in parameters]

    def holds(self, parameters: Sequence[Tensor]) -> bool:
        """Whether the parameters still have the same values."""
        if len(parameters) != len(self._copies):
            return False
        for k, (parameter, copy) in enumerate(zip(parameters, self._copies, strict=True)):
            if not _unmoved(parameter, copy):
                if not torch.equal(parameter.to(copy.device), copy):
                    return False
                self._copies[k] = _copy(parameter)  # moved, with the same values: share its memory from now on
        return True


def parameters_of(module: nn.Module) -> list[Tensor]:
    """The module's parameters, and the statistics of a batch norm, which are folded into a layer as they are.

    `nn.Module.parameters` takes several times as long.
    """
    found: list[Tensor] = []
    modules: list[nn.Module | None] = [module]
    while modules:
        part = modules.pop()
        if part is None:
            continue
        for parameter in part._parameters.values():
            if parameter is not None:
                found.append(parameter)
        if part._buffers and isinstance(part, nn.modules.batchnorm._BatchNorm):
            found += [statistic for statistic in (part.running_mean, part.running_var) if statistic is not None]
        if part._modules:
            modules += reversed(part._modules.values())
    return found


def _copy(parameter: Tensor) -> Tensor:
    """The parameter's values, in its own memory if nothing else can write to that without moving it."""
    with torch.no_grad():
        if not _SHARES:
            return parameter.detach().clone()
        storage = parameter.untyped_storage()
        if torch._C._storage_Use_Count(storage._cdata) > 2:  # pyright: ignore[reportAttributeAccessIssue]
            return parameter.detach().clone()
        try:
            return parameter.detach()._lazy_clone()  # pyright: ignore[reportAttributeAccessIssue]
        except RuntimeError:  # memory that PyTorch did not allocate
            return parameter.detach().clone()


def _unmoved(parameter: Tensor, copy: Tensor) -> bool:
    """Whether the parameter is the same part of the same shared memory."""
    return (
        _SHARES
        and torch._C._is_cow_tensor(parameter)  # pyright: ignore[reportAttributeAccessIssue]
        and torch._C._data_address(parameter) == torch._C._data_address(copy)  # pyright: ignore[reportAttributeAccessIssue]
        and parameter.shape == copy.shape
        and parameter.stride() == copy.stride()
        and parameter.dtype == copy.dtype
    )
