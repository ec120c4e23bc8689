"""Integer matrix products, exact: the one module in which floating-point numbers may carry integers.

A product of int8 codes uses the first of these that is exact:

1. `torch._int_mm`, if the device's implementation passes a self-test against int64 (once per device and process);
2. float32, if 128 * sum|w| <= 2**24 for every output, so that each partial sum is an integer that float32 holds;
3. float64 (2**53).

Between two activations, whose values are not known, the bound is 128 * 128 * K, and K is split to keep to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from random import Random

import torch
from torch import Tensor

FLOAT32_INTEGERS = 1 << 24  # up to here float32 holds every integer
CODE = 128  # the largest magnitude of a signed 8-bit code
WORTH_A_CALL = 1 << 17  # products of numbers in a pair of matrices
LARGEST_INNER = 1 << 16  # 2**16 products of two codes stay below 2**31

_inside = 0


def inside() -> bool:
    """Whether a product of this module is being computed: only then may a trace see floating point."""
    return _inside > 0


class _Marked:
    """A context in which what runs is a product of this module."""

    def __enter__(self) -> None:
        global _inside
        _inside += 1

    def __exit__(self, *error: object) -> None:
        global _inside
        _inside -= 1


_marked = _Marked()


@contextmanager
def _floats_allowed(device: str) -> Iterator[None]:
    """The same with floating point in its own type: autocast would round integers to bfloat16."""
    with _marked:
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                yield
        else:
            yield


class Weight:
    """The right-hand side of a linear layer, int8 (N, K), laid out once for the route that its device and bound allow.

    `route` is "int_mm", "float32" or "float64".
    """

    def __init__(self, codes: Tensor, route: str | None = None) -> None:
        if codes.dtype != torch.int8 or codes.ndim != 2 or codes.shape[1] > LARGEST_INNER:
            raise ValueError(f"codes must be int8 (N, K), K <= {LARGEST_INNER}, not {codes.dtype} {list(codes.shape)}")
        self.route = route or _route(codes)
        self.outputs = codes.shape[0]
        with _floats_allowed(codes.device.type):
            columns = codes.contiguous().t()
            self.columns = columns if self.route == "int_mm" else columns.to(getattr(torch, self.route))

    def product(self, activations: Tensor, outputs: slice | None = None) -> Tensor:
        """`activations` int8 (..., K) times the transposed weight, or some of its outputs: int32 (..., N), exact."""
        flat = activations if activations.ndim == 2 else activations.reshape(-1, activations.shape[-1])
        columns = self.columns if outputs is None else self.columns[:, outputs]
        if self.route == "int_mm":
            with _marked:
                result = _int_mm(flat, columns)
        else:
            with _floats_allowed(flat.device.type):
                result = (flat.to(columns.dtype) @ columns).to(torch.int32)
        return result if flat is activations else result.reshape(*activations.shape[:-1], columns.shape[1])


def batched(a: Tensor, b: Tensor) -> Tensor:
    """int8 (..., M, K) times int8 (..., K, N): int32 (..., M, N), exact, K up to 2**16. int16 gives int64."""
    if b.shape[-2] > LARGEST_INNER:
        raise ValueError(f"K must be at most {LARGEST_INNER}, not {b.shape[-2]}")
    if a.dtype == torch.int16:  # 2**15 * 2**7 * K is far below float64's 2**53
        with _floats_allowed(a.device.type):
            return (a.double() @ b.double()).to(torch.int64)
    if _worth_a_call(a, b) and _int_mm_is_exact("cpu"):
        return _one_by_one(a, b)
    step = FLOAT32_INTEGERS // CODE**2
    if b.shape[-2] <= step:
        with _floats_allowed(a.device.type):
            return (a.float() @ b.float()).to(torch.int32)
    parts = zip(a.split(step, -1), b.split(step, -2), strict=True)
    return sum(batched(left, right) for left, right in parts)  # pyright: ignore[reportReturnType]


def _worth_a_call(a: Tensor, b: Tensor) -> bool:
    """Whether `_one_by_one` is faster than floating point: for large matrices on the CPU."""
    if a.device.type != "cpu" or a.shape[-2] * a.shape[-1] * b.shape[-1] < WORTH_A_CALL:
        return False
    rows_or_columns = 1 in a.stride()[-2:] and 1 in b.stride()[-2:]
    return rows_or_columns and a.shape[:-2] == b.shape[:-2] and a.shape[-1] > 1


def _one_by_one(a: Tensor, b: Tensor) -> Tensor:
    """int8 (..., M, K) times int8 (..., K, N) by `torch._int_mm` of each pair of matrices."""
    result = torch.empty((*a.shape[:-1], b.shape[-1]), dtype=torch.int32)
    batch = a.shape[:-2]
    with _marked:
        for index in product(*map(range, batch)):
            torch._int_mm(a[index], b[index], out=result[index])  # pyright: ignore[reportPrivateImportUsage]
    return result


def _route(codes: Tensor) -> str:
    if _int_mm_is_exact(codes.device.type):
        return "int_mm"
    bound = CODE * int(codes.int().abs().sum(1).max()) if codes.numel() else 0
    return "float32" if bound <= FLOAT32_INTEGERS else "float64"


def _int_mm(a: Tensor, columns: Tensor) -> Tensor:
    """`torch._int_mm`, padded to shapes that it takes.

    On CUDA those are more than 16 rows, K and N multiples of 8; on the CPU K of at least 2, since with 1 it reads
    outside its operands.
    """
    if not a.is_cuda:
        if a.shape[1] == 1:
            a, columns = torch.nn.functional.pad(a, (0, 1)), torch.nn.functional.pad(columns, (0, 0, 0, 1))
        return torch._int_mm(a.contiguous(), columns)  # pyright: ignore[reportPrivateImportUsage]
    rows, inner, outer = a.shape[0], a.shape[1], columns.shape[1]
    a = torch.nn.functional.pad(a, (0, -inner % 8, 0, max(17 - rows, 0)))
    columns = torch.nn.functional.pad(columns, (0, -outer % 8, 0, -inner % 8))
    return torch._int_mm(a, columns)[:rows, :outer]  # pyright: ignore[reportPrivateImportUsage]


@cache
def _int_mm_is_exact(device: str) -> bool:
    """The self-test: random and extreme codes against int64, in shapes with their own code paths and random ones."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 1, 1), (2, 1, 3), (9, 1, 64), (3, 64, 5), (33, 384, 48), (17, 1537, 9)]
    random = Random(0)
    shapes += [(random.randint(1, 70), random.randint(1, 70), random.randint(1, 70)) for _ in range(12)]
    for rows, inner, outer in shapes:
        for kind in ("random", "extreme"):
            sides = []
            for shape in ((rows, inner), (inner, outer)):
                if kind == "random":
                    side = torch.randint(-128, 128, shape, generator=generator)
                else:  # instructions that add pairs of products in 16 bits saturate on these
                    side = torch.where(torch.randint(10, shape, generator=generator) > 0, -128, 127)
                sides.append(side)
            a, b = (side.to(torch.int8).to(device) for side in sides)
            try:
                with _floats_allowed(device):
                    got = _int_mm(a, b).cpu().long()
            except RuntimeError:  # this build or device has none
                return False
            if not torch.equal(got, sides[0] @ sides[1]):
                return False
            if device == "cpu" and inner > 1:  # parts of larger tensors, as the heads of attention are
                wide, tall = torch.cat([a, a], 1)[:, :inner], torch.cat([b.t(), b.t()], 1)[:, :inner].t()
                got = torch._int_mm(wide, tall)  # pyright: ignore[reportPrivateImportUsage]
                if not torch.equal(got.long(), sides[0] @ sides[1]):
                    return False
    return True
