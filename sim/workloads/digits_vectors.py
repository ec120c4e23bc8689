"""The digits network's real activations as vectors: trained, converted to integers, and recorded at every site."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from quant import Plan
from quant.zoo import digits
from quant.zoo.digits import Data
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.operators.recording import Seen
from sim.network.recorded_vectors import network_sets, record
from sim.network.table_sets import Tables
from sim.reference import PwlTable, floating
from sim.reference.float_pwl import FloatTable
from sim.reference.floating import FORMATS
from sim.vectors.floating import float_pwl_set
from sim.vectors.vector_set import VectorSet

CALIBRATION_IMAGES = 128
FUNCTIONS = ("gelu", "exp", "div", "rsqrt")


def digits_sets(tables: Tables, seed: int = 0, images: int = 128, epochs: int = 25) -> list[VectorSet]:
    """Train, convert and run `images` test images; returns every site's codes with the specification's outputs.

    `tables` holds a table for each of `FUNCTIONS`. The inputs of the GELUs are there again for the floating-point
    units.
    """
    training, test = digits.load_data(seed)
    model = digits.train(training, seed, epochs)
    network = integer_network(model, training.images[:CALIBRATION_IMAGES], tables)
    source = {
        "network": "digits",
        "seed": seed,
        "accuracy": digits.accuracy(model, test),
        "accuracy_quantised": accuracy(network, test),
    }
    batch = {"images": test.images[:images]}
    sets = network_sets("digits", network, [batch], source)
    gelu = tables["gelu"]
    assert isinstance(gelu, PwlTable)
    return [*sets, *_as_numbers("digits-gelu", gelu, _gelu_inputs(network, record(network, [batch])), source)]


def integer_network(model: digits.Digits, images: torch.Tensor, tables: Tables) -> Network:
    """The network in W8A8 with activations per token, calibrated on `images`."""
    return convert(model, Plan.uniform(activation_granularity="token", tables=tables), [{"images": images}])


@torch.no_grad()
def accuracy(network: Network, data: Data) -> float:
    """The accuracy of the integer network."""
    return float((network.codes(images=data.images).argmax(-1) == data.labels).float().mean())


def _gelu_inputs(network: Network, seen: Seen) -> np.ndarray:
    """The values that reach the GELUs: codes times the scales of their channels."""
    found = []
    for operator in network.operators():
        if operator.functions == ("gelu",):
            [grid] = operator.inputs
            found += [grid.real(arguments[0], torch.float64).numpy().ravel() for arguments, _ in seen[operator.name]]
    return np.concatenate(found)


def _as_numbers(name: str, table: PwlTable, values: np.ndarray, source: dict[str, Any]) -> Sequence[VectorSet]:
    """Values for the floating-point unit, in each of its formats."""
    return [
        float_pwl_set(f"{name}-{key}", [(FloatTable.of_table(number, table), floating.encode(number, values))], source)
        for key, number in FORMATS.items()
    ]
