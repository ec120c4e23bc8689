"""What every operation of a network shares: three ways to compute it, and the grids of its inputs and its output.

"real" computes in floating point, as the model it came from; calibration watches it. "integer" takes codes and gives
codes, and equals `sim.reference`. "fake" takes and gives real numbers, computes in integers between, and lets
gradients of the real operation through: a network of fake operations has the integer network's values, exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sim.network.operators.arithmetic import code_type
from sim.reference import InputError
from sim.reference.arithmetic import code_range

MODES = ("real", "integer", "fake")


@dataclass(frozen=True, eq=False)
class Grid:
    """Signed codes of `bits`, each standing for code * scale; `scale` is float64 and broadcasts to the values."""

    bits: int
    scale: Tensor

    @classmethod
    def power(cls, bits: int, exponent: int) -> "Grid":
        """Codes at 2**-exponent."""
        return cls(bits, torch.tensor(2.0**-exponent, dtype=torch.float64))

    def codes(self, x: Tensor) -> Tensor:
        """saturate(round half up(x / scale)), the smallest integer type; what is done once, at a network's boundary."""
        low, high = code_range(self.bits, True)
        value = x.detach().double() / self.scale.to(x.device)
        return torch.floor(value + 0.5).clamp(low, high).to(code_type(self.bits))

    def real(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What the codes stand for; `codes` gives them back from it in float32 already."""
        return (codes.double() * self.scale.to(codes.device)).to(dtype)

    def clipped(self, x: Tensor) -> float:
        """The share of the values that saturate."""
        low, high = code_range(self.bits, True)
        value = torch.floor(x.detach().double() / self.scale.to(x.device) + 0.5)
        return float(((value < low) | (value > high)).double().mean())


class _Through(torch.autograd.Function):
    """The second argument's value with the first one's gradient."""

    @staticmethod
    def forward(ctx: Any, _smooth: Tensor, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, None


def straight_through(value: Tensor, smooth: Tensor) -> Tensor:
    """`value`, with the gradient of `smooth`; smooth + (value - smooth).detach() would round twice."""
    return _Through.apply(smooth, value)


class Operator(nn.Module):
    """An operation called `name`, after the module it stands for. `inputs` and `outputs` are its grids, once quantised.

    A subclass defines `real`, the operation in floating point, and `integer`, the one on codes, over the same
    arguments: as many tensors as there are input grids, then indices or a mask.
    """

    kind = "operator"
    real: Callable[..., Any]
    integer: Callable[..., Any]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.mode = "real"
        self.inputs: Sequence[Grid] = ()
        self.outputs: Sequence[Grid] = ()
        self._versions: tuple[int, ...] = ()

    def settle(self) -> None:
        """Note the state of the real parameters that the integers were made from."""
        self._versions = tuple(parameter._version for parameter in self.parameters())

    def refresh(self) -> None:
        """Take real parameters that training has changed into the integers; grids and scales stay."""
        if self._versions != tuple(parameter._version for parameter in self.parameters()):
            with torch.no_grad():
                self.recode()
            self.settle()

    def recode(self) -> None:
        """Make the integers anew from the real parameters, on the same grids."""

    def forward(self, *arguments: Any) -> Any:
        if self.mode == "real":
            return self.real(*arguments)
        if self.mode == "integer":
            return self.integer(*arguments)
        return self._fake(arguments)

    def _fake(self, arguments: tuple[Any, ...]) -> Any:
        self.refresh()
        smooth = self.real(*arguments)
        with torch.no_grad():
            count = len(self.inputs)
            codes = [grid.codes(x) for grid, x in zip(self.inputs, arguments, strict=False)]
            values = self.integer(*codes, *arguments[count:])
        if isinstance(smooth, tuple):
            return tuple(map(self._through, self.outputs, values, smooth))
        return self._through(self.outputs[0], values, smooth)

    @staticmethod
    def _through(grid: Grid, codes: Tensor, smooth: Tensor) -> Tensor:
        return straight_through(grid.real(codes, smooth.dtype), smooth)


def set_mode(network: nn.Module, mode: str, chosen: Callable[[Operator], bool] = lambda _: True) -> None:
    """Put every operator of `network` that is `chosen` into `mode`; what was trained is in the integers then.

    Raises `InputError` where a network that was read from a packed file is asked for floating point.
    """
    assert mode in MODES
    if mode != "integer" and any(parameter.is_meta for parameter in network.parameters()):
        raise InputError("a packed network has no floating-point weights; only the one that was converted has")
    for module in network.modules():
        if isinstance(module, Operator) and chosen(module):
            if mode != "real":
                module.refresh()
            module.mode = mode
