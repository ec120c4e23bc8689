"""Steps that move the codes of images: the order of axes, patches for a matrix product, tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from torch import Tensor

from sim.network.operators.base import Shape, Step
from sim.network.operators.storage import Reader, Writer
from sim.reference.convolution import Window

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


class Permute(Step):
    """The axes in another order: `CHANNELS_LAST` for what comes as (B, C, H, W), `CHANNELS_FIRST` for what goes so."""

    kind = "permute"

    def __init__(self, name: str, order: Sequence[int]) -> None:
        super().__init__(name)
        self.order = tuple(order)

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return (tuple(inputs[0][axis] for axis in self.order),)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"order": list(self.order)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["order"])


def padded(images: Tensor, border: int) -> Tensor:
    """Images (B, H, W, C) with a border of zeros."""
    if not border:
        return images
    batch, height, width, channels = images.shape
    result = images.new_zeros((batch, height + 2 * border, width + 2 * border, channels))
    result[:, border : border + height, border : border + width] = images
    return result


class Unfold(Step):
    """`sim.reference.convolution.Window.patches` of images (B, H, W, C): what a convolution's matrix product takes."""

    kind = "unfold"

    def __init__(self, name: str, window: Window) -> None:
        super().__init__(name)
        self.window = window

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        batch, height, width, channels = inputs[0]
        return ((batch, *windows(self.window, height, width), self.window.kernel**2 * int(channels)),)

    def forward(self, images: Tensor) -> Tensor:
        kernel, stride = self.window.kernel, self.window.stride
        for side in images.shape[1:3]:
            self.window.count(side)
        cut = padded(images, self.window.padding).unfold(1, kernel, stride).unfold(2, kernel, stride)
        return cut.permute(0, 1, 2, 4, 5, 3).flatten(3)  # (B, H', W', kernel, kernel, C)

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return asdict(self.window)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], stored_window(row))


def stored_window(row: Mapping[str, Any]) -> Window:
    """The window that a row of the packed folder describes."""
    return Window(row["kernel"], row["stride"], row["padding"])


def windows(window: Window, *sides: int | str) -> Shape:
    """How many windows lie along each side.

    A side with a name gets a name: "height/4" for its fourth, rounded up, as strides with padding do, and "height/-4"
    for its fourth, rounded down, as those of windows side by side do.
    """
    down = 2 * window.padding == window.kernel - window.stride

    def count(side: int | str) -> int | str:
        if isinstance(side, int):
            return window.count(side)
        if window.stride == 1:
            return side
        return f"{side}/-{window.stride}" if down else f"{side}/{window.stride}"

    return tuple(map(count, sides))


class Tokens(Step):
    """Images (B, H, W, C) as tokens (B, H * W, C), behind `prepended` tokens of zeros."""

    kind = "tokens"

    def __init__(self, name: str, prepended: int = 0) -> None:
        super().__init__(name)
        self.prepended = prepended

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        batch, height, width, channels = inputs[0]
        if isinstance(height, int) and isinstance(width, int):
            return ((batch, height * width + self.prepended, channels),)
        return ((batch, f"{height}*{width}", channels),)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(1, 2)
        if not self.prepended:
            return tokens
        batch, count, channels = tokens.shape
        result = tokens.new_zeros((batch, self.prepended + count, channels))
        result[:, self.prepended :] = tokens
        return result

    def to_row(self, writer: Writer) -> dict[str, Any]:
        return {"prepended": self.prepended}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        return cls(row["name"], row["prepended"])


class Image(Step):
    """Tokens (B, H * W, C) as an image (B, H, W, C) of the height and width of the second argument."""

    kind = "image"

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        return ((*inputs[1][:3], inputs[0][-1]),)

    def forward(self, tokens: Tensor, like: Tensor) -> Tensor:
        return tokens.unflatten(1, like.shape[1:3])
