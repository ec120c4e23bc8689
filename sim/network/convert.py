"""`convert(model, plan, data)`: calibrate a model in floating point, then make every operator integer."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from quant import Plan, Settings
from quant.calibration import CalibrationData, load
from sim.network.calibration import Calibration
from sim.network.converters.describe import describe, require_same
from sim.network.encoder import Encoder, Layer
from sim.network.operators.activation import Activation, best_exp_scale, channel_scales, output_scale
from sim.network.operators.attention import Softmax
from sim.network.operators.base import Grid, Operator, set_mode
from sim.network.operators.linear import Linear, input_quantiser
from sim.network.operators.norm import Norm
from sim.network.operators.tables import require_table, slope_frac_bits
from sim.reference import InputError, PwlTable
from sim.reference.residual import STREAM_BITS


def convert(
    model: nn.Module,
    plan: Plan,
    data: CalibrationData | Iterable[Mapping[str, Any]],
    progress: Callable[[], object] = lambda: None,
) -> Encoder:
    """The integer network of `model`, in the mode "integer".

    `model` is a `BertModel`, `RobertaModel` or `DistilBertModel` of transformers, or an `nn.TransformerEncoder`; it is
    not changed, and its parameters are shared. Layers that `quant` has quantised keep their codes. `plan` names its
    modules (`names` lists them): linear layers take the weight and activation settings, the sites of softmax, norms and
    activations take tables, each a `PwlTable` or "exact". `data` are batches of the model's keyword arguments.
    `progress` is called after each batch.

    Raises:
        InputError: a module without an integer operator, a rule that matches nothing, a site without a table, data
            that are empty or give NaN. The line names the module or key.
    """
    return quantise(calibrate(model, plan, data, progress), plan)


def calibrate(
    model: nn.Module,
    plan: Plan,
    data: CalibrationData | Iterable[Mapping[str, Any]],
    progress: Callable[[], object] = lambda: None,
) -> Calibration:
    """The first half of `convert`: what the model does on the data. Arguments and errors are those of `convert`."""
    encoder = describe(model)
    settings = resolve(plan, encoder)
    data = load(data)
    training = model.training
    model.eval()
    try:
        require_same(model, encoder, next(iter(data)))
    finally:
        model.train(training)
    calibration = Calibration(encoder, settings, data.digest)
    calibration.run(data, progress)
    return calibration


def quantise(calibration: Calibration, plan: Plan) -> Encoder:
    """The second half: every operator gets its integers, as `plan` says.

    It can be repeated with other tables on the same calibration, and is then quick; the encoder is the same object.
    """
    encoder = calibration.encoder
    _quantise(encoder, resolve(plan, encoder), calibration)
    encoder.plan, encoder.data_sha256 = plan, calibration.data_sha256
    set_mode(encoder, "integer")
    return encoder


def resolve(plan: Plan, encoder: Encoder) -> dict[str, Settings]:
    """The plan's settings for every name it may speak of. Raises `InputError` where the network cannot keep to them."""
    settings = plan.resolve(names(encoder))
    for name, chosen in settings.items():
        _require_integer(name, chosen)
    return settings


def names(encoder: Encoder) -> list[str]:
    """The names that a plan may speak of: the model's linear layers, norms and activations, and "...softmax" sites."""
    result = []
    for operator in encoder.operators():
        if isinstance(operator, Linear):
            result += operator.names
        elif isinstance(operator, (Norm, Softmax, Activation)):
            result.append(operator.name)
    return result


def _require_integer(name: str, settings: Settings) -> None:
    if settings.skip:
        raise InputError(f"{name}: no rule quantises it, but the integer network has no place for floating point")
    if settings.activation_bits is None or settings.activation_bits > 8:
        raise InputError(f"{name}: activation_bits must be in 2..8, not {settings.activation_bits}")
    if not settings.activation_symmetric:
        raise InputError(f"{name}: activation_symmetric must be true for the integer network")


def _quantise(encoder: Encoder, settings: Mapping[str, Settings], calibration: Calibration) -> None:
    """Operator by operator, in the order in which the stream meets them."""
    stream: Operator
    if encoder.embedding is not None:
        encoder.embedding.quantise()
        stream = encoder.embedding
    else:
        assert encoder.input is not None
        encoder.input.quantise(calibration.grid(encoder.input))
        stream = encoder.input
    if encoder.norm is not None:
        _norm(encoder.norm, stream, settings, calibration)
        stream = encoder.norm
    for layer in encoder.blocks:
        stream = _layer(layer, stream, settings, calibration, encoder.row_length)
    if encoder.final is not None:
        _norm(encoder.final, stream, settings, calibration)


def _norm(norm: Norm, source: Operator, settings: Mapping[str, Settings], calibration: Calibration) -> Norm:
    norm.quantise(source.outputs[0], calibration.grid(norm), table_for(settings, norm.name, "rsqrt"))
    return norm


def _layer(
    layer: Layer, stream: Operator, settings: Mapping[str, Settings], calibration: Calibration, row_length: int
) -> Operator:
    source = _norm(layer.norm1, stream, settings, calibration) if layer.norm_first else stream
    _attention(layer, source.outputs[0], settings, calibration, row_length)
    layer.add1.quantise(stream.outputs[0], layer.out.outputs[0], calibration.grid(layer.add1))
    if layer.norm_first:
        stream = layer.add1
        source = _norm(layer.norm2, stream, settings, calibration)
    else:
        stream = source = _norm(layer.norm1, layer.add1, settings, calibration)
    _feed(layer, source.outputs[0], settings, calibration)
    layer.add2.quantise(stream.outputs[0], layer.down.outputs[0], calibration.grid(layer.add2))
    return layer.add2 if layer.norm_first else _norm(layer.norm2, layer.add2, settings, calibration)


def _attention(
    layer: Layer, source: Grid, settings: Mapping[str, Settings], calibration: Calibration, row_length: int
) -> None:
    first: Any = layer.qkv.layers[0]
    heads, width = layer.scores.heads, first.out_features // layer.scores.heads
    grids = [calibration.grid(layer.qkv, 8, k, heads, width) for k in range(3)]
    _linear(layer.qkv, source, grids, settings, calibration)
    q, k, v = layer.qkv.outputs
    name = layer.softmax.name
    scale = best_exp_scale(calibration.sample(layer.softmax))
    layer.scores.quantise(q, k, scale)
    tables = (table_for(settings, name, function) for function in ("exp", "div"))
    layer.softmax.quantise(layer.scores.outputs[0], scale, row_length, *tables)
    bits = _bits_before(settings[layer.out.name])
    layer.context.quantise(layer.softmax.outputs[0], v, calibration.grid(layer.context, bits))
    _linear(layer.out, layer.context.outputs[0], [calibration.grid(layer.out)], settings, calibration)


def _feed(layer: Layer, source: Grid, settings: Mapping[str, Settings], calibration: Calibration) -> None:
    activation, function = layer.activation, layer.activation.function
    down = settings[layer.down.name]
    bits = _bits_before(down)
    if function == "relu":  # on the next layer's own codes
        assert down.activation_bits is not None
        grid = calibration.grid(layer.up, down.activation_bits)
        scales, exponent, table = torch.zeros(0), 0, "exact"
    else:
        table, x = table_for(settings, activation.name, function), calibration.sample(layer.up)
        scales = channel_scales(function, x)
        grid = Grid(8, torch.ldexp(torch.ones(len(scales), dtype=torch.float64), -scales))
        exponent = output_scale(function, x, bits, scales, min(slope_frac_bits(function, table), 6))
    _linear(layer.up, source, [grid], settings, calibration)
    activation.quantise(grid, scales, exponent, bits, table)
    _linear(layer.down, activation.outputs[0], [calibration.grid(layer.down)], settings, calibration)


def _bits_before(settings: Settings) -> int:
    """The bits in which a layer gets its input: its static codes, or 16 where it finds a scale for each token."""
    assert settings.activation_bits is not None
    return STREAM_BITS if settings.activation_granularity == "token" else settings.activation_bits


def _linear(
    linear: Linear, source: Grid, outputs: list[Grid], settings: Mapping[str, Settings], calibration: Calibration
) -> None:
    own = [settings[name] for name in linear.names]
    kinds = {(s.activation_granularity, s.activation_bits) for s in own}
    if len(kinds) > 1:
        raise InputError(f"{', '.join(linear.names)}: share their input, so their activation settings must be equal")
    granularity, bits = kinds.pop()
    assert bits is not None
    token = granularity == "token"
    static = None if token or source.bits <= 8 else calibration.input_scale(linear, bits)
    quantiser = input_quantiser(source, token, bits, static)
    layers: list[Any] = list(linear.layers)
    weights = [calibration.weight(name, layer, s) for name, layer, s in zip(linear.names, layers, own, strict=True)]
    linear.quantise(quantiser, source, outputs, weights)


def table_for(settings: Mapping[str, Settings], name: str, function: str) -> PwlTable | str:
    """The plan's table for a site. Raises `InputError` where it has none, or one of another function or format."""
    tables = settings[name].tables
    if function not in tables:
        raise InputError(f'{name}: the plan must give a table of {function}, or "exact"')
    try:
        require_table(function, tables[function])
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return tables[function]
