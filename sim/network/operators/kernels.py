"""The integer steps between the products, each in one pass over memory: the extra `fast`, compiled by numba.

`usable` says whether the kernels may run: on the CPU, with numba installed, and while no PyTorch mode watches the
operations that a kernel would hide. Otherwise an operator takes its PyTorch code, which gives the same integers; only
`requantise` chooses by itself. Kernels take and give tensors, and go over rows in blocks, on as many threads as PyTorch
has.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from sim.network.operators.arithmetic import blockwise, code_type, half, requantise_, spread
from sim.network.operators.exact_gemm import batched
from sim.network.operators.planes import Planes
from sim.reference import Normaliser
from sim.reference.arithmetic import code_range
from sim.reference.norm import NORMAL_BITS, Norm
from sim.reference.normaliser import POWERS
from sim.reference.residual import STREAM_BITS
from sim.reference.softmax import Softmax
from sim.reference.token import RATIO_BITS

BLOCK = 1 << 18  # values in a block: enough to be worth a thread, and few enough to stay in its cache
_EMPTY = np.empty(0, dtype=np.int64)
_enabled = True


@contextmanager
def pytorch_only() -> Iterator[None]:
    """Within the context every operator takes its PyTorch code."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def usable(tensor: Tensor) -> bool:
    """Whether a kernel may take this tensor."""
    return _enabled and tensor.device.type == "cpu" and _get_current_dispatch_mode() is None and _numba() is not None


@cache
def _numba() -> Any:
    """The compiled kernels, or None without numba."""
    try:
        from sim.network.operators import compiled
    except ImportError:
        return None
    return compiled


def over_rows(work: Callable[[slice], None], rows: int, width: int) -> None:
    """`work` on blocks of the rows, of `width` values each: blocks of one height, as many for each thread."""
    count = -(-rows * max(width, 1) // BLOCK)
    if count <= 1:
        work(slice(None))
        return
    count += -count % torch.get_num_threads()
    step = -(-rows // count)
    spread(lambda number: work(slice(number * step, (number + 1) * step)), -(-rows // step))


def _rows(tensor: Tensor) -> np.ndarray:
    """The rows of a tensor, (R, N); numpy cuts them in a tenth of PyTorch's time."""
    array = tensor.contiguous().numpy()
    return array.reshape(-1, array.shape[-1])


# ---- from accumulators to codes


@dataclass(frozen=True, eq=False)
class Requantiser:
    """The constants of saturate(round((A * magnitude + bias) * multiplier * 2**-shift)), signed codes of `out_bits`.

    `multiplier`, `shift` and `bias` are int64, (N,) or (). Every sum times its multiplier must fit 62 bits.
    """

    multiplier: Tensor
    shift: Tensor
    out_bits: int
    bias: Tensor | None = None

    def __call__(self, psum: Tensor, magnitude: Tensor | None = None) -> Tensor:
        """The codes of the accumulators (..., N), int32 or int64; `magnitude` is int64 (..., 1) or 1."""
        if not usable(psum):
            return self._by_pytorch(psum, magnitude)
        result = torch.empty(psum.shape, dtype=code_type(self.out_bits))
        flat, out, rows = _rows(psum), _rows(result), _magnitudes(magnitude)
        n = out.shape[1]

        def work(part: slice) -> None:
            self.into(out[part], flat[part], rows[part], (0, n, max(n, 1), 1))

        over_rows(work, *flat.shape)
        return result

    def into(
        self, out: np.ndarray, psum: np.ndarray, magnitude: np.ndarray, layout: tuple[int, int, int, int],
        narrow: bool = False,
    ) -> None:  # fmt: skip
        """Write the codes of the rows of `psum` to outputs of `out` (R, N).

        `layout` is that of `sim.network.operators.compiled.requantise`; no magnitudes are 1. `narrow` says that the sum
        of planes is proved to fit 32 bits.
        """
        row = np.empty(layout[2], dtype=np.int32 if narrow else np.int64)
        _numba().requantise(psum, magnitude, self._columns(out.shape[1]), self._limits, layout, row, out)

    @cached_property
    def _limits(self) -> tuple[int, int]:
        return code_range(self.out_bits, True)

    @cached_property
    def _found(self) -> dict[int, tuple[np.ndarray, ...]]:
        return {}

    def _columns(self, n: int) -> tuple[np.ndarray, ...]:
        """Bias, multiplier and shift for N columns."""
        if n not in self._found:
            constants = self.bias, self.multiplier, self.shift
            self._found[n] = tuple(_EMPTY if t is None else t.expand(n).contiguous().numpy() for t in constants)
        return self._found[n]

    def _by_pytorch(self, psum: Tensor, magnitude: Tensor | None) -> Tensor:
        rounding = half(self.shift)

        def rows(psum: Tensor, magnitude: Tensor | None = None) -> Tensor:
            total = psum.to(torch.int64, copy=True)
            if magnitude is not None:
                total.mul_(magnitude)
            if self.bias is not None:
                total.add_(self.bias)
            return requantise_(total, self.multiplier, self.shift, rounding, self.out_bits)

        return blockwise(rows, code_type(self.out_bits), psum, *(() if magnitude is None else (magnitude,)))


def _magnitudes(magnitude: Tensor | None) -> np.ndarray:
    return _EMPTY if magnitude is None else magnitude.contiguous().numpy().reshape(-1)


def linear(
    activations: Tensor, magnitude: Tensor | None, planes: Planes, to_codes: Requantiser, narrow: bool
) -> Tensor:
    """The codes (..., N) of int8 (..., K) times a weight: the product and its requantiser, in blocks.

    `magnitude` is int64 (..., 1) or 1; `narrow` is that of `Requantiser.into`.
    """
    n, strip, count = planes.outputs, planes.strip, planes.count
    result = torch.empty((*activations.shape[:-1], n), dtype=code_type(to_codes.out_bits))
    flat = activations if activations.ndim == 2 else activations.reshape(-1, activations.shape[-1])
    out, rows, height = _rows(result), _magnitudes(magnitude), flat.shape[0]
    across = min(n, strip) * count
    wide = max(1, BLOCK // max(height * across, 1)) * strip  # the outputs of a product: few rows take several strips

    def work(part: slice) -> None:
        block = flat if part == slice(None) else flat[part]
        for first in range(0, n, wide):
            last = min(first + wide, n)
            whole = last - first == n
            psum = planes.weight.product(block, None if whole else slice(first * count, last * count))
            to_codes.into(out[part], psum.numpy(), rows[part], (first, last - first, strip, count), narrow)

    over_rows(work, height, across)
    return result


def heads(
    left: Tensor, right: Tensor, multiplier: Tensor, shift: Tensor, out_bits: int, side_by_side: bool = False
) -> Tensor:
    """The codes of int8 (B, H, M, K) times int8 (B, H, K, N): (B, H, M, N), or (B, M, H, N) if `side_by_side`.

    `multiplier` and `shift` are int64 (H, N), or (H, 1) for a scale for each head.
    """
    batch, count, m, _ = left.shape
    n = right.shape[3]
    result = torch.empty((batch, m, count, n) if side_by_side else (batch, count, m, n), dtype=code_type(out_bits))
    out, constants, limits = result.numpy(), (multiplier.numpy(), shift.numpy()), code_range(out_bits, True)
    height = count * m * n

    def work(part: slice) -> None:
        psum = batched(left, right) if part == slice(None) else batched(left[part], right[part])
        _numba().requantise_heads(psum.numpy(), constants, limits, side_by_side, out[part])

    over_rows(work, batch, height)
    return result


# ---- others


def quantise_tokens(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """`sim.reference.token.quantise_tokens` of int16 (..., K), `bits` <= 8: int8 codes, int64 magnitudes (..., 1)."""
    codes = torch.empty(x.shape, dtype=torch.int8)
    magnitude = torch.empty((*x.shape[:-1], 1), dtype=torch.int64)
    flat, out, found = _rows(x), _rows(codes), _magnitudes(magnitude)
    top = code_range(bits, True)[1]

    def work(part: slice) -> None:
        _numba().quantise_tokens(flat[part], top, RATIO_BITS, out[part], found[part])

    over_rows(work, *flat.shape)
    return codes, magnitude


def add_scaled(a: Tensor, b: Tensor, multipliers: tuple[int, int], shift: int) -> Tensor:
    """`sim.reference.residual.add_scaled` of int16 tensors that broadcast."""
    if a.shape != b.shape:
        a, b = torch.broadcast_tensors(a, b)
    result = torch.empty(a.shape, dtype=code_type(STREAM_BITS))
    first, second, out = _rows(a), _rows(b), _rows(result)
    limits = code_range(STREAM_BITS, True)

    def work(part: slice) -> None:
        _numba().add_scaled(first[part], second[part], multipliers, shift, limits, out[part])

    over_rows(work, *out.shape)
    return result


def multiply(a: Tensor, b: Tensor, multiplier: int, shift: int, out_bits: int) -> Tensor:
    """`sim.reference.product.Product` of two tensors of one shape."""
    result = torch.empty(a.shape, dtype=code_type(out_bits))
    first, second, out, limits = _rows(a), _rows(b), _rows(result), code_range(out_bits, True)

    def work(part: slice) -> None:
        _numba().multiply(first[part], second[part], multiplier, shift, limits, out[part])

    over_rows(work, *out.shape)
    return result


def scale_pairs(values: Tensor, rows: Tensor | None, columns: Tensor, shift: int, out_bits: int) -> Tensor:
    """saturate(round(values * rows * columns * 2**-shift)) of (..., R, N), int64 (..., R, 1) or 1, and (..., 1, N)."""
    result = torch.empty(values.shape, dtype=code_type(out_bits))
    height, n = values.shape[-2:]
    given, out = (t.contiguous().numpy().reshape(-1, height, n) for t in (values, result))
    m = np.empty((0, 0), dtype=np.int64) if rows is None else rows.contiguous().numpy().reshape(-1, height)
    by, limits = columns.contiguous().numpy().reshape(-1, n), code_range(out_bits, True)

    def work(part: slice) -> None:
        _numba().scale_pairs(given[part], m[part], by[part], shift, limits, out[part])

    over_rows(work, given.shape[0], height * n)
    return result


def turn(x: Tensor, cosines: Tensor, sines: Tensor, heads: int, shift: int) -> Tensor:
    """`sim.reference.rope.Rope` of int16 (B, T, H * d) by (B or 1, T, d / 2) in units of 2**-shift."""
    result = torch.empty(x.shape, dtype=code_type(STREAM_BITS))
    given, out = (t.contiguous().numpy().reshape(-1, heads, x.shape[-1] // heads) for t in (x, result))
    angles = [_rows(t.expand(*x.shape[:-1], t.shape[-1])) for t in (cosines, sines)]

    def work(part: slice) -> None:
        limits = code_range(STREAM_BITS, True)
        _numba().turn(given[part], angles[0][part], angles[1][part], shift, limits, out[part])

    over_rows(work, given.shape[0], x.shape[-1])
    return result


def gather(codes: Tensor, values: Tensor, offsets: Tensor | None) -> Tensor:
    """values[codes as uint8 + offsets] of int8 codes (..., C); `offsets` is int32 (C,)."""
    result = torch.empty(codes.shape, dtype=values.dtype)
    unsigned, out = (
        _rows(codes if codes.ndim else codes[None]).view(np.uint8),
        _rows(result if codes.ndim else result[None]),
    )
    columns, every = _EMPTY if offsets is None else offsets.numpy(), values.numpy()

    def work(part: slice) -> None:
        _numba().gather(unsigned[part], columns, every, out[part])

    over_rows(work, *out.shape)
    return result


# ---- rows


class NormaliserConstants(NamedTuple):
    """`sim.reference.Normaliser` in numbers: the accumulator of every code, and what finds the code.

    With m the position of v's highest bit, k = (m - bottom) // step * step and code = v * 2**(left - k).
    """

    acc: np.ndarray
    step: int
    bottom: int
    left: int
    top_code: int
    numerator: int
    denominator: int
    largest: int

    @classmethod
    def of(cls, spec: Normaliser) -> "NormaliserConstants":
        """The constants of a specification."""
        acc = spec.lowered.accumulate(np.arange(spec.top_code + 1))
        bottom = spec.input_frac_bits + math.frexp(spec.table.domain[0])[1] - 1
        largest = (1 << (spec.lowered.acc_bits - 1)) - 1
        step, left = spec.table.normaliser_step or 1, spec.scale - spec.input_frac_bits
        return cls(acc, step, bottom, left, spec.top_code, *POWERS[spec.table.function], largest)


class SoftmaxConstants(NamedTuple):
    """`sim.reference.softmax.Softmax` in numbers: the power of each distance from `low` to 0, and the normaliser's."""

    powers: np.ndarray
    low: int
    div: NormaliserConstants
    output_left: int
    inverse_top: int
    shift: int
    top: int

    @classmethod
    def of(cls, spec: Softmax) -> "SoftmaxConstants":
        """The constants of a specification."""
        low = code_range(spec.exp.in_bits, True)[0]
        return cls(
            powers=spec.exp.output(np.arange(low, 1)).clip(min=0).astype(np.int32),
            low=low,
            div=NormaliserConstants.of(spec.div),
            output_left=spec.inverse_scale - spec.div.table.slope_frac_bits - spec.div.scale,
            inverse_top=code_range(spec.inverse_bits, True)[1],
            shift=spec.shift,
            top=code_range(spec.probability_bits, True)[1],
        )


def softmax(scores: Tensor, valid: Tensor | None, constants: SoftmaxConstants) -> Tensor:
    """`sim.reference.softmax` of int16 scores (..., T); `valid` is None or booleans that broadcast to them."""
    length = scores.shape[-1]
    result = torch.empty(scores.shape, dtype=code_type(constants.top.bit_length() + 1))
    flat, out = _rows(scores), _rows(result)
    mask, which = np.empty((0, length), dtype=np.bool_), np.zeros(len(flat), dtype=np.int64)
    if valid is not None:
        own = valid.expand(*valid.shape[:-1], length)
        mask = _rows(own)
        numbers = torch.arange(len(mask)).view(own.shape[:-1])
        which = numbers.expand(scores.shape[:-1]).reshape(-1).numpy()

    def work(part: slice) -> None:
        row = np.empty(length, dtype=np.int32)
        _numba().softmax(flat[part], mask, which[part], constants, row, out[part])

    over_rows(work, *out.shape)
    return result


class NormConstants(NamedTuple):
    """`sim.reference.norm.Norm` in numbers."""

    gain: np.ndarray
    bias: np.ndarray
    shift: int
    normal_top: int
    epsilon: int
    centring: bool
    rsqrt: NormaliserConstants
    right_shift: int

    @classmethod
    def of(cls, spec: Norm) -> "NormConstants":
        """The constants of a specification."""
        gain, bias = (np.array(values, dtype=np.int64) for values in (spec.gain, spec.bias))
        top, rsqrt = (1 << (NORMAL_BITS - 1)) - 1, NormaliserConstants.of(spec.rsqrt)
        return cls(gain, bias, spec.shift, top, spec.epsilon, spec.centring, rsqrt, spec.right_shift)


def norm(x: Tensor, constants: NormConstants, out_bits: int) -> Tensor:
    """`sim.reference.norm` of int16 (..., N), codes of `out_bits`."""
    result = torch.empty(x.shape, dtype=code_type(out_bits))
    flat, out, limits = _rows(x), _rows(result), code_range(out_bits, True)

    def work(part: slice) -> None:
        _numba().norm(flat[part], constants, limits, out[part])

    over_rows(work, *out.shape)
    return result
