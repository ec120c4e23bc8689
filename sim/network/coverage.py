"""How much of a model became integers in its network, and by name what did not."""

from typing import Any

from torch import nn

from quant.methods.coverage import weight_products
from quant.primitives.linear import QuantisedLinear
from sim.network.converters.describe import without_head
from sim.network.graph import Network


def coverage(model: nn.Module, network: Network) -> dict[str, Any]:
    """The coverage of a model by its integer network.

    Parameters
    ----------
    model : nn.Module
        The model that was converted, with its head if it has one.
    network : Network
        Its network.

    Returns
    -------
    dict
        As `quant.methods.coverage.coverage_of`: `parameters`, the share of them in integers, the same of the
        multiply-accumulates with weights for one token or output position, and the class of each module that keeps a
        matrix in floating point (`skipped`), by name. A parameter that two modules share is counted once.
    """
    inner = dict(without_head(model).named_modules())
    claimed: set[int] = set()
    for operator in network.operators():
        for name, module in operator.claims().items():
            claimed |= {id(part) for part in module.modules()}
            if name not in inner:  # a part of a matrix that a module holds with others
                claimed.add(id(inner[name.rpartition(".")[0]]))
    integer: set[int] = set()
    sizes: dict[int, int] = {}
    done = every = 0
    skipped: dict[str, str] = {}
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        held = {id(parameter): parameter.numel() for parameter in own}
        count = weight_products(module)
        if isinstance(module, QuantisedLinear):
            count = module.in_features * module.out_features
            held[id(module)] = count
        sizes |= held
        every += count
        if id(module) in claimed:
            integer |= set(held)
            done += count
        elif count or any(parameter.ndim > 1 for parameter in own):
            skipped[name] = type(module).__name__
    whole, total = sum(sizes[key] for key in integer), sum(sizes.values())
    return {
        "integer_parameters": whole,
        "parameters": total,
        "share": whole / total,
        "integer_multiply_accumulates": done,
        "multiply_accumulates": every,
        "multiply_accumulate_share": done / every,
        "skipped": skipped,
    }
