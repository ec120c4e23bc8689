"""Tables on tensors: the 256-entry expansion of a lowered table, the normaliser, and the `exact` control.

The control has the same codes and the same output rounding; only the table is replaced by the correctly rounded
function.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ga_search import NETWORK_DOMAINS, resolve
from sim.network.operators import kernels
from sim.network.operators.arithmetic import BLOCK, half, saturate_, spread
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable
from sim.reference.arithmetic import saturate as saturate_array
from sim.reference.normaliser import POWERS

EXACT = "exact"


@dataclass(frozen=True)
class ValueTable(LoweredTable):
    """A table that is the list of its `values` for every code, ascending: outputs if there is an output shift,
    else accumulators. Its thresholds and coefficients are not used."""

    values: tuple[int, ...] = ()

    def accumulate(self, q: np.ndarray) -> np.ndarray:
        assert self.output_shift is None
        return self._look_up(q)

    def output(self, q: np.ndarray) -> np.ndarray:
        assert self.output_shift is not None
        return self._look_up(q)

    def _look_up(self, q: np.ndarray) -> np.ndarray:
        self.segment(q)  # raises `InputError` for a value that is not a code
        return np.array(self.values, dtype=np.int64)[np.asarray(q) - self.codes()[0]]


def exact(function: str, lowered: LoweredTable, slope_frac_bits: int) -> ValueTable:
    """The control of a lowered table with that λ: `function`, correctly rounded (half up) to the same units."""
    exponent = slope_frac_bits + lowered.s - (lowered.output_shift or 0)
    with np.errstate(all="ignore"):
        values = np.nan_to_num(resolve(function).evaluate(lowered.codes() * 2.0**-lowered.s) * 2.0**exponent)
    codes = np.floor(np.clip(values, -(2.0**40), 2.0**40) + 0.5).astype(np.int64)
    if lowered.output_shift is None:
        codes = np.clip(codes, -(1 << (lowered.acc_bits - 1)), (1 << (lowered.acc_bits - 1)) - 1)
    else:
        codes = saturate_array(codes, lowered.out_bits, lowered.out_signed)
    fields = {key: getattr(lowered, key) for key in LoweredTable.__dataclass_fields__}
    return ValueTable(**fields, values=tuple(codes.tolist()))


@dataclass(frozen=True)
class ValueNormaliser(Normaliser):
    """A normaliser whose table is the list of its accumulators for every code; `table` gives the formats."""

    values: tuple[int, ...] = ()

    @cached_property
    def lowered(self) -> LoweredTable:  # pyright: ignore[reportIncompatibleVariableOverride]
        plain = self.table.lower(self.scale)
        if not self.values:
            return exact(self.table.function, plain, self.table.slope_frac_bits)
        fields = {key: getattr(plain, key) for key in LoweredTable.__dataclass_fields__}
        return ValueTable(**fields, values=self.values)


# the formats of the control, those of the tables fitted by default: function -> (domain, step, λ, μ, scales)
_FORMATS = {
    "exp": ((-8.0, 0.0), None, 7, 7, tuple(range(7))),
    "div": (NETWORK_DOMAINS["div"], 1, 9, 7, (5,)),
    "rsqrt": (NETWORK_DOMAINS["rsqrt"], 2, 8, 7, (5,)),
}


def control(function: str, bits: int = 8) -> PwlTable:
    """A table of `function` without content, for the formats of its control.

    `bits` are those of its coefficients, for which λ and μ are chosen, and of a normaliser's codes.
    """
    domain, step, slope, intercept, scales = _FORMATS.get(function, ((-4.0, 4.0), None, 6, 6, tuple(range(7))))
    widths: dict[str, Any] = {"in_bits": 8 if step is None else bits, "coef_bits": bits}
    slope, intercept = slope + bits - 8, intercept + bits - 8
    return PwlTable(function, domain, scales, slope, intercept, 0, (0, 0), (0, 0), (0,), step, **widths)


def lowered(
    function: str, table: PwlTable | str, scale: int, output_scale: int, out_bits: int = 8, bits: int = 8
) -> LoweredTable:
    """`table` at a scale with signed codes of `out_bits`, or the control of `function` if it is "exact".

    `bits` are the control's, which decide how fine its outputs can be.

    Raises InputError if the table cannot be lowered to that scale.
    """
    chosen = _of(function, table, bits)
    result = replace(chosen.lower(scale, output_scale), out_bits=out_bits)
    return exact(function, result, chosen.slope_frac_bits) if table == EXACT else result


def slope_frac_bits(function: str, table: PwlTable | str, bits: int = 8) -> int:
    """λ of the table, or of the control of `bits`."""
    return _of(function, table, bits).slope_frac_bits


def normaliser(
    function: str, table: PwlTable | str, input_bits: int, input_frac_bits: int, bits: int = 8
) -> Normaliser:
    """The normaliser of `table`, or of the control of `bits`, for unsigned inputs."""
    chosen = _of(function, table, bits)
    top = max(s for s in range(chosen.in_bits) if chosen.domain[1] * 2**s - 1 <= (1 << (chosen.in_bits - 1)) - 1)
    kind = ValueNormaliser if table == EXACT else Normaliser
    return kind(chosen, top, input_bits, input_frac_bits, False)


def _of(function: str, table: PwlTable | str, bits: int = 8) -> PwlTable:
    """The table, or the control's formats."""
    require_table(function, table)
    return table if isinstance(table, PwlTable) else control(function, bits)


def require_table(function: str, table: PwlTable | str) -> None:
    """Raise `InputError` unless `table` is "exact" or one of `function` on signed 8-bit codes; of 1/x, 16 bits too."""
    if not isinstance(table, PwlTable):
        return
    if table.function != function:
        raise InputError(f"the table must be of {function}, not of {table.function!r}")
    widths = (8, 16) if function == "div" else (8,)
    if (table.in_signed, table.out_signed) != (True, True) or {table.in_bits, table.out_bits} - {*widths}:
        raise InputError(f"the table of {function} must take and give signed {' or '.join(map(str, widths))}-bit codes")


class Gather(nn.Module):
    """Functions of signed 8-bit codes by their 256 values, in the order -128..127: int8 to `dtype`.

    One function, or several with the index of each channel's (the last axis) in `channels` (C,).
    """

    values: Tensor
    offsets: Tensor | None

    def __init__(
        self, values: Sequence[np.ndarray], dtype: torch.dtype = torch.int8, channels: Tensor | None = None
    ) -> None:
        super().__init__()
        ordered = torch.as_tensor(np.stack(values)).to(dtype)
        self.register_buffer("values", torch.roll(ordered, 128, 1).flatten(), persistent=False)
        offsets = None if channels is None or len(values) == 1 else channels.int() * 256
        self.register_buffer("offsets", offsets, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """The values of int8 codes, same shape."""
        offsets = self.offsets
        if kernels.usable(codes):
            return kernels.gather(codes, self.values, offsets)
        unsigned = codes.contiguous().view(torch.uint8)
        if offsets is None:
            return self._gather(unsigned.reshape(-1), BLOCK, lambda part: part.int()).reshape(codes.shape)
        rows = unsigned.reshape(-1, codes.shape[-1])
        step = max(1, BLOCK // rows.shape[1])
        return self._gather(rows, step, lambda part: part + offsets).reshape(codes.shape)

    def _gather(self, codes: Tensor, step: int, index: Callable[[Tensor], Tensor]) -> Tensor:
        """In chunks along the first axis, so that the indices stay in the cache."""
        result = self.values.new_empty(codes.shape)

        def chunk(number: int) -> None:
            part = slice(number * step, (number + 1) * step)
            torch.index_select(self.values, 0, index(codes[part]).reshape(-1), out=result[part].view(-1))

        spread(chunk, -(-codes.shape[0] // step))
        return result


class TensorNormaliser(nn.Module):
    """`sim.reference.Normaliser` for unsigned inputs of up to 62 bits, on int64 tensors."""

    acc: Tensor

    def __init__(self, specification: Normaliser) -> None:
        super().__init__()
        assert not specification.input_signed
        self.specification = specification
        table = specification.table
        self.step = table.normaliser_step or 1
        self.bottom = math.frexp(table.domain[0])[1] - 1
        self.numerator, self.denominator = POWERS[table.function]
        codes = np.arange(specification.top_code + 1)
        self.register_buffer("acc", torch.as_tensor(specification.lowered.accumulate(codes)), persistent=False)
        self.largest = (1 << (specification.lowered.acc_bits - 1)) - 1

    def evaluate(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """(acc, exponent), int64 of the shape of `v`."""
        spec = self.specification
        positive = v.clamp(min=1)
        msb, rest = torch.zeros_like(v), positive
        for bits in (32, 16, 8, 4, 2, 1):
            high = rest >> bits
            taken = high > 0
            msb += taken * bits
            rest = torch.where(taken, high, rest)
        k = (msb - (spec.input_frac_bits + self.bottom)) // self.step * self.step
        left = spec.scale - spec.input_frac_bits - k
        right = (-left).clamp(min=0)
        code = (((positive << left.clamp(min=0)) + half(right)) >> right).clamp(max=spec.top_code)
        acc = torch.where(v > 0, self.acc[code], self.largest)
        return acc, k * self.numerator // self.denominator

    def output(self, v: Tensor, output_scale: int, out_bits: int) -> Tensor:
        """Signed codes of 1/v or 1/sqrt(v), int64; v <= 0 gives the largest."""
        spec = self.specification
        acc, exponent = self.evaluate(v)
        left = exponent + (output_scale - spec.table.slope_frac_bits - spec.scale)
        right = (-left).clamp(min=0, max=62)
        shifted = ((acc << left.clamp(min=0, max=62)) + half(right)) >> right
        return torch.where(v > 0, saturate_(shifted, out_bits), (1 << (out_bits - 1)) - 1)
