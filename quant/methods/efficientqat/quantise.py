"""EfficientQAT, both phases, from a model in floating point to a quantised one."""

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from quant import calibration
from quant.formats.packed import read_weight, weight_row, weight_tensors
from quant.methods.blocks import RoundToNearest, on_device, outside_blocks, quantize_blocks
from quant.methods.efficientqat.block_ap import BlockAp
from quant.methods.efficientqat.e2e_qp import E2eQp
from quant.methods.layers import matrix_of, quantisable, unfolded
from quant.methods.layers import replace as put
from quant.methods.perplexity import is_causal
from quant.methods.post_training import ATTRIBUTE, Job, layer_row, quantisation_of, quantised_layer
from quant.plan import Plan, Rule
from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import evaluating
from quant.primitives.quantisers import ActivationQuantiser
from sim.reference import InputError

BITS = (2, 3, 4)
UNIT = "step sizes"  # of the run directory


@dataclass(frozen=True)
class Options:
    """What EfficientQAT does.

    Parameters
    ----------
    bits : int
        Of a weight, 2..4.
    group : int
        Inputs that share a step and a zero point.
    block_ap : BlockAp, optional
        The first phase; without it weights are rounded to nearest over each group's range.
    e2e_qp : E2eQp, optional
        The second phase.
    multiplier_bits : int
        Width of a group's integer multiplier.
    skip : str, optional
        A regular expression: layers that stay as they are, besides those outside the blocks.

    Raises
    ------
    InputError
        If bits are not 2, 3 or 4.
    """

    bits: int = 2
    group: int = 64
    block_ap: BlockAp | None = None
    e2e_qp: E2eQp | None = None
    multiplier_bits: int = 8
    skip: str | None = None

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise InputError(f"bits must be one of {', '.join(map(str, BITS))}, not {self.bits}")

    def plan(self, model: nn.Module) -> Plan:
        """The plan for a model: unsigned grouped weights in its blocks, inputs in floating point.

        Raises
        ------
        InputError
            If the model has no linear layers in blocks.
        """
        rules = [
            Rule(".*", weight_bits=self.bits, group_size=self.group, weight_symmetric=False, weight_observer="minmax",
                 multiplier_bits=self.multiplier_bits, activation_bits=None)
        ]  # fmt: skip
        rules += [Rule(re.escape(name), skip=True) for name in outside_blocks(model)]
        return Plan((*rules, Rule(self.skip, skip=True)) if self.skip is not None else tuple(rules))


def efficientqat(
    model: nn.Module,
    data: Any,
    options: Options | None = None,
    *,
    job: Job | None = None,
) -> nn.Module:
    """A quantised copy of a model, as `quant.quantize` gives it.

    Parameters
    ----------
    model : nn.Module
        The model in floating point; the teacher of the second phase.
    data : path or iterable of mappings
        Batches, as `quant.calibration.load` takes them.
    options : Options, optional
        Bits, groups and phases; by default both phases with the paper's rates.
    job : Job, optional
        Run directory and progress; each block is a unit, and so is the second phase.

    Returns
    -------
    nn.Module
        The quantised model in evaluation mode; its attribute `quantisation` says what was done.

    Raises
    ------
    InputError
        As `quantize_blocks`; a loss that is not finite names the block. The second phase needs a causal language model.
    """
    options = options or Options(block_ap=BlockAp(), e2e_qp=E2eQp())
    job = job or Job()
    if options.e2e_qp is not None and not is_causal(model):
        raise InputError(
            f"step sizes train end to end in a causal language model, not {type(model).__name__}; "
            "the first phase (block_ap) alone takes it"
        )
    loaded = calibration.load(data)
    teacher = unfolded(model)
    made = quantize_blocks(model, options.plan(teacher), loaded, options.block_ap or RoundToNearest(), job=job)
    return made if options.e2e_qp is None else train_steps(made, teacher, loaded, options.e2e_qp, job)


def with_inputs(made: nn.Module, bits: int = 8) -> nn.Module:
    """A quantised model, changed in place, whose layers take codes with a scale for each token: their sums are exact.

    What `quantisation` says of the layers is as before, with these inputs.
    """
    done = quantisation_of(made)
    layers = {name: m for name, m in made.named_modules() if isinstance(m, QuantisedLinear)}
    activation = ActivationQuantiser(bits)
    put(made, {id(old): quantised_layer(name, old, old.weight, activation) for name, old in layers.items()})
    rows = tuple({**row, "activation_bits": bits, "per_token": True} for row in done.rows)
    plan = Plan((*done.plan.rules, *(Rule(re.escape(name), activation_bits=bits, activation_granularity="token")
                                     for name in layers)))  # fmt: skip
    setattr(made, ATTRIBUTE, replace(done, plan=plan, rows=rows))
    return made


def train_steps(
    made: nn.Module, model: nn.Module, data: calibration.CalibrationData, phase: E2eQp, job: Job
) -> nn.Module:
    """A quantised model with the step sizes of the second phase, a unit of the run. `model`, unfolded, teaches."""
    done = quantisation_of(made)
    layers = {name: m for name, m in made.named_modules() if isinstance(m, QuantisedLinear)}
    found = job.run.done(UNIT) if job.run is not None else None
    if found is None:
        with evaluating(model):
            weights, losses = phase.train(made, model, on_device(made, data), done.plan.resolve(quantisable(model)))
        if job.run is not None:
            stored = {f"{n}.{key}": t for n, w in weights.items() for key, t in weight_tensors(w).items()}
            rows = {name: weight_row(weight) for name, weight in weights.items()}
            job.run.finish(UNIT, stored, {"weights": rows, "held_out": losses})
    else:
        tensors, row = found
        weights = {name: read_weight(name, row["weights"][name], tensors) for name in layers}
    rows = []
    for name, layer in layers.items():
        matrix = matrix_of(model.get_submodule(name))
        assert matrix is not None
        new = quantised_layer(name, layer, weights[name].to(matrix.device), None)
        with torch.no_grad():
            rows.append(layer_row(name, matrix, new))
        put(made, {id(layer): new})
    setattr(made, ATTRIBUTE, replace(done, rows=tuple(rows)))
    job.progress(UNIT)
    return made
