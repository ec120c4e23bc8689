"""What a network does in floating point on calibration data: ranges, and samples where a scale is chosen by error."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from quant import Settings
from quant.calibration import CalibrationData
from quant.primitives.observers import MinMaxObserver, Observer, observer_for, token_mask
from quant.primitives.quantisers import QuantisedWeight, quantise_weight
from sim.network.encoder import Encoder
from sim.network.operators.activation import Activation
from sim.network.operators.attention import Scores, Softmax
from sim.network.operators.base import Grid, Operator, set_mode
from sim.network.operators.linear import Linear
from sim.reference import InputError
from sim.reference.arithmetic import code_range
from sim.reference.residual import STREAM_BITS

HEADROOM = 1.25  # the stream's grids hold more than calibration saw; 16 bits can spare it
SAMPLE = 1 << 16  # values kept per batch where a scale is chosen by the error it makes
SAMPLE_ROWS = 1 << 9  # the same where each channel chooses its own
INPUT = -1  # in the place of an output's number


class Calibration:
    """What the real network's operators give: ranges, and samples where a scale is chosen by its error."""

    def __init__(self, encoder: Encoder, settings: Mapping[str, Settings], data_sha256: str) -> None:
        self.encoder, self.settings, self.data_sha256 = encoder, settings, data_sha256
        self.observers: dict[tuple[str, int, int], Observer] = {}  # (operator, output or `INPUT`, head)
        self.samples: dict[str, list[Tensor]] = {}
        self.mask: Tensor | None = None
        self.generator = torch.Generator().manual_seed(0)
        self._weights: dict[str, tuple[Settings, QuantisedWeight]] = {}

    @torch.no_grad()
    def run(self, data: CalibrationData, progress: Callable[[], object]) -> None:
        """One pass over the data."""
        set_mode(self.encoder, "real")
        handles = [operator.register_forward_hook(self._watch) for operator in self.encoder.operators()]
        try:
            for batch in data:
                self.mask = token_mask(batch)
                self.encoder.stream(**batch)
                progress()
        finally:
            for handle in handles:
                handle.remove()

    def grid(
        self, operator: Operator, bits: int = STREAM_BITS, output: int = 0, heads: int = 1, width: int = 1
    ) -> Grid:
        """The grid for what `operator` gave: one scale, or one for each head repeated over its `width` channels."""
        room = HEADROOM if bits == STREAM_BITS else 1.0
        top = code_range(bits, True)[1]
        scales = [self._largest((operator.name, output, head)) * room / top for head in range(heads)]
        tensor = torch.tensor(scales, dtype=torch.float64)
        return Grid(bits, tensor[0] if heads == 1 else tensor.repeat_interleave(width))

    def input_scale(self, linear: Linear, bits: int) -> float:
        """The static scale of the layer's input in codes of `bits`, as the plan's observer has it."""
        return self._largest((linear.name, INPUT, 0)) / code_range(bits, True)[1]

    def _largest(self, key: tuple[str, int, int]) -> float:
        low, high = self.observers[key].range()
        return max(-low, high) or 1.0

    def weight(self, name: str, layer: nn.Linear, settings: Settings) -> QuantisedWeight:
        """The layer's quantised weights: those it brings, or found once, however often the network is quantised."""
        brought = getattr(layer, "quantised", None)
        if brought is not None:
            return brought
        bare = replace(settings, tables={})
        if name not in self._weights or self._weights[name][0] != bare:
            self._weights[name] = bare, quantise_weight(layer.weight, settings)
        return self._weights[name][1]

    def sample(self, operator: Operator) -> Tensor:
        """Up to `SAMPLE` values of each batch. Raises `InputError` where there is none."""
        if operator.name not in self.samples:
            raise InputError(f"{operator.name}: calibration never reached it")
        return torch.cat(self.samples[operator.name])

    def _watch(self, operator: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        assert isinstance(operator, Operator)
        if isinstance(operator, Softmax):
            scores, valid = arguments
            distance = scores - _masked(scores, valid).amax(-1, keepdim=True)
            rows = torch.ones_like(distance, dtype=torch.bool) if valid is None else valid.expand(distance.shape)
            if self.mask is not None:
                rows = rows & self.mask[:, None, :, None]
            self._keep(operator, distance[rows].clamp(max=0))
            return
        if isinstance(operator, Scores):
            return
        if isinstance(operator, Linear):
            settings = self.settings[operator.name]
            if settings.activation_granularity == "tensor":
                self._observe((operator.name, INPUT, 0), arguments[0], lambda: observer_for(operator.name, settings))
        for k, values in enumerate(output if isinstance(output, tuple) else (output,)):
            if isinstance(operator, Linear) and len(operator.names) == 3:
                name = operator.names[k]
                own = replace(self.settings[name], activation_bits=8)
                for head, part in enumerate(values.unflatten(-1, (self.heads(operator), -1)).unbind(-2)):
                    self._observe((operator.name, k, head), part, lambda n=name, s=own: observer_for(n, s))
            else:
                self._observe((operator.name, k, 0), values, lambda: MinMaxObserver(operator.name))
        if isinstance(operator, Linear) and self.activation_of(operator) is not None:
            assert isinstance(output, Tensor)
            rows = output.flatten(0, -2) if self.mask is None else output[self.mask]
            self._keep(operator, rows, SAMPLE_ROWS)

    def heads(self, operator: Linear) -> int:
        return next(layer.scores.heads for layer in self.encoder.blocks if layer.qkv is operator)

    def activation_of(self, operator: Linear) -> Activation | None:
        """The activation behind a layer's first feed-forward projection."""
        return next((layer.activation for layer in self.encoder.blocks if layer.up is operator), None)

    def _observe(self, key: tuple[str, int, int], values: Tensor, make: Callable[[], Observer]) -> None:
        if key not in self.observers:
            self.observers[key] = make()
        self.observers[key].update(values, self.mask)

    def _keep(self, operator: Operator, values: Tensor, most: int = SAMPLE) -> None:
        if not torch.isfinite(values).all():
            raise InputError(f"{operator.name}: calibration values are NaN or infinite")
        if len(values) > most:
            values = values[torch.randint(len(values), (most,), generator=self.generator)]
        if len(values):
            self.samples.setdefault(operator.name, []).append(values)


def _masked(scores: Tensor, valid: Tensor | None) -> Tensor:
    return scores if valid is None else scores.masked_fill(~valid, -torch.inf)
