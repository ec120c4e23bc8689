"""The digits network's real activations as vectors: one set for each site of each block, taken by forward hooks."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.zoo import digits
from quant.zoo.digits import Gelu, Site, Softmax, Tables
from sim.reference import InputError, LoweredTable, Normaliser, PwlTable, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FORMATS
from sim.vectors.floating import float_pwl_set
from sim.vectors.normaliser import normaliser_set, top_scale
from sim.vectors.pwl import output_scale, pwl_set
from sim.vectors.vector_set import VectorSet

CALIBRATION_IMAGES = 128
DIV_SCALE = 14  # 1/sum is at most 1, since the largest term of a sum is 1, and its code is 16 bits wide


def choose_tables(tables: Iterable[PwlTable]) -> Tables:
    """The smallest 8-bit table of each site, DIV on one octave. Raises `InputError` where one is missing."""
    chosen = {}
    for name in ("gelu", "exp", "div"):
        fitting = [
            table
            for table in tables
            if table.function == name
            and (table.in_bits, table.in_signed, table.out_bits) == (8, True, 8)
            and (table.normaliser_step == 1) == (name == "div")
        ]
        if not fitting:
            raise InputError(f"tables must hold an 8-bit table of {name} for the digits network")
        chosen[name] = min(fitting, key=lambda table: table.entries)
    return Tables(**chosen)


def digits_sets(tables: Tables, seed: int = 0, images: int = 128, epochs: int = 25) -> list[VectorSet]:
    """Train, quantise, run `images` test images and give every site's codes with the specification's outputs."""
    training, test = digits.load_data(seed)
    model = digits.train(training, seed, epochs)
    source = {"network": "digits", "seed": seed, "accuracy": digits.accuracy(model, test)}
    digits.quantise_weights(model)
    lowered = quantise_sites(model, training.images[:CALIBRATION_IMAGES], tables)
    source["accuracy_quantised"] = digits.accuracy(model, test)
    codes = record(
        model, [name for name, module in model.named_modules() if isinstance(module, Site)], test.images[:images]
    )
    sets = []
    for site, values in codes.items():
        name = "digits-" + site.replace("blocks.", "block").replace(".site", "").replace(".", "-")
        table = lowered[site]
        where = source | {"site": site}
        if isinstance(table, Normaliser):
            sets.append(normaliser_set(name, table, values, where, DIV_SCALE, out_bits=16))
        else:
            sets.append(pwl_set(name, [(table, values)], where))
            if isinstance(model.get_submodule(site.rpartition(".")[0]), Gelu):
                sets += _as_numbers(name, tables.gelu, np.ldexp(values.astype(float), -table.s), where)
    return sets


def _as_numbers(name: str, table: PwlTable, values: np.ndarray, source: dict[str, Any]) -> list[VectorSet]:
    """A site's values (codes times their scale) for the floating-point unit, in each of its formats."""
    return [
        float_pwl_set(f"{name}-{key}", [(FloatTable.of_table(number, table), floating.encode(number, values))], source)
        for key, number in FORMATS.items()
    ]


def quantise_sites(model: nn.Module, images: Tensor, tables: Tables) -> dict[str, LoweredTable | Normaliser]:
    """Put the tables in, each at the scale that disturbs its site's output least on `images`; site name to table."""
    sites = [name for name, module in model.named_modules() if isinstance(module, Gelu | Softmax)]
    inputs = inputs_of(model, sites, images)
    exp_scale = min(6, output_scale(tables.exp))
    div = Normaliser(tables.div, top_scale(tables.div), 16, exp_scale)
    used: dict[str, LoweredTable | Normaliser] = {}
    gelu_scale = output_scale(tables.gelu)
    for name in sites:
        module = model.get_submodule(name)
        if isinstance(module, Gelu):
            table = tables.gelu.lower(_best_scale(tables.gelu, gelu_scale, inputs[name], functional.gelu), gelu_scale)
            module.quantise(table, gelu_scale)
            used[f"{name}.site"] = table
        elif isinstance(module, Softmax):
            distance = inputs[name] - inputs[name].amax(-1, keepdim=True)
            table = tables.exp.lower(_best_scale(tables.exp, exp_scale, distance, torch.exp), exp_scale)
            module.quantise(table, exp_scale, div, DIV_SCALE)
            used |= {f"{name}.exp": table, f"{name}.div": div}
    return used


def _best_scale(table: PwlTable, out: int, x: Tensor, function: Callable[[Tensor], Tensor]) -> int:
    """The scale exponent with the least squared error of `function`, of those that reach the output scale `out`."""

    def error(scale: int) -> float:
        return float(((function(digits.to_codes(x, scale) * 2.0**-scale) - function(x)) ** 2).mean())

    return min((s for s in table.scales if table.slope_frac_bits + s >= out), key=error)


@torch.no_grad()
def inputs_of(model: nn.Module, names: list[str], images: Tensor) -> dict[str, Tensor]:
    """What reaches each named module, in one forward pass."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.__setitem__(name, inputs[0].detach())
        )
        for name in names
    ]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def record(model: nn.Module, names: list[str], images: Tensor) -> dict[str, np.ndarray]:
    """The codes that reach each named site, flattened; int64."""
    return {name: codes.numpy().ravel().astype(np.int64) for name, codes in inputs_of(model, names, images).items()}
