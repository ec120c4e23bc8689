"""ZeroQuant (Yao et al., 2206.01861) to integers: group-wise weights, token-wise activations, distillation if asked.

The paper's groups are blocks of whole rows of a matrix. The largest weight of a group is representable: its released
code clips 4-bit weights an eighth below it.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from quant import calibration
from quant.methods.blocks import outside_blocks, quantize_blocks
from quant.methods.distillation import Distillation
from quant.methods.layers import quantisable, unfolded
from quant.methods.post_training import Job, quantize
from quant.plan import WEIGHT_GRANULARITIES, Plan, Rule
from sim.reference import InputError

BITS = ("8", "4/8", "4", "3/8", "3")  # feed-forward / attention
ATTENTION = r".*([aA]ttn|[aA]ttention).*"  # of the names that models give these modules


@dataclass(frozen=True)
class Scheme:
    """Which bits and which scales.

    Parameters
    ----------
    weights : str
        Bits of the weights: "8", "4" or "3" throughout, "4/8" or "3/8": attention in 8, feed-forward in fewer.
    activations : int
        Bits of the inputs, 4 or 8.
    granularity : str
        What shares a scale: "tensor", "rows" (the paper's groups), "channel" (a row) or "group" (inputs of a row).
    groups : int, optional
        Blocks of rows of each matrix, 48 by default as in the paper; or inputs in a group, 64.
    tokenwise : bool
        A scale for each token, found when it is seen; else one static scale from calibration data.

    Raises
    ------
    InputError
        If a value is not one of these.
    """

    weights: str = "4/8"
    activations: int = 8
    granularity: str = "rows"
    groups: int | None = None
    tokenwise: bool = True

    def __post_init__(self) -> None:
        if self.weights not in BITS:
            raise InputError(f"weights must be one of {', '.join(BITS)}, not {self.weights!r}")
        if self.activations not in (4, 8):
            raise InputError(f"activations must be 4 or 8, not {self.activations}")
        if self.granularity not in WEIGHT_GRANULARITIES:
            raise InputError(f"granularity must be one of {', '.join(WEIGHT_GRANULARITIES)}, not {self.granularity!r}")
        if self.groups is not None and self.granularity not in ("rows", "group"):
            raise InputError(f'groups needs granularity "rows" or "group", not "{self.granularity}"')

    def plan(self, model: nn.Module, skip: str | None = None) -> Plan:
        """The plan for a model: layers in its blocks are quantised, all others are skipped, and those of `skip`.

        Raises
        ------
        InputError
            If the model has no linear layers in blocks, or attention has bits of its own and no layer in a block is
            named as attention.
        """
        outside = outside_blocks(model)
        low, _, attention = self.weights.partition("/")
        settings: dict[str, Any] = {
            "weight_bits": int(low), "weight_granularity": self.granularity, "weight_observer": "minmax",
            "activation_bits": self.activations,
            "activation_granularity": "token" if self.tokenwise else "tensor",
        }  # fmt: skip
        if self.granularity == "rows":
            settings["row_groups"] = 48 if self.groups is None else self.groups
        if self.granularity == "group":
            settings["group_size"] = 64 if self.groups is None else self.groups
        rules = [Rule(".*", **settings)]
        if attention:
            if not any(re.fullmatch(ATTENTION, name) for name in set(quantisable(unfolded(model))) - set(outside)):
                raise InputError(f'weights "{self.weights}": no layer is named as attention; use "{low}"')
            rules.append(Rule(ATTENTION, weight_bits=int(attention)))
        rules += [Rule(re.escape(name), skip=True) for name in outside]
        return Plan((*rules, Rule(skip, skip=True)) if skip is not None else tuple(rules))


def zeroquant(
    model: nn.Module,
    data: Any = None,
    scheme: Scheme | None = None,
    distillation: Distillation | None = None,
    *,
    skip: str | None = None,
    inplace: bool = False,
    job: Job | None = None,
) -> nn.Module:
    """A quantised model, as `quant.quantize` gives it.

    Parameters
    ----------
    model : nn.Module
        The model in floating point.
    data : optional
        Batches, as `quant.calibration.load` takes them; needed for static scales and for distillation.
    scheme : Scheme, optional
        Bits and scales; by default W4/8A8 in blocks of rows, token-wise.
    distillation : Distillation, optional
        Train block by block; else weights are rounded to nearest.
    skip : str, optional
        A regular expression: layers that stay as they are.
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
        As `quantize` and `quantize_blocks`.
    """
    plan = (scheme or Scheme()).plan(model, skip)
    loaded = None if data is None else calibration.load(data)
    if distillation is None:
        return quantize(model, plan, loaded, inplace=inplace, job=job)
    return quantize_blocks(model, plan, loaded, distillation, inplace=inplace, job=job)


def random_tokens(model: nn.Module, sampling: calibration.Sampling) -> calibration.CalibrationData:
    """Tokens drawn evenly from the model's vocabulary: data for a model whose own are out of reach.

    Raises
    ------
    InputError
        If the model's configuration has no vocabulary.
    """
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", None)
    if not isinstance(vocabulary, int):
        raise InputError("random data need a model with a vocabulary")
    generator = torch.Generator().manual_seed(sampling.seed)
    shape = sampling.samples, sampling.sequence_length
    rows = torch.randint(vocabulary, shape, generator=generator).split(sampling.batch_size)
    return replace(calibration.load([{"input_ids": part} for part in rows]), sampling=sampling)
