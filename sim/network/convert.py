"""`convert(model, plan, data)`: calibrate a model in floating point, then make every operator integer."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from quant import Plan, Settings
from quant.calibration import CalibrationData, load
from sim.network.calibration import Calibration
from sim.network.converters.describe import describe, require_same, without_head
from sim.network.graph import Network
from sim.network.head import with_head
from sim.network.online_hadamard import with_hadamards
from sim.network.operators.base import ordinary_arithmetic, set_mode
from sim.reference import InputError


def convert(
    model: nn.Module,
    plan: Plan,
    data: CalibrationData | Iterable[Mapping[str, Any]],
    progress: Callable[[], object] = lambda: None,
) -> Network:
    """The integer network of `model`, in the mode "integer".

    Parameters
    ----------
    model
        A model that `sim.network.converters.describe.CONVERTERS` names, or one of transformers that has such a model
        and a head: the head stays outside, in floating point, and names are those of the model inside. It is not
        changed, and its parameters are shared. Layers that `quant` has quantised keep their codes. A language model's
        head is quantised too if a rule of the plan is for `lm_head` alone; the output is then the logits.
    plan
        Rules for the model's modules (`names` lists them): linear layers take the weight and activation settings;
        softmax, norms and activations take tables, each a `PwlTable` or "exact".
    data
        Batches of the model's keyword arguments.
    progress
        Called after each batch.

    Returns
    -------
    Network
        A module that takes the model's keyword arguments and computes every operator in integers.

    Raises
    ------
    InputError
        If a module has no integer operator, a rule matches nothing, a site has no table, or data are empty or give NaN.
        The line names the module or key.
    """
    return quantise(calibrate(model, plan, data, progress), plan)


def calibrate(
    model: nn.Module,
    plan: Plan,
    data: CalibrationData | Iterable[Mapping[str, Any]],
    progress: Callable[[], object] = lambda: None,
) -> Calibration:
    """The first half of `convert`: run the model on the data. Parameters and errors are those of `convert`."""
    with ordinary_arithmetic():
        inner = describe(without_head(model))
        network = with_head(inner, model, plan)
        model = model if network is not inner else without_head(model)
        settings = resolve(plan, network)
        network = with_hadamards(network, settings)
        data = load(data)
        with _evaluation(model):
            require_same(model, network, next(iter(data)))
        calibration = Calibration(network, settings, data.digest)
        calibration.run(data, progress)
        return calibration


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Every module is in evaluation mode within the context; its mode is restored afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def quantise(calibration: Calibration, plan: Plan) -> Network:
    """The second half of `convert`: quantise every operator according to `plan`.

    It can be repeated with other weights and tables on the same calibration, which is quick; it returns the same
    network object. Raises InputError as `convert` does, and if the plan's activations need other observations.
    """
    network = calibration.network
    settings = resolve(plan, network)
    for name, chosen in settings.items():
        _require_observed(name, calibration.settings[name], chosen)
    for _, site in calibration.sites.values():
        site.settings = settings
    with ordinary_arithmetic():
        for operator, site in calibration.sites.values():
            operator.quantise_at(site)
    network.plan, network.data_sha256 = plan, calibration.data_sha256
    set_mode(network, "integer")
    return network


def resolve(plan: Plan, network: Network) -> dict[str, Settings]:
    """The plan's settings for every name that its rules may use. Raises InputError if the network cannot keep one."""
    settings = plan.resolve(names(network))
    for name, chosen in settings.items():
        _require_integer(name, chosen)
    return settings


def names(network: Network) -> list[str]:
    """The names that a plan's rules may use: linear layers, norms, activations, and "...softmax" sites."""
    return [name for operator in network.operators() for name in operator.plan_names]


def functions(network: Network) -> list[str]:
    """The functions of which the network needs tables, in the order of first use."""
    return [*dict.fromkeys(function for operator in network.operators() for function in operator.functions)]


def _require_observed(name: str, seen: Settings, chosen: Settings) -> None:
    keys = ["activation_observer"]
    if chosen.activation_observer == "percentile":
        keys.append("percentile")
    if chosen.activation_granularity == "tensor":  # static scales were chosen for the bits
        keys += ["activation_granularity", "activation_bits"]
    for key in keys:
        was, now = getattr(seen, key), getattr(chosen, key)
        if was != now:
            raise InputError(f"{name}: {key} must be {was!r}, as it was calibrated, not {now!r}")


def _require_integer(name: str, settings: Settings) -> None:
    if settings.skip:
        raise InputError(f"{name}: no rule quantises it, but the integer network has no place for floating point")
    if settings.activation_bits is None or settings.activation_bits > 8:
        raise InputError(f"{name}: activation_bits must be in 2..8, not {settings.activation_bits}")
    if not settings.activation_symmetric:
        raise InputError(f"{name}: activation_symmetric must be true for the integer network")
