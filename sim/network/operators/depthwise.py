"""Depthwise convolutions in integers: `sim.reference.convolution.DepthwiseConvolution` on tensors."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import Settings
from quant.primitives.quantisers import QuantisedWeight, quantise_weight, recode
from quant.primitives.scales import Scale
from sim.network.operators.arithmetic import blockwise, code_type, half, requantise_
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.folded import Matrix, window_of
from sim.network.operators.images import padded, stored_window, windows
from sim.network.operators.modules import require_type
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError
from sim.reference.arithmetic import INT64_SAFE_BITS
from sim.reference.convolution import DepthwiseConvolution, Window
from sim.reference.gemm import signed_bits
from sim.reference.requant import MULTIPLIER_BITS

INT32_SAFE_BITS = 31


class Depthwise(Operator):
    """A convolution (B, H, W, C) of each channel by itself, which `after` may scale and shift.

    Channels do not meet, so each input channel has a scale of its own, static; 16-bit codes are taken as they are.
    """

    kind = "depthwise"
    weights: Tensor
    bias: Tensor
    multiplier: Tensor
    shift: Tensor
    rounding: Tensor

    def __init__(
        self, name: str, layer: nn.Conv2d | None, after: tuple[str, nn.Module] | None = None,
        window: Window | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        self._claimed = ({} if layer is None else {name: layer}) | ({} if after is None else {after[0]: after[1]})
        self.matrix = None if layer is None else Matrix(layer, None if after is None else after[1])
        found = window if layer is None else window_of(name, layer)
        assert found is not None
        self.window = found
        self.weight: QuantisedWeight | None = None
        self.specification: DepthwiseConvolution | None = None
        self._found: tuple[Settings, Tensor, QuantisedWeight] | None = None

    @property
    def plan_names(self) -> list[str]:
        return [self.name]

    @property
    def trainable(self) -> bool:
        return self.matrix is not None

    def claims(self) -> Mapping[str, nn.Module]:
        layer: Any = self._claimed[self.name]
        require_type(self.name, layer, nn.Conv2d)
        if not layer.in_channels == layer.out_channels == layer.groups:
            raise InputError(f"{self.name}: a depthwise convolution must have one output for each of its inputs")
        return self._claimed

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        batch, height, width, channels = inputs[0]
        return ((batch, *windows(self.window, height, width), channels),)

    def real(self, x: Tensor) -> Tensor:
        assert self.matrix is not None
        window, weight = self.window, self.matrix.weight
        kernels = weight.reshape(-1, 1, window.kernel, window.kernel)
        result = functional.conv2d(
            x.permute(0, 3, 1, 2), kernels, self.matrix.bias, window.stride, window.padding, groups=len(kernels)
        )
        return result.permute(0, 2, 3, 1)

    def integer(self, x: Tensor) -> Tensor:
        spec, window = self.specification, self.window
        assert spec is not None
        rows, columns = (window.count(side) for side in x.shape[1:3])
        wide = padded(x, window.padding)
        total = torch.zeros((x.shape[0], rows, columns, x.shape[3]), dtype=self.weights.dtype, device=x.device)
        for tap, weights in enumerate(self.weights):
            i, j = divmod(tap, window.kernel)
            part = wide[:, i :: window.stride, j :: window.stride][:, :rows, :columns]
            total.addcmul_(part.to(total.dtype), weights)

        def block(total: Tensor) -> Tensor:
            sums = total.long().add_(self.bias)
            return requantise_(sums, self.multiplier, self.shift, self.rounding, spec.out_bits)

        return blockwise(block, code_type(spec.out_bits), total)

    # ---- conversion

    def input_bits(self, index: int, site: Site) -> int:
        bits = site.settings[self.name].activation_bits
        assert bits is not None
        return bits

    def input_grid(self, index: int, site: Site) -> Grid | None:
        """Codes that cover each channel by itself."""
        largest = site.seen.sample(self.name).amax(0).double()
        largest = torch.where(largest > 0, largest, 1.0)
        bits = self.input_bits(index, site)
        return Grid(bits, largest / ((1 << (bits - 1)) - 1))

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        """Keep each channel's largest magnitude."""
        site.seen.keep(self.name, arguments[0].abs().flatten(0, -2).amax(0, keepdim=True))
        super().watch(site, arguments, results)

    def quantise_at(self, site: Site) -> None:
        self.quantise(site.input(), site.output(), self._weight(site.settings[self.name]))

    def _weight(self, settings: Settings) -> QuantisedWeight:
        """The codes, kept until weights or settings change."""
        assert self.matrix is not None
        bare, weight, found = replace(settings, tables={}), self.matrix.weight.detach(), self._found
        if found is None or found[0] != bare or not torch.equal(found[1], weight):
            found = self._found = bare, weight.clone(), quantise_weight(weight, settings)
        return found[2]

    def quantise(self, input: Grid, output: Grid, weight: QuantisedWeight) -> None:
        """The integers for a weight (C, kernel * kernel), from the input's scales to the output's."""
        assert self.matrix is not None
        channels, real_bias = len(weight.codes), self.matrix.bias
        unit = weight.scale.value * input.scale  # of the accumulator, per channel
        ratio = Scale.nearest((unit / output.scale).expand(channels), f"{self.name}: input times weight over output")
        bias = torch.zeros(channels, dtype=torch.int64)
        if real_bias is not None:
            bias = torch.floor(real_bias.detach().double() / unit + 0.5).long()
        self.weight = weight
        self._attach(bias, ratio, input.bits, output.bits)
        self.finish((input,), (output,))

    def recode(self) -> None:
        assert self.matrix is not None and self.weight is not None
        self.quantise(self.inputs[0], self.outputs[0], recode(self.matrix.weight, self.weight))

    def _attach(self, bias: Tensor, ratio: Scale, in_bits: int, out_bits: int) -> None:
        assert self.weight is not None
        weights = self.weight.integers().t()
        w, b, m, k = (t.numpy().astype(np.int64) for t in (weights, bias, ratio.multiplier, ratio.shift))
        self.specification = DepthwiseConvolution(w, b, m, k, self.window, in_bits, out_bits)
        bits = signed_bits(self.specification.bound)
        if bits + MULTIPLIER_BITS > INT64_SAFE_BITS:
            raise InputError(f"{self.name}: the accumulator times its multiplier must fit {INT64_SAFE_BITS} bits")
        narrow = bits <= INT32_SAFE_BITS
        self.register_buffer("weights", weights.int() if narrow else weights.long(), persistent=False)
        for key, tensor in (
            ("bias", bias), ("multiplier", ratio.multiplier), ("shift", ratio.shift), ("rounding", half(ratio.shift)),
        ):  # fmt: skip
            self.register_buffer(key, tensor, persistent=False)

    # ---- what is written and reported

    def to_row(self, writer: Writer) -> dict[str, Any]:
        assert self.weight is not None and self.specification is not None
        low, high = self.specification.bound
        writer.weight(self.name, self.weight, max(-low, high))
        for key in ("bias", "multiplier", "shift"):
            writer.tensor(f"0.{key}", self.get_buffer(key))
        return asdict(self.window)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls(row["name"], None, window=stored_window(row))
        operator.weight = reader.weight(row["name"])
        bias, multiplier, shift = (reader.tensor(f"0.{key}") for key in ("bias", "multiplier", "shift"))
        operator._attach(bias, Scale(multiplier, shift), row["inputs"][0]["bits"], row["outputs"][0]["bits"])
        return operator

    def formats(self) -> dict[str, Any]:
        assert self.specification is not None
        return {**super().formats(), "bound_bits": signed_bits(self.specification.bound)}
