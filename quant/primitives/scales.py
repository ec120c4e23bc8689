"""Scales as the hardware holds them: S = m * 2**-k, m an unsigned integer of 16 bits, k in 0..47."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sim.reference import InputError
from sim.reference.requant import MAX_SHIFT, MULTIPLIER_BITS


@dataclass(frozen=True, eq=False)
class Scale:
    """m and k as int64 tensors of one shape; `value` is m * 2**-k in float64, exactly."""

    multiplier: Tensor
    shift: Tensor

    @property
    def value(self) -> Tensor:
        """The real scale, float64, exact: 16 bits of significand, an exponent in -47..15."""
        return torch.ldexp(self.multiplier.double(), -self.shift)

    @classmethod
    def nearest(cls, values: Tensor | float, name: str = "scale") -> "Scale":
        """The nearest scale to each value; m has its top bit set but where k is at its limit.

        Raises:
            InputError: a value that is not finite, not positive, or 65536 and more.
        """
        values = torch.as_tensor(values, dtype=torch.float64)
        good = torch.isfinite(values) & (values > 0)
        if not bool(good.all()):
            raise InputError(f"{name} must be positive and finite, not {float(values[~good].flatten()[0])}")
        exponent = torch.frexp(values).exponent.long()  # value in [2**(exponent-1), 2**exponent)
        shift = torch.clamp(MULTIPLIER_BITS - exponent, max=MAX_SHIFT)
        multiplier = torch.floor(torch.ldexp(values, shift) + 0.5).long()
        over = multiplier >> MULTIPLIER_BITS != 0  # rounded up to the next power of two
        multiplier, shift = torch.where(over, multiplier >> 1, multiplier), shift - over.long()
        if bool((shift < 0).any()):
            raise InputError(f"{name} must be below {1 << MULTIPLIER_BITS}, not {float(values.max())}")
        return cls(torch.clamp(multiplier, min=1), shift)

    @classmethod
    def above(cls, values: Tensor | float, name: str = "scale") -> "Scale":
        """The smallest scale that is not below each value."""
        values = torch.as_tensor(values, dtype=torch.float64)
        scale = cls.nearest(values, name)
        short = scale.value < values
        return cls.nearest(torch.ldexp((scale.multiplier + short.long()).double(), -scale.shift), name)

    def to(self, device: torch.device | str) -> "Scale":
        """The same scale on another device."""
        return Scale(self.multiplier.to(device), self.shift.to(device))
