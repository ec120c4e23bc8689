"""Integer linear layers: signed 8-bit activations, static or per token, and packed weights of 2 to 8 bits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import Settings
from quant.primitives.hadamard import block_of
from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import observer_for
from quant.primitives.quantisers import QuantisedWeight, quantise_weight, recode
from quant.primitives.scales import Scale
from sim.network.operators import kernels
from sim.network.operators.arithmetic import blockwise, round_half_up_, saturate_
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.folded import Folded
from sim.network.operators.hadamard import Rotated
from sim.network.operators.kernels import Requantiser
from sim.network.operators.modules import require_type
from sim.network.operators.planes import Planes, digits
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError
from sim.reference.arithmetic import INT64_SAFE_BITS, code_range
from sim.reference.gemm import ACTIVATION_BITS, WEIGHT_BITS, GroupedLinear, group_borders, signed_bits
from sim.reference.residual import STREAM_BITS
from sim.reference.token import IN_BITS, RATIO_BITS, TokenLinear

MULTIPLIER_BITS = 16


def quantise_tokens(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """`sim.reference.token.quantise_tokens` on int16 (..., K): codes in int8, magnitudes (..., 1) in int64."""
    if kernels.usable(x):
        return kernels.quantise_tokens(x, bits)
    top = code_range(bits, True)[1]
    magnitude = torch.maximum(x.amax(-1, keepdim=True).long(), -x.amin(-1, keepdim=True).long()).clamp(min=1)
    ratio = ((top << RATIO_BITS) + magnitude // 2) // magnitude

    def rows(x: Tensor, ratio: Tensor) -> Tensor:
        return saturate_(round_half_up_(x.long().mul_(ratio), RATIO_BITS), bits)

    return blockwise(rows, torch.int8, x, ratio), magnitude


@dataclass(frozen=True)
class InputQuantiser:
    """How a linear layer gets its activations from its input codes.

    "direct": they are the codes. "static": round(code * m * 2**-k). "token": by the row's magnitude.
    `unit` is the real value of one unit of activation, for "token" that of activation * magnitude.
    """

    kind: str
    bits: int
    unit: float
    multiplier: int = 1
    shift: int = 0


class PackedLinear(nn.Module):
    """y = saturate(round((bias + magnitude * sum m_g psum_g) * m_c * 2**-k_c)), signed codes of `out_bits`.

    Buffers: `codes` (N, K), int8 (unsigned 8-bit codes less 128); `zero_point`, `group_multiplier` (N, G) int32;
    `bias` (N,) int64 in units of the accumulator; `multiplier`, `shift` (N,) int64. `specification` is the same layer
    in `sim.reference`.
    """

    codes: Tensor
    zero_point: Tensor
    group_multiplier: Tensor
    bias: Tensor
    multiplier: Tensor
    shift: Tensor

    def __init__(
        self, buffers: dict[str, Tensor], weight_bits: int, weight_signed: bool, group_size: int, token: bool,
        activation_bits: int, out_bits: int,
    ) -> None:  # fmt: skip
        super().__init__()
        for key, value in buffers.items():
            self.register_buffer(key, value, persistent=False)
        self.weight_bits, self.weight_signed, self.group_size = weight_bits, weight_signed, group_size
        self.token, self.activation_bits, self.out_bits = token, activation_bits, out_bits
        self.plain = bool((self.group_multiplier == 1).all()) and not bool(self.zero_point.any())
        self._planes: Planes | None = None
        self._to_codes: Requantiser | None = None
        self.bound = self._bound()

    @property
    def offset(self) -> int:
        """The offset that was subtracted from the codes so that they fit int8."""
        return 128 if not self.weight_signed and self.weight_bits == 8 else 0

    def _terms(self) -> Tensor:
        """(codes - zero point) * group multiplier, (N, K) in int64."""
        repeat = [end - first for first, end in group_borders(self.codes.shape[1], self.group_size)]
        spread = torch.tensor(repeat, device=self.codes.device)
        zero, multiplier = (t.long().repeat_interleave(spread, 1) for t in (self.zero_point, self.group_multiplier))
        return (self.codes.long() + self.offset - zero) * multiplier

    def _bound(self) -> tuple[int, int]:
        """The proved smallest and largest accumulator over all activations and magnitudes."""
        terms = self._terms()
        positive, negative = terms.clamp(min=0).sum(1), terms.clamp(max=0).sum(1)
        low, high = code_range(self.specified_activation_bits, True)
        sums = int((positive * low + negative * high).min()), int((positive * high + negative * low).max())
        self.narrow = signed_bits(sums) <= 32
        most = 1 << (IN_BITS - 1) if self.token else 1
        lows = (positive * low + negative * high) * most + self.bias
        highs = (positive * high + negative * low) * most + self.bias
        bound = int(lows.min()), int(highs.max())
        bits = signed_bits(bound) + MULTIPLIER_BITS
        if bits > INT64_SAFE_BITS:
            raise InputError(f"the accumulator times its multiplier must fit {INT64_SAFE_BITS} bits, but needs {bits}")
        return bound

    @property
    def specified_activation_bits(self) -> int:
        """The width of activations in the specification, which has 4 and 8."""
        return next(bits for bits in ACTIVATION_BITS if bits >= self.activation_bits)

    @property
    def specification(self) -> GroupedLinear | TokenLinear:
        """The layer as numpy computes it. Weights of 5, 6 and 7 bits are held as 8 bits, as the array holds them."""
        weights, bias = self.codes.cpu().numpy().astype(np.int64) + self.offset, self.bias.cpu().numpy()
        layer = GroupedLinear(
            weights=weights,
            bias=np.zeros_like(bias) if self.token else bias,
            multiplier=self.multiplier.cpu().numpy(),
            shift=self.shift.cpu().numpy(),
            weight_bits=next(bits for bits in WEIGHT_BITS if bits >= self.weight_bits),
            weight_signed=self.weight_signed,
            activation_bits=self.specified_activation_bits,
            group=None if self.group_size >= weights.shape[1] else self.group_size,
            zero_points=None if self.weight_signed else self.zero_point.cpu().numpy(),
            group_multipliers=None if self.plain else self.group_multiplier.cpu().numpy(),
            out_bits=self.out_bits,
        )
        return TokenLinear(layer, bias) if self.token else layer

    def _apply(self, fn, recurse: bool = True):  # pyright: ignore[reportIncompatibleMethodOverride]
        self._planes = self._to_codes = None  # they follow the device
        return super()._apply(fn, recurse)

    @property
    def digits(self) -> list[Tensor]:
        """(codes - zero point) * group multiplier as int8 planes, (N, K) each."""
        return [self.codes] if self.plain and not self.offset else digits(self._terms())

    @property
    def planes(self) -> Planes:
        """The digits, laid out on first use."""
        if self._planes is None:
            self._planes = Planes(self.digits)
        return self._planes

    @property
    def to_codes(self) -> Requantiser:
        """From the accumulator to the codes."""
        if self._to_codes is None:
            self._to_codes = Requantiser(self.multiplier, self.shift, self.out_bits, self.bias)
        return self._to_codes

    def accumulate(self, activations: Tensor) -> Tensor:
        """sum m_g psum_g, (..., N): int32 if that is proved to be wide enough, else int64."""
        planes = self.planes.product(activations)
        total = planes[0] if self.narrow else planes[0].long()
        for p, plane in enumerate(planes[1:], 1):
            total = total + (plane.to(total.dtype) << 8 * p)
        return total

    def forward(self, activations: Tensor, magnitude: Tensor | None) -> Tensor:
        if kernels.usable(activations):
            return kernels.linear(activations, magnitude, self.planes, self.to_codes, self.narrow)
        return self.to_codes(self.accumulate(activations), magnitude)

    @classmethod
    def from_real(
        cls, weight: QuantisedWeight, bias: Tensor | None, source: InputQuantiser, output: Grid, name: str
    ) -> "PackedLinear":
        """The layer for quantised weights and a real bias (N,), from the input's unit to the output's grid."""
        outputs = weight.codes.shape[0]
        unit = weight.scale.value * source.unit  # of the accumulator, per channel
        real_bias = torch.zeros(outputs, dtype=torch.float64) if bias is None else bias.detach().double()
        scale = Scale.nearest((unit / output.scale).expand(outputs), f"{name}: input times weight over output scale")
        integers = torch.floor(real_bias / unit + 0.5).long()
        constants = {"bias": integers, "multiplier": scale.multiplier, "shift": scale.shift}
        try:
            return cls.of(weight, constants, source, output.bits)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    @classmethod
    def of(
        cls, weight: QuantisedWeight, constants: dict[str, Tensor], source: InputQuantiser, out_bits: int
    ) -> "PackedLinear":
        """The layer for quantised weights and its integer constants, `bias`, `multiplier` and `shift`."""
        unsigned_bytes = not weight.signed and weight.bits == 8
        buffers = {
            "codes": (weight.codes.int() - 128 if unsigned_bytes else weight.codes).to(torch.int8),
            "zero_point": weight.zero_point.int(),
            "group_multiplier": weight.group_multiplier.int(),
            **constants,
        }
        token = source.kind == "token"
        return cls(buffers, weight.bits, weight.signed, weight.group_size, token, source.bits, out_bits)


def _side_by_side(layers: Sequence[PackedLinear]) -> PackedLinear | None:
    """Layers of one input as one layer, or None if they are not alike. Their outputs are next to each other."""
    first = layers[0]
    formats = ("weight_bits", "weight_signed", "group_size", "token", "activation_bits", "out_bits", "plain")
    if any(getattr(layer, key) != getattr(first, key) for layer in layers for key in formats):
        return None
    names = ("codes", "zero_point", "group_multiplier", "bias", "multiplier", "shift")
    buffers = {name: torch.cat([getattr(layer, name) for layer in layers]) for name in names}
    return PackedLinear(
        buffers, first.weight_bits, first.weight_signed, first.group_size, first.token, first.activation_bits,
        first.out_bits,
    )  # fmt: skip


class Linear(Operator):
    """One or more linear layers of one input, which is quantised once; gives a tensor, or a tuple if there are several.

    `layers` maps names to `nn.Linear`, whose parameters are shared, or to layers that `quant` has quantised: their
    codes are kept, and training starts from the weights that the codes stand for. Or to `Folded` ones: convolutions,
    and layers with what is behind them.
    """

    kind = "linear"

    def __init__(self, layers: Mapping[str, nn.Module | Folded], names: Sequence[str] = ()) -> None:
        super().__init__([*layers, *names][0])
        self.names = [*layers, *names]
        self._of_model = dict(layers)
        matrices = {name: layer.matrix() if isinstance(layer, Folded) else layer for name, layer in layers.items()}
        quantised = {name: layer for name, layer in matrices.items() if isinstance(layer, QuantisedLinear)}
        self.given = {name: layer.weight for name, layer in quantised.items()}
        self._given_blocks = {name: layer.hadamard for name, layer in quantised.items()}
        self.layers = nn.ModuleList(map(_trainable, matrices.values()))
        self.block: int | None = None  # in which the inputs come rotated
        self.packed = nn.ModuleList()
        self._joined: tuple[nn.ModuleList, PackedLinear | None] | None = None
        self.weights: list[QuantisedWeight] = []
        self.source: InputQuantiser | None = None
        self._found: dict[str, tuple[Tensor, dict[str, QuantisedWeight]]] = {}

    @property
    def plan_names(self) -> list[str]:
        return self.names

    @property
    def trainable(self) -> bool:
        return len(self.layers) > 0

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._joined = None  # it follows the device
        return super()._apply(fn, recurse)

    def claims(self) -> Mapping[str, nn.Module]:
        claimed: dict[str, nn.Module] = {}
        for name, layer in self._of_model.items():
            if isinstance(layer, Folded):
                claimed |= layer.claims(name)
                continue
            require_type(name, layer, nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear, QuantisedLinear)
            claimed[name] = layer
        return claimed

    def shapes(self, *inputs: Shape) -> tuple[Shape, ...]:
        matrices = [weight.codes for weight in self.weights] or [layer.weight for layer in self._real]
        return tuple((*inputs[0][:-1], matrix.shape[0]) for matrix in matrices)

    @property
    def _real(self) -> list[nn.Linear]:
        layers: list[Any] = list(self.layers)
        return layers

    def real(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return _unpacked([functional.linear(x, layer.weight, layer.bias) for layer in self._real])

    def activations(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """int8 codes and, if they are per token, the magnitudes."""
        assert self.source is not None
        if self.source.kind == "direct":
            return x, None
        if self.source.kind == "token":
            return quantise_tokens(x, self.source.bits)
        multiplier, shift, bits = self.source.multiplier, self.source.shift, self.source.bits
        return Requantiser(torch.tensor(multiplier), torch.tensor(shift), bits)(x), None

    def integer(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        codes, magnitude = self.activations(x)
        layers = self.packed_layers
        if len(layers) > 1 and kernels.usable(codes):
            if self._joined is None or self._joined[0] is not self.packed:
                self._joined = self.packed, _side_by_side(layers)
            if self._joined[1] is not None:
                return self._joined[1](codes, magnitude).split([len(layer.codes) for layer in layers], -1)
        return _unpacked([packed(codes, magnitude) for packed in layers])

    # ---- conversion

    def hadamard_block(self, settings: Mapping[str, Settings]) -> int | None:
        """The block in which the inputs are to be rotated: that of the given codes, else the plan's.

        Raises `InputError` if the layers differ, or the block does not divide the inputs.
        """
        found: set[int | None] = set()
        for name, layer in zip(self.names, self._real, strict=True):
            try:
                planned = block_of(settings[name], layer.weight.shape[1])
            except InputError as error:
                raise InputError(f"{name}: hadamard: {error}") from None
            found.add(self._given_blocks.get(name, planned))
        if len(found) > 1:
            raise InputError(f"{', '.join(self.names)}: share their input, so their hadamard must be equal")
        return found.pop()

    def rotate(self, block: int) -> None:
        """Take inputs that are rotated in blocks; the weights follow. Codes that were given are of a rotated layer."""
        self.block = block
        self.layers = nn.ModuleList(
            layer if name in self.given else Rotated(layer, block)
            for name, layer in zip(self.names, self._real, strict=True)
        )

    def input_bits(self, index: int, site: Site) -> int:
        """The static codes of the layer, or 16 if it finds a scale for each token."""
        bits = site.settings[self.name].activation_bits
        assert bits is not None
        return STREAM_BITS if self._per_token(site) else bits

    def _per_token(self, site: Site) -> bool:
        return site.settings[self.name].activation_granularity == "token"

    def watch(self, site: Site, arguments: tuple[Any, ...], results: tuple[Tensor, ...]) -> None:
        if not self._per_token(site):
            settings = site.settings[self.name]
            site.seen.observe((site.key, "input"), arguments[0], self.name, lambda: observer_for(self.name, settings))
        super().watch(site, arguments, results)

    def quantise_at(self, site: Site) -> None:
        own = [site.settings[name] for name in self.names]
        if self.hadamard_block(site.settings) != self.block:
            raise InputError(f"{self.name}: hadamard must be what it was for calibration, {self.block}")
        kinds = {(s.activation_granularity, s.activation_bits) for s in own}
        if len(kinds) > 1:
            raise InputError(f"{', '.join(self.names)}: share their input, so their activation settings must be equal")
        _, bits = kinds.pop()
        assert bits is not None
        input, token = site.input(), self._per_token(site)
        static = None
        if not token and input.bits > 8:
            static = site.seen.largest((site.key, "input")) / code_range(bits, True)[1]
        quantiser = input_quantiser(input, token, bits, static)
        weights = [self._weight(*every) for every in zip(self.names, self._real, own, strict=True)]
        self.quantise(quantiser, input, [site.output(k) for k in range(len(own))], weights)

    def _weight(self, name: str, layer: nn.Linear, settings: Settings) -> QuantisedWeight:
        """The codes that the layer came with, or those found for its weights, kept by settings until weights change."""
        if name in self.given:
            return self.given[name]
        weight, codes = self._found.get(name, (None, {}))
        if weight is None or not torch.equal(weight, layer.weight):
            codes = {}
            self._found[name] = layer.weight.detach().clone(), codes
        key = str(replace(settings, tables={}, activation_bits=None, hadamard=False))  # which change `weight` no more
        if key not in codes:
            codes[key] = quantise_weight(layer.weight, settings)
        return codes[key]

    def quantise(
        self, source: InputQuantiser, input: Grid, outputs: Sequence[Grid], weights: list[QuantisedWeight]
    ) -> None:
        """Make the packed layers, one for each layer's weights and output grid; the real weights stay for training.

        They stay if they would be the same, as they are for another set of tables.
        """
        if self.outputs and source == self.source and self._is_settled():
            grids = zip((input, *outputs), (*self.inputs, *self.outputs), strict=True)
            if all(a.same(b) for a, b in grids) and all(a is b for a, b in zip(weights, self.weights, strict=True)):
                return
        self.source, self.weights = source, weights
        self._pack(outputs)
        self.finish((input,), outputs)

    def recode(self) -> None:
        self.weights = [recode(layer.weight, like) for layer, like in zip(self._real, self.weights, strict=True)]
        self._pack(self.outputs)

    def _pack(self, outputs: Sequence[Grid]) -> None:
        assert self.source is not None
        every = zip(self._real, self.weights, outputs, self.names, strict=True)
        self.packed = nn.ModuleList(
            PackedLinear.from_real(weight, layer.bias, self.source, output, name)
            for layer, weight, output, name in every
        )

    # ---- what is written and reported

    def to_row(self, writer: Writer) -> dict[str, Any]:
        assert self.source is not None
        for k, (name, weight, packed) in enumerate(zip(self.names, self.weights, self.packed_layers, strict=True)):
            writer.weight(name, weight, max(-packed.bound[0], packed.bound[1]))
            for key in ("bias", "multiplier", "shift"):
                writer.tensor(f"{k}.{key}", getattr(packed, key))
        return {"source": asdict(self.source), "names": self.names}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], reader: Reader) -> Self:
        operator = cls({}, row["names"])
        operator.source = InputQuantiser(**row["source"])
        operator.weights = [reader.weight(name) for name in row["names"]]
        operator.packed = nn.ModuleList(
            PackedLinear.of(
                weight,
                {key: reader.tensor(f"{k}.{key}") for key in ("bias", "multiplier", "shift")},
                operator.source,
                row["outputs"][k]["bits"],
            )
            for k, weight in enumerate(operator.weights)
        )
        return operator

    @property
    def packed_layers(self) -> list[PackedLinear]:
        """The layers in integers."""
        layers: list[Any] = list(self.packed)
        return layers

    def formats(self) -> dict[str, Any]:
        largest = max(max(-packed.bound[0], packed.bound[1]) for packed in self.packed_layers)
        return {**super().formats(), "bound_bits": largest.bit_length() + 1}


def _trainable(layer: nn.Module) -> nn.Module:
    """The layer with real weights; for a layer that `quant` has quantised, those that its codes represent."""
    if not isinstance(layer, QuantisedLinear):
        return layer
    result = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    result.weight = nn.Parameter(layer.weight.dequantise())
    if layer.bias is not None:
        result.bias = nn.Parameter(layer.bias.detach().clone())
    return result


def _unpacked(results: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return tuple(results) if len(results) > 1 else results[0]


def input_quantiser(grid: Grid, token: bool, bits: int, static_scale: float | None) -> InputQuantiser:
    """How a layer whose input has `grid` gets activations of `bits`; `static_scale` if they are static."""
    value = float(grid.scale)
    if grid.bits <= 8:
        return InputQuantiser("direct", grid.bits, value)
    if token:
        assert grid.bits == IN_BITS
        return InputQuantiser("token", bits, value / code_range(bits, True)[1])
    assert static_scale is not None
    ratio = Scale.nearest(value / static_scale)
    unit = float(value / ratio.value)  # what a unit of activation stands for, with the integer ratio
    return InputQuantiser("static", bits, unit, int(ratio.multiplier), int(ratio.shift))
