"""The specification's integer arithmetic on tensors, without floating point.

Large tensors are processed in place, in blocks of rows that stay in the cache, which is several times faster than
operation by operation. Functions whose name ends in an underscore change their first argument and return it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from sim.reference.arithmetic import code_range

BLOCK = 1 << 15  # values; PyTorch spreads no operation on fewer over its threads, so that blocks go to threads instead


def code_type(bits: int) -> torch.dtype:
    """The smallest signed type that holds signed codes of `bits`."""
    return torch.int8 if bits <= 8 else torch.int16 if bits <= 16 else torch.int32


def half(shift: Tensor) -> Tensor:
    """Half of 2**shift, 0 for a shift of 0."""
    return torch.ones_like(shift) << shift >> 1


def round_half_up_(values: Tensor, shift: Tensor | int, rounding: Tensor | int | None = None) -> Tensor:
    """floor(values / 2**shift + 1/2) for shifts >= 0. `rounding` is `half(shift)`, if it is at hand."""
    if rounding is None:
        rounding = (1 << shift) >> 1 if isinstance(shift, int) else half(shift)
    return values.add_(rounding).bitwise_right_shift_(shift)


def saturate_(values: Tensor, bits: int) -> Tensor:
    """Clamp to signed codes of `bits`; the type stays."""
    return values.clamp_(*code_range(bits, True))


def requantise_(values: Tensor, multiplier: Tensor, shift: Tensor, rounding: Tensor, out_bits: int) -> Tensor:
    """`sim.reference.requant.requantise` for signed codes without a zero point, on int64 that fit 62 bits after it.

    `rounding` is `half(shift)`, made once.
    """
    return saturate_(round_half_up_(values.mul_(multiplier), shift, rounding), out_bits)


def blockwise(function: Callable[..., Tensor], dtype: torch.dtype, *tensors: Tensor) -> Tensor:
    """`function` of the same block of rows of each tensor, put together as `dtype`, in the shape of the first.

    A row is a tensor's last axis; the tensors agree in all axes before it. `function` treats each row by itself, and
    may not change its arguments.
    """
    first = tensors[0]
    result = torch.empty(first.shape, dtype=dtype, device=first.device)
    if not first.numel():
        return result
    rows = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
    whole = result.view(-1, first.shape[-1])
    step = whole.shape[0] if first.is_cuda else max(1, BLOCK // whole.shape[1])

    def block(number: int) -> None:
        part = slice(number * step, (number + 1) * step)
        whole[part] = function(*(tensor[part] for tensor in rows))

    spread(block, -(-whole.shape[0] // step))
    return result


def spread(work: Callable[[int], None], count: int) -> None:
    """`work` for 0..count-1, over as many threads as PyTorch has; in order on this one while PyTorch is traced.

    PyTorch waits for all threads after each operation; here they are waited for once.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1 or _get_current_dispatch_mode() is not None:  # a mode sees its own thread only
        for number in range(count):
            work(number)
        return
    inference = torch.is_inference_mode_enabled()

    def share(first: int) -> None:
        with torch.inference_mode(inference):
            for number in range(first, count, threads):
                work(number)

    for _ in _pool(threads).map(share, range(threads)):
        pass


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    # each thread computes by itself: its operations are not spread over threads once more
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
