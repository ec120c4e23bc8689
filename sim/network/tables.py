"""Tables on tensors: the 256-entry expansion of a lowered table, the normaliser, and the `exact` control.

The control has the same codes and the same output rounding; only the table is replaced by the correctly rounded
function.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ga_search.catalogue import resolve
from sim.network.arithmetic import half, saturate
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable
from sim.reference.arithmetic import saturate as saturate_array
from sim.reference.normaliser import POWERS

EXACT = "exact"
CHUNK = 1 << 18  # codes gathered at a time, which bounds the memory of the indices


@dataclass(frozen=True)
class ExactTable(LoweredTable):
    """A `LoweredTable` whose accumulator is the correctly rounded `function` of each code; it has no coefficients."""

    function: str = ""
    slope_frac_bits: int = 0

    @classmethod
    def like(cls, lowered: LoweredTable, function: str, slope_frac_bits: int) -> "ExactTable":
        """The control of a lowered table."""
        fields = {key: getattr(lowered, key) for key in LoweredTable.__dataclass_fields__}
        return cls(**fields, function=function, slope_frac_bits=slope_frac_bits)

    def _scaled(self, q: np.ndarray, exponent: int) -> np.ndarray:
        with np.errstate(all="ignore"):
            values = resolve(self.function).evaluate(np.asarray(q) * 2.0**-self.s)
        return np.floor(np.clip(np.nan_to_num(values) * 2.0**exponent, -(2.0**40), 2.0**40) + 0.5).astype(np.int64)

    def accumulate(self, q: np.ndarray) -> np.ndarray:
        self.segment(q)  # refuses what is no code
        return self._scaled(q, self.slope_frac_bits + self.s)

    def output(self, q: np.ndarray) -> np.ndarray:
        if self.output_shift is None:
            raise InputError("output needs a table that was lowered with an output_scale")
        self.segment(q)
        codes = self._scaled(q, self.slope_frac_bits + self.s - self.output_shift)
        return saturate_array(codes, self.out_bits, self.out_signed)


class ExactNormaliser(Normaliser):
    """A normaliser whose table is the correctly rounded function."""

    @cached_property
    def lowered(self) -> LoweredTable:  # pyright: ignore[reportIncompatibleMethodOverride]
        table = self.table
        return ExactTable.like(table.lower(self.scale), table.function, table.slope_frac_bits)


# the formats of the control, those of the tables fitted by default: function -> (domain, step, λ, μ, scales)
_FORMATS = {
    "exp": ((-8.0, 0.0), None, 7, 7, tuple(range(7))),
    "div": ((2.0, 4.0), 1, 9, 7, (5,)),
    "rsqrt": ((1.0, 4.0), 2, 8, 7, (5,)),
}


def control(function: str) -> PwlTable:
    """A table of `function` without content, for the formats of its control."""
    domain, step, slope, intercept, scales = _FORMATS.get(function, ((-4.0, 4.0), None, 6, 6, tuple(range(7))))
    return PwlTable(function, domain, scales, slope, intercept, 0, (0, 0), (0, 0), (0,), normaliser_step=step)


def lowered(function: str, table: PwlTable | str, scale: int, output_scale: int) -> LoweredTable:
    """`table` at a scale, or the control of `function` where it is "exact". Raises `InputError` where it has no place."""
    if isinstance(table, PwlTable):
        if table.function != function:
            raise InputError(f"table must be of {function}, not of {table.function!r}")
        if (table.in_bits, table.in_signed, table.out_bits, table.out_signed) != (8, True, 8, True):
            raise InputError(f"table of {function} must take and give signed 8-bit codes")
        return table.lower(scale, output_scale)
    empty = control(function)
    return ExactTable.like(empty.lower(scale, output_scale), function, empty.slope_frac_bits)


def normaliser(function: str, table: PwlTable | str, input_bits: int, input_frac_bits: int) -> Normaliser:
    """The normaliser of `table`, or of the control, for unsigned inputs."""
    kind = Normaliser if isinstance(table, PwlTable) else ExactNormaliser
    chosen = table if isinstance(table, PwlTable) else control(function)
    if chosen.function != function:
        raise InputError(f"table must be of {function}, not of {chosen.function!r}")
    top = max(s for s in range(chosen.in_bits) if chosen.domain[1] * 2**s - 1 <= (1 << (chosen.in_bits - 1)) - 1)
    return kind(chosen, top, input_bits, input_frac_bits, False)


class Gather(nn.Module):
    """A function of signed 8-bit codes by its 256 values, int8 to the type of `values`; order -128..127."""

    values: Tensor

    def __init__(self, values: Sequence[int] | np.ndarray, dtype: torch.dtype = torch.int8) -> None:
        super().__init__()
        ordered = torch.as_tensor(np.asarray(values, dtype=np.int64)).to(dtype)
        self.register_buffer("values", torch.roll(ordered, 128).contiguous(), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """The values of int8 codes, same shape."""
        flat = codes.contiguous().view(torch.uint8).reshape(-1)
        result = self.values.new_empty(flat.shape)
        for start in range(0, flat.numel(), CHUNK):
            part = slice(start, start + CHUNK)
            torch.index_select(self.values, 0, flat[part].int(), out=result[part])
        return result.reshape(codes.shape)


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
        return torch.where(v > 0, saturate(shifted, out_bits).long(), (1 << (out_bits - 1)) - 1)
