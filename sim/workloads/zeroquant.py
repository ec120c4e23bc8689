"""The trials of ZeroQuant (2206.01861): its table's steps, its groups beside others, and GPTQ."""

from typing import Any

from torch import nn

from quant.methods.blocks import quantize_blocks
from quant.methods.distillation import PRESETS, Distillation
from quant.methods.gptq import Gptq
from quant.methods.zeroquant import Scheme, zeroquant
from sim.workloads.method_subjects import Subject
from sim.workloads.method_trials import Trial

GROUPS = {"char_lm": 8, "minilm": 48, "smollm2": 48}  # blocks of rows of each matrix


def trials(subject: Subject, quick: bool = False) -> list[Trial]:
    """The trials of a subject: with static scales and distilled only those of `char_lm`. `quick` leaves out some."""
    every = [_rounded(subject, "+ token-wise", "8")]
    language = subject.name == "char_lm"
    for weights in ("3/8",) if language and quick else ("3/8", "4/8"):
        if language:
            every += [
                _rounded(subject, "rounding", weights, granularity="tensor", tokenwise=False),
                _rounded(subject, "+ row groups", weights, tokenwise=False, against="rounding"),
            ]
        every += [
            _rounded(subject, "per tensor", weights, granularity="tensor"),
            _rounded(subject, "+ token-wise", weights, against="+ row groups" if language else "per tensor"),
            _rounded(subject, "per channel", weights, granularity="channel", against="+ token-wise"),
            _rounded(subject, "groups of 64", weights, granularity="group", against="per channel"),
        ]
        if subject.unit == "nats":
            every.append(_gptq(weights))
        if language:
            every.append(_distilled(subject, weights, "train"))
    if language and not quick:
        every += [_distilled(subject, "3/8", text) for text in ("random", "dictionary")]
    return every


def _rounded(
    subject: Subject, name: str, weights: str, *, granularity: str = "rows", tokenwise: bool = True,
    against: str | None = None,
) -> Trial:  # fmt: skip
    groups = GROUPS[subject.name] if granularity == "rows" else None
    scheme = Scheme(weights, granularity=granularity, groups=groups, tokenwise=tokenwise)

    def make(subject: Subject, seed: int) -> nn.Module:
        data = None if tokenwise else subject.data("train", seed)
        return zeroquant(subject.model, data, scheme)

    return Trial(name, _columns(weights, scheme, None if tokenwise else "train"), make, not tokenwise, against)


def _gptq(weights: str) -> Trial:
    scheme = Scheme(weights, granularity="channel")

    def make(subject: Subject, seed: int) -> nn.Module:
        data = subject.data("train", seed)
        return quantize_blocks(subject.model, scheme.plan(subject.model), data, Gptq())

    return Trial("GPTQ", _columns(weights, scheme, "train"), make, True, "per channel")


def _distilled(subject: Subject, weights: str, text: str) -> Trial:
    scheme = Scheme(weights, groups=GROUPS[subject.name])

    def make(subject: Subject, seed: int) -> nn.Module:
        distillation = Distillation(rates=(PRESETS["small"],), seed=seed)
        return zeroquant(subject.model, subject.data(text, seed), scheme, distillation)

    return Trial("+ LKD", _columns(weights, scheme, text), make, True, "+ token-wise")


def _columns(weights: str, scheme: Scheme, data: str | None) -> dict[str, Any]:
    scales = f"{scheme.groups} blocks of rows" if scheme.granularity == "rows" else scheme.granularity
    return {"weights": f"W{weights}", "scales": scales, "inputs": "token" if scheme.tokenwise else "tensor",
            "data": data}  # fmt: skip
