"""Where 4-bit inputs and weights hurt a model: the statistics of each linear layer, and the harm of each kind of layer.

Source: 2505.14302, section 4 (kurtosis of the inputs of the second feed-forward layer, its 8-bit exception); online
Hadamard rotations after QuaRot, 2404.00456.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quant.methods.layers import matrix_of, quantisable
from quant.methods.perplexity import is_causal
from quant.plan import Plan, Rule
from quant.primitives.hadamard import rotate
from quant.primitives.observers import evaluating, observe, token_mask
from sim.common.errors import InputError, require_range

Batches = Sequence[Mapping[str, Any]]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Diagnosis:
    """What is measured.

    Parameters
    ----------
    groups : tuple of int
        Group sizes, 0 for a whole row.
    bits : int
        Of weights and inputs.
    rows : int
        Tokens of each layer's input that its statistics are computed on.

    Raises InputError if a number is out of its range.
    """

    groups: tuple[int, ...] = (32, 128, 0)
    bits: int = 4
    rows: int = 256

    def __post_init__(self) -> None:
        require_range("bits", self.bits, 2, 8)
        require_range("rows", self.rows, 16, 1 << 20)
        if not self.groups:
            raise InputError("groups must name at least one group size")
        for group in self.groups:
            require_range("group", group, 0, 1 << 20)


def kind_of(name: str) -> str:
    """The last part of a module's name that is no number: layers of one kind have it in common."""
    return next((part for part in reversed(name.split(".")) if not part.isdigit()), name)


def layer_rows(model: nn.Module, batches: Batches, diagnosis: Diagnosis | None = None) -> list[dict[str, Any]]:
    """One row for each linear layer and group size.

    Errors are squared and relative to the layer's output in floating point: from rounding its weights alone, its
    inputs alone, both, its inputs at 8 bits, and its inputs behind an online Hadamard rotation.

    Parameters
    ----------
    model : nn.Module
        In floating point. It is not changed.
    batches : sequence of mappings
        Keyword arguments of the model.
    diagnosis : Diagnosis, optional

    Returns
    -------
    list of dict
        `module`, `kind`, `inputs`, `outputs`, `group`, `input_kurtosis`, `output_kurtosis`, `weight_error`,
        `input_error`, `both_error`, `input_error_8_bits`, `input_error_hadamard`.

    Raises
    ------
    InputError
        The model has no linear layer, or the data reach none.
    """
    diagnosis = diagnosis or Diagnosis()
    inputs = _inputs(model, batches, diagnosis.rows)
    rows = []
    for name, module in quantisable(model).items():
        matrix = matrix_of(module)
        if name not in inputs or matrix is None:
            continue  # a layer that the data did not reach, such as an unused expert
        x, weight = inputs[name], matrix.detach().float()
        statistics = {"module": name, "kind": kind_of(name), "inputs": weight.shape[1], "outputs": weight.shape[0],
                      "input_kurtosis": kurtosis(x), "output_kurtosis": kurtosis(x @ weight.t())}  # fmt: skip
        rows += [
            statistics | {"group": group, **_errors(x, weight, group, diagnosis.bits)} for group in diagnosis.groups
        ]
    return rows


def kind_rows(
    model: nn.Module, batches: Batches, group: int = 0, bits: int = 4, progress: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """The harm of each kind of layer to the whole model, worst first.

    In turn the inputs of all layers of one kind are rounded and everything else stays floating point.

    Returns
    -------
    list of dict
        `kind`, `layers`, and the relative squared error of the model's output with inputs of `bits` bits, of 8 bits and
        of `bits` bits behind a Hadamard rotation: `output_error`, `output_error_8_bits`, `output_error_hadamard`. A
        language model has the increase of its loss in nats per token too: `loss_increase`, `loss_increase_8_bits`,
        `loss_increase_hadamard`.
    """
    layers = quantisable(model)
    kinds: dict[str, list[nn.Module]] = {}
    for name, module in layers.items():
        kinds.setdefault(kind_of(name), []).append(module)
    reference = _run(model, batches)
    changes: dict[str, Change] = {
        "": lambda x: round_inputs(x, group, bits),
        "_8_bits": lambda x: round_inputs(x, group, 8),
        "_hadamard": lambda x: hadamard(round_inputs(hadamard(x), group, bits)),
    }
    rows = []
    for kind, modules in kinds.items():
        row: dict[str, Any] = {"kind": kind, "layers": len(modules)}
        for suffix, change in changes.items():
            with _changed(modules, change):
                outputs, loss = _run(model, batches)
            error = sum(float((a - b).square().sum()) for a, b in zip(outputs, reference[0], strict=True))
            row[f"output_error{suffix}"] = error / sum(float(b.square().sum()) for b in reference[0])
            if loss is not None and reference[1] is not None:
                row[f"loss_increase{suffix}"] = loss - reference[1]
        rows.append(row)
        if progress is not None:
            progress(kind)
    key = "loss_increase" if reference[1] is not None else "output_error"
    return sorted(rows, key=lambda row: -row[key])


def mixed_plan(kinds: Sequence[str], bits: int = 4, group: int = 0) -> Plan:
    """Weights and token-wise inputs of `bits` bits, and 8-bit inputs for layers of the named kinds."""
    base: dict[str, Any] = {"weight_bits": bits, "activation_bits": bits, "activation_granularity": "token"}
    if group:
        base["group_size"] = group
    # a kind is followed by numbers alone: `experts.3`
    exceptions = [Rule(rf"(.*\.)?{_literal(kind)}[.\d]*", activation_bits=8) for kind in kinds]
    return Plan((Rule(".*", **base), *exceptions))


def round_inputs(x: Tensor, group: int, bits: int) -> Tensor:
    """Symmetric codes with the largest magnitude of each row's group (0: of the row) at the top code."""
    size = min(group or x.shape[-1], x.shape[-1])
    padded = functional.pad(x, (0, -x.shape[-1] % size))
    parts = padded.reshape(*padded.shape[:-1], -1, size)
    top = (1 << (bits - 1)) - 1
    step = parts.abs().amax(-1, keepdim=True) / top
    step = torch.where(step > 0, step, 1.0)
    rounded = torch.floor(parts / step + 0.5).clamp(-top, top) * step
    return rounded.reshape(padded.shape)[..., : x.shape[-1]]


def hadamard(x: Tensor) -> Tensor:
    """The last axis rotated in blocks by the normalised Hadamard matrix, which is its own inverse.

    A block is the largest power of two that divides the axis: 1536 = 3 x 512.
    """
    return rotate(x, x.shape[-1] & -x.shape[-1])


def kurtosis(values: Tensor) -> float:
    """E[(x - mean)^4] / variance^2 over all elements; 3 for a normal distribution, 0 for a constant."""
    centered = values.double() - values.double().mean()
    variance = centered.square().mean()
    return float(centered.pow(4).mean() / variance.square()) if variance > 0 else 0.0


def _errors(x: Tensor, weight: Tensor, group: int, bits: int) -> dict[str, float]:
    output = (x @ weight.t()).square().sum().clamp(min=torch.finfo(torch.float32).tiny)

    def relative(error: Tensor) -> float:
        return float(error.square().sum() / output)

    rounded_x, rounded_w = round_inputs(x, group, bits), round_inputs(weight, group, bits)
    turned, turned_w = hadamard(x), hadamard(weight)
    return {
        "weight_error": relative(x @ (rounded_w - weight).t()),
        "input_error": relative((rounded_x - x) @ weight.t()),
        "both_error": relative(rounded_x @ rounded_w.t() - x @ weight.t()),
        "input_error_8_bits": relative((round_inputs(x, group, 8) - x) @ weight.t()),
        "input_error_hadamard": relative((round_inputs(turned, group, bits) - turned) @ turned_w.t()),
    }


@torch.no_grad()
def _inputs(model: nn.Module, batches: Batches, rows: int) -> dict[str, Tensor]:
    """Rows (at most `rows`, in) of each linear layer's inputs, evenly taken from the batches; padding is left out."""
    layers = quantisable(model)
    if not layers:
        raise InputError("the model has no linear layer that can be quantised")
    if not batches:
        raise InputError("data: the data set is empty")
    observe(model, {}, batches[:1])  # arguments that the model does not take are one line
    share = -(-rows // len(batches))
    kept: dict[str, list[Tensor]] = {}
    mask: Tensor | None = None

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, arguments: tuple[Any, ...]) -> None:
            x = arguments[0].detach().float()
            if mask is not None and x.shape[:-1] == mask.shape:
                x = x[mask]
            x = x.reshape(-1, x.shape[-1])
            if len(x):
                kept.setdefault(name, []).append(x[:: -(-len(x) // share)].clone())

        return hook

    handles = [module.register_forward_pre_hook(keep(name)) for name, module in layers.items()]
    try:
        with evaluating(model):
            for batch in batches:
                mask = token_mask(batch)
                model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    if not kept:
        raise InputError("the data reach no linear layer")
    return {name: torch.cat(parts) for name, parts in kept.items()}


@torch.no_grad()
def _run(model: nn.Module, batches: Batches) -> tuple[list[Tensor], float | None]:
    """The model's first output for each batch, and its loss in nats per token if it is a causal language model."""
    outputs, total, tokens = [], 0.0, 0
    causal = is_causal(model)
    with evaluating(model):
        for batch in batches:
            result = model(**batch)
            first = next(iter(result.values())) if isinstance(result, Mapping) else result
            first = first[0] if isinstance(first, (tuple, list)) else first
            ids = batch.get("input_ids")
            if ids is not None and causal:
                wanted = ids[:, 1:].clone()
                if (mask := token_mask(batch)) is not None:
                    wanted[~mask.expand_as(ids)[:, 1:]] = -100
                loss = functional.cross_entropy(first[:, :-1].flatten(0, 1).float(), wanted.flatten(), reduction="sum")
                total, tokens = total + float(loss), tokens + int((wanted != -100).sum())
            outputs.append(first.float())
    return outputs, total / tokens if tokens else None


@contextmanager
def _changed(modules: Iterable[nn.Module], change: Change) -> Iterator[None]:
    """The modules get changed inputs inside the block."""

    def hook(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return change(arguments[0]), *arguments[1:]

    handles = [module.register_forward_pre_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in text)
