"""Quantisation after training: weights to the nearest codes, activations calibrated, layers replaced."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import calibration
from quant.formats.packed import read_weight, weight_row, weight_tensors
from quant.methods.coverage import bytes_of, coverage_of, unquantised
from quant.methods.layers import matrix_of, quantisable, replace, tied_embeddings, unfold
from quant.plan import Plan, Settings
from quant.primitives.hadamard import block_of, rotate
from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import Observer, observe, observer_for
from quant.primitives.quantisers import ActivationQuantiser, QuantisedWeight, quantise_weight
from quant.primitives.scales import Scale
from quant.run_directory import RunDirectory
from sim.reference import InputError

ATTRIBUTE = "quantisation"  # of a quantised model: its `Quantisation`
CALIBRATION = "calibration"
COARSE = 3  # the largest group multiplier that counts as coarse: the next is a third or more away


@dataclass(frozen=True, eq=False)
class Job:
    """How a long job is kept and shown.

    Parameters
    ----------
    run : RunDirectory, optional
        Keeps what is done, unit by unit, so that an interrupted job can resume.
    progress : callable
        Called with the name of each unit when it is done: a layer, or "calibration" for a batch of data.
    """

    run: RunDirectory | None = None
    progress: Callable[[str], object] = lambda unit: None


@dataclass(frozen=True, eq=False)
class Quantisation:
    """What was done to a model: the plan, the hash of the calibration data, a row for each quantised layer."""

    plan: Plan
    data_sha256: str | None
    rows: tuple[Mapping[str, Any], ...]
    coverage: Mapping[str, Any] = field(default_factory=dict)


def quantize(
    model: nn.Module,
    plan: Plan,
    data: Any = None,
    *,
    sampling: calibration.Sampling | None = None,
    tokeniser: calibration.Tokeniser | None = None,
    inplace: bool = False,
    job: Job | None = None,
) -> nn.Module:
    """A model whose linear layers (`quantisable`) compute on integer codes as a plan says.

    The projections inside `nn.MultiheadAttention` and the experts of a mixture that are held as one tensor are such
    layers too, after `unfold`; their names are `query`, `key`, `value`, `out_proj`, and `I.gate_up_proj`,
    `I.down_proj` for expert I. Weights are rounded to nearest. A layer that no rule matches, or that a rule skips,
    stays as it is. An embedding that is tied to a quantised layer stays tied: it looks up the rows of the quantised
    matrix.

    Parameters
    ----------
    model : nn.Module
        The model in floating point.
    plan : Plan
        Which layer is quantised how.
    data : optional
        Calibration data, as `quant.calibration.load` takes them; needed if a layer's inputs have static scales.
    sampling : Sampling, optional
        How many of the data are used.
    tokeniser : callable, optional
        Text to token ids, if the data are text.
    inplace : bool
        Change `model` itself instead of a copy.
    job : Job, optional
        Run directory and progress of a long job.

    Returns
    -------
    nn.Module
        The quantised model in evaluation mode; its attribute `quantisation` says what was done.

    Raises
    ------
    InputError
        If a rule matches nothing, data are needed and missing or empty, or a parameter or a calibration value is
        complex, NaN or infinite; one line that names the rule or module.
    """
    job = job or Job()
    result = unfold(model if inplace else copy.deepcopy(model))
    prepared = prepare(result, plan, None if data is None else calibration.load(data, sampling, tokeniser), job)
    result.eval()
    rows: list[dict[str, Any]] = []
    replacements: dict[int, nn.Module] = {}
    for name, chosen in prepared.settings.items():
        linear = result.get_submodule(name)
        matrix = rotated_matrix(linear, chosen)
        layer = quantised_layer(name, linear, _weight(name, matrix, chosen, job.run), prepared.activations[name])
        replacements[id(linear)] = layer
        rows.append(layer_row(name, matrix, layer))
        job.progress(name)
    replace(result, {**replacements, **tied_embeddings(result, replacements)})
    return record(result, prepared, rows)


@dataclass(frozen=True, eq=False)
class Preparation:
    """What is decided before the first weight is rounded.

    Parameters
    ----------
    plan : Plan
        The plan.
    settings : mapping
        Of each layer that is quantised, by name.
    activations : mapping
        How its inputs become codes; None leaves them floating point.
    data : CalibrationData or None
        The calibration data.
    bytes_before : int
        Size of the model in floating point.
    """

    plan: Plan
    settings: Mapping[str, Settings]
    activations: Mapping[str, ActivationQuantiser | None]
    data: calibration.CalibrationData | None
    bytes_before: int


def prepare(model: nn.Module, plan: Plan, data: calibration.CalibrationData | None, job: Job) -> Preparation:
    """Check model, plan and data against each other, and calibrate static scales of activations.

    Raises
    ------
    InputError
        As `quantize`.
    """
    settings = {name: s for name, s in plan.resolve(quantisable(model)).items() if not s.skip}
    if not settings:
        raise InputError("plan: every layer is skipped; nothing is left to quantise")
    for name, parameter in model.named_parameters():
        if parameter.is_complex():
            raise InputError(f"{name}: must be real, not {parameter.dtype}")
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(f"{name}: holds NaN or infinite values")
    static = [name for name, s in settings.items() if s.activation_bits and s.activation_granularity == "tensor"]
    if data is not None:
        calibration.require_fitting(model, data)
    elif static:
        raise InputError(
            f"data must be given: {static[0]} and {len(static) - 1} more have static activation scales "
            '(activation_granularity "token", or activation_bits null, need none)'
        )
    blocks = {name: _block(name, model.get_submodule(name), s) for name, s in settings.items()}
    ranges = _calibrate(model, {name: settings[name] for name in static}, blocks, data, job)
    activations = {
        name: ranges.get(name) or (ActivationQuantiser(s.activation_bits, s.activation_symmetric, hadamard=blocks[name])
                                   if s.activation_bits else None)
        for name, s in settings.items()
    }  # fmt: skip
    return Preparation(plan, settings, activations, data, bytes_of(model.state_dict().values()))


def rotated_matrix(linear: nn.Module | None, settings: Settings) -> Tensor:
    """The weights (out, in) of a layer, rotated if its inputs are."""
    matrix = matrix_of(linear)
    assert matrix is not None
    return rotate(matrix, block_of(settings, matrix.shape[1]))


def _block(name: str, linear: nn.Module, settings: Settings) -> int | None:
    """The block in which a layer's inputs are rotated. Raises `InputError` if none divides them."""
    matrix = matrix_of(linear)
    assert matrix is not None
    try:
        return block_of(settings, matrix.shape[1])
    except InputError as error:
        raise InputError(f"{name}: hadamard: {error}") from None


def quantised_layer(
    name: str, linear: nn.Module, weight: QuantisedWeight, activation: ActivationQuantiser | None
) -> QuantisedLinear:
    """The layer in integers that takes the place of `linear`, whose bias it has."""
    return QuantisedLinear(weight, dict(linear.named_parameters()).get("bias"), activation, name)


def record(model: nn.Module, prepared: Preparation, rows: Sequence[Mapping[str, Any]]) -> nn.Module:
    """The quantised model, with what was done to it as its attribute `quantisation`."""
    weights = sum(round(row["stored_bits_per_weight"] * row["inputs"] * row["outputs"] / 8) for row in rows)
    sizes = {"bytes_before": prepared.bytes_before, "bytes_after": weights + bytes_of(unquantised(model).values())}
    digest = None if prepared.data is None else prepared.data.digest
    setattr(model, ATTRIBUTE, Quantisation(prepared.plan, digest, tuple(rows), coverage_of(model) | sizes))
    return model


def quantisation_of(model: nn.Module) -> Quantisation:
    """What was done to a quantised model. Raises `InputError` for any other."""
    done = getattr(model, ATTRIBUTE, None)
    if not isinstance(done, Quantisation):
        raise InputError("the model must come from quantize or from_pretrained")
    return done


def activation_row(quantiser: ActivationQuantiser) -> dict[str, Any]:
    """An activation quantiser in JSON: multiplier and shift are null where each token has its own."""
    scale = quantiser.scale
    row = {
        "bits": quantiser.bits,
        "signed": quantiser.signed,
        "multiplier": None if scale is None else int(scale.multiplier),
        "shift": None if scale is None else int(scale.shift),
        "zero_point": quantiser.zero_point,
    }
    return row if quantiser.hadamard is None else row | {"hadamard": quantiser.hadamard}


def activation_from(row: Mapping[str, Any]) -> ActivationQuantiser:
    """The quantiser of `activation_row`."""
    scale = None
    if row["multiplier"] is not None:
        scale = Scale(torch.tensor(row["multiplier"]), torch.tensor(row["shift"]))
    return ActivationQuantiser(row["bits"], row["signed"], scale, row["zero_point"], row.get("hadamard"))


@dataclass(frozen=True, eq=False)
class _Behind:
    """An observer that sees what is behind a rotation in blocks."""

    observer: Observer
    block: int | None

    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        self.observer.update(rotate(values.detach(), self.block), mask)

    def row(self) -> dict[str, Any]:
        return activation_row(replaced(self.observer.quantiser(), hadamard=self.block))


def _calibrate(
    model: nn.Module,
    settings: Mapping[str, Settings],
    blocks: Mapping[str, int | None],
    data: calibration.CalibrationData | None,
    job: Job,
) -> dict[str, ActivationQuantiser]:
    """Static activation quantisers by name; one unit of the run."""
    if not settings or data is None:
        return {}
    found = job.run.done(CALIBRATION) if job.run is not None else None
    if found is None:
        observers = {name: _Behind(observer_for(name, s), blocks[name]) for name, s in settings.items()}
        observe(model, observers, data, lambda: job.progress(CALIBRATION))
        made = {name: observer.row() for name, observer in observers.items()}
        if job.run is not None:
            job.run.finish(CALIBRATION, {}, made)
    else:
        made = found[1]
    return {name: activation_from(row) for name, row in made.items()}


def _weight(name: str, matrix: Tensor, settings: Settings, run: RunDirectory | None) -> QuantisedWeight:
    """A layer's weight in integers; one unit of the run."""
    found = run.done(name) if run is not None else None
    if found is not None:
        tensors, row = found
        return read_weight("weight", row, tensors).to(matrix.device)
    try:
        weight = quantise_weight(matrix, settings)
    except InputError as error:
        raise InputError(f"{name}.weight: {error}") from None
    if run is not None:
        stored = {f"weight.{key}": tensor for key, tensor in weight_tensors(weight).items()}
        run.finish(name, stored, weight_row(weight))
    return weight


def layer_row(name: str, matrix: Tensor, layer: QuantisedLinear) -> dict[str, Any]:
    """What was done to a layer, and how far its weights are from those before, in dB."""
    weight = layer.weight
    before = matrix.detach().double()
    noise = float((weight.dequantise(torch.float64) - before).square().sum())
    signal = float(before.square().sum())
    stored = sum(tensor.nbytes for tensor in weight_tensors(weight).values())
    return {
        "module": name,
        "inputs": layer.in_features,
        "outputs": layer.out_features,
        "weight_bits": weight.bits,
        "group_size": weight.group_size,
        "symmetric": weight.signed,
        "activation_bits": None if layer.activation is None else layer.activation.bits,
        "per_token": layer.activation is not None and layer.activation.scale is None,
        "accumulator_bits": None if layer.bound is None else layer.bound.bit_length() + 1,
        "stored_bits_per_weight": 8 * stored / before.numel(),
        "weight_sqnr_db": 10 * math.log10(signal / noise) if noise and signal else None,
    } | _group_row(before, weight)


def _group_row(before: Tensor, weight: QuantisedWeight) -> dict[str, Any]:
    """How far the groups are from the weights before.

    Large weights decide `weight_sqnr_db`. `group_sqnr_db` counts every group alike: the mean of noise over signal, in
    dB. `coarse_groups` have a multiplier so small that their scale is rounded by up to a seventh and more.
    """
    size = weight.group_size
    noise, signal = (
        functional.pad(values.square(), (0, -values.shape[1] % size)).reshape(values.shape[0], -1, size).sum(-1)
        for values in (weight.dequantise(torch.float64) - before, before)
    )
    real = signal > 0
    ratio = float((noise[real] / signal[real]).mean()) if bool(real.any()) else 0.0
    multiplier = weight.group_multiplier
    coarse = real & (multiplier <= COARSE) & (multiplier.amax(1, keepdim=True) > COARSE)
    return {
        "group_sqnr_db": -10 * math.log10(ratio) if ratio else None,
        "coarse_groups": int(coarse.sum()),
    }


def advice(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """One line if an outlier leaves other groups of a layer a coarse scale; None if no layer has such groups."""
    found = [row for row in rows if row["coarse_groups"]]
    if not found:
        return None
    worst = max(found, key=lambda row: row["coarse_groups"])
    return (
        f"{worst['module']}: {worst['coarse_groups']} groups have multipliers of {COARSE} or less beside much larger "
        f"ones ({len(found)} layers have such groups); wider multipliers (multiplier_bits 16) hold their scales"
    )
