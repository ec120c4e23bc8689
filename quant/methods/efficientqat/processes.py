"""Several processes that train as one, as torchrun starts them: each takes its rows of every batch.

Sums over the rows are added up over the processes, and so are gradients, so that every process takes the same steps.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, distributed, nn

from sim.common.errors import InputError


def rank() -> int:
    """This process's number; 0 if it was not started by torchrun."""
    return int(os.environ.get("RANK", "0"))


def own_device(device: str) -> str:
    """The device of this process: of "cuda", that of its number on this machine."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


@contextmanager
def joined(device: str = "cpu") -> Iterator[None]:
    """The processes that torchrun started as a group; nothing if this one is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def several() -> bool:
    """Whether this process is one of a group."""
    return distributed.is_available() and distributed.is_initialized()


def own_rows(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of a batch that are this process's: every one if it is alone.

    Raises
    ------
    InputError
        If a batch has fewer rows than there are processes.
    """
    if not several():
        return dict(batch)
    count, rows = distributed.get_world_size(), len(batch["input_ids"])
    if rows < count:
        raise InputError(f"batches must have at least {count} samples, one for each process, not {rows}")
    first = distributed.get_rank()
    return {key: value[first::count] if isinstance(value, Tensor) else value for key, value in batch.items()}


def total(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes, without its gradient."""
    value = value.detach()
    if several():
        value = value.clone()
        distributed.all_reduce(value)
    return value


@contextmanager
def added_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """The gradients of the parameters are sums over the processes, from each backward pass on."""
    handles: list[Any] = []
    if several():
        handles = [p.register_post_accumulate_grad_hook(_add) for p in parameters]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(parameter: Tensor) -> None:
    assert isinstance(parameter.grad, Tensor)
    distributed.all_reduce(parameter.grad)
