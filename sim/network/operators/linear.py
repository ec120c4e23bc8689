"""The operator of linear layers: signed 8-bit activations, static or per token, and packed weights of 2 to 8 bits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import Settings
from quant.primitives.hadamard import block_of
from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import observer_for
from quant.primitives.quantisers import QuantisedWeight, quantise_weight, recode
from sim.network.operators import kernels
from sim.network.operators.base import Grid, Operator, Shape, Site
from sim.network.operators.folded import Folded
from sim.network.operators.hadamard import Rotated
from sim.network.operators.kernels import Requantiser
from sim.network.operators.modules import require_type
from sim.network.operators.packed_linear import (
    InputQuantiser,
    PackedLinear,
    input_quantiser,
    quantise_tokens,
    side_by_side,
)
from sim.network.operators.snapshot import parameters_of
from sim.network.operators.storage import Reader, Writer
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.residual import STREAM_BITS


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

    def real_parameters(self) -> list[Tensor]:
        return parameters_of(self.layers)  # the packed layers have none

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
                self._joined = self.packed, side_by_side(layers)
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
