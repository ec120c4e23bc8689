"""The blocks of a transformer: found by its structure, and quantised one after the other with their activations.

A run of blocks is the children of one class that follow each other in a list of modules, such as a decoder's layers.
The output of a block is the input of the next, which is checked on a batch. A method sees one block at a time, with
the activations that flow through it, and gives the integer weights of its layers.
"""

import contextlib
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from quant.calibration import CalibrationData
from quant.formats.packed import read_weight, weight_row, weight_tensors
from quant.methods.layers import quantisable, replace, unfold
from quant.methods.post_training import Job, Preparation, layer_row, prepare, quantised_layer, record, rotated_matrix
from quant.plan import Plan, Settings
from quant.primitives.linear import QuantisedLinear
from quant.primitives.observers import evaluating, observe, token_mask
from quant.primitives.quantisers import ActivationQuantiser, QuantisedWeight, quantise_weight
from sim.reference import InputError

Batch = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a block that is quantised: its name in the model, its settings, and how its inputs become codes."""

    name: str
    module: nn.Module
    settings: Settings
    activation: ActivationQuantiser | None

    @property
    def matrix(self) -> Tensor:
        """The real weights (out, in), rotated if the inputs are."""
        return rotated_matrix(self.module, self.settings)

    def nearest(self) -> QuantisedWeight:
        """The weights rounded to nearest. Raises `InputError`, with the name, if the settings do not fit them."""
        try:
            return quantise_weight(self.matrix, self.settings)
        except InputError as error:
            raise InputError(f"{self.name}.weight: {error}") from None


@dataclass(frozen=True, eq=False)
class Block:
    """A block: its name in the model, its module, and its layers that are quantised, by their names in the model."""

    name: str
    module: nn.Module
    layers: Mapping[str, Layer] = field(default_factory=dict)


@dataclass(eq=False)
class Streams:
    """What flows through a block, a list of one entry for each batch of the data.

    Parameters
    ----------
    inputs : list of Tensor
        Hidden states (batch, ..., width) that the floating-point model gives the block.
    targets : list of Tensor
        Hidden states that its floating-point block makes of them.
    quantised : list of Tensor
        Hidden states that the blocks before, quantised, give the block.
    masks : list of Tensor or None
        True where a token counts.
    calls : list
        The other arguments of the block.
    """

    inputs: list[Tensor]
    targets: list[Tensor]
    quantised: list[Tensor]
    masks: list[Tensor | None]
    calls: list["Call"]

    def run(self, block: nn.Module, i: int, hidden: Tensor) -> Tensor:
        """What a block makes of hidden states in batch `i`."""
        return self.calls[i].run(block, hidden)


class Method(Protocol):
    """A quantiser of blocks.

    It gives the integer weight of each of the block's layers, by the names in the model, and may change the block's
    other parameters in place. `streams` is None if the method's `data` is false.

    Raises
    ------
    InputError
        If a value is not finite; names the block.
    """

    data: bool

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]: ...


@dataclass(frozen=True)
class RoundToNearest:
    """The method that rounds every weight to the nearest code; the baseline."""

    data = False

    def __call__(self, block: Block, streams: Streams | None) -> Mapping[str, QuantisedWeight]:
        return {name: layer.nearest() for name, layer in block.layers.items()}


@dataclass(frozen=True, eq=False)
class Call:
    """The arguments of one call of a block; the hidden state is the first positional one, or that of a name."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]

    @property
    def key(self) -> str | None:
        """The name under which the hidden state is passed; None if it is the first positional argument."""
        if self.positional:
            return None
        if "hidden_states" in self.named:
            return "hidden_states"
        return next((key for key, value in self.named.items() if isinstance(value, Tensor)), "hidden_states")

    @property
    def hidden(self) -> Tensor:
        """The hidden state."""
        return self.positional[0] if self.key is None else self.named[self.key]

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """The hidden state that a block makes of another one with these arguments."""
        if self.key is None:
            return _first(block(hidden, *self.positional[1:], **self.named))
        return _first(block(**{**self.named, self.key: hidden}))


def find_runs(model: nn.Module, names: Iterable[str]) -> list[list[Block]]:
    """What may be runs of blocks: they hold layers of these names. Outer ones come before those inside their blocks.

    Parameters
    ----------
    model : nn.Module
        The model.
    names : iterable of str
        Layers that are to be quantised.
    """
    wanted = set(names)
    runs: list[list[Block]] = []

    def visit(name: str, module: nn.Module) -> None:
        children = [(f"{name}.{key}" if name else key, child) for key, child in module.named_children()]
        for kind, part in groupby(children, key=lambda pair: type(pair[1])):
            found = [Block(path, child) for path, child in part]
            listed = isinstance(module, (nn.ModuleList, nn.Sequential)) and kind is not nn.ModuleList
            composed = any(True for _ in found[0].module.children())
            if listed and composed and any(n.startswith(f"{b.name}.") for b in found for n in wanted):
                runs.append(found)
            for block in found:
                visit(block.name, block.module)

    visit("", model)
    return runs


def outside_blocks(model: nn.Module) -> list[str]:
    """The linear layers that are in no list of blocks, such as a head: a plan skips them.

    Raises
    ------
    InputError
        If no linear layer is in one.
    """
    names = list(quantisable(model))
    blocks = [block.name for run in find_runs(model, names) for block in run]
    outside = [name for name in names if not any(name.startswith(f"{block}.") for block in blocks)]
    if len(outside) == len(names):
        raise InputError("the model has no blocks with linear layers")
    return outside


def check_runs(model: nn.Module, runs: Sequence[Sequence[Block]], batch: Batch) -> list[list[Block]]:
    """The outermost runs in which each block is called once, keeps the shape of the hidden state, and gives the next
    block its input, on this batch.
    """
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with contextlib.ExitStack() as stack, evaluating(model), torch.no_grad():
        for block in (block for run in runs for block in run):

            def hook(module: nn.Module, args: tuple, named: dict, made: Any, name: str = block.name) -> None:
                calls.setdefault(name, []).append((Call(args, named).hidden, _first(made)))

            stack.callback(block.module.register_forward_hook(hook, with_kwargs=True).remove)
        model(**batch)

    def chained(run: Sequence[Block]) -> bool:
        if any(len(calls.get(block.name, ())) != 1 for block in run):
            return False
        seen = [calls[block.name][0] for block in run]
        kept = all(given.shape == made.shape for given, made in seen)
        return kept and all(torch.equal(made, given) for (_, made), (given, _) in pairwise(seen))

    chosen: list[list[Block]] = []
    for run in filter(chained, runs):
        outer = [block.name for other in chosen for block in other]
        if not any(run[0].name.startswith(f"{name}.") for name in outer):
            chosen.append(list(run))
    return chosen


def find_blocks(model: nn.Module, prepared: Preparation, batch: Batch) -> list[list[Block]]:
    """The runs of blocks that hold every layer that is to be quantised.

    Raises
    ------
    InputError
        If a layer is in no run; names the layer.
    """
    modules = quantisable(model)
    names = [name for name in prepared.settings if name in modules]
    runs = check_runs(model, find_runs(model, names), batch)
    found = [[_filled(block, modules, prepared) for block in run] for run in runs]
    reached = {name for run in found for block in run for name in block.layers}
    missing = [name for name in names if name not in reached]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise InputError(f"{missing[0]}{more} in no run of blocks whose outputs are the next one's inputs; skip it")
    return found


def quantize_blocks(
    model: nn.Module,
    plan: Plan,
    data: CalibrationData | None,
    method: Method,
    *,
    inplace: bool = False,
    job: Job | None = None,
) -> nn.Module:
    """A quantised model, as `quant.quantize` gives it, whose weights a method makes block by block.

    Parameters
    ----------
    model : nn.Module
        The model in floating point.
    plan : Plan
        Which layer is quantised how. Layers outside the blocks must be skipped.
    data : CalibrationData or None
        What flows through the blocks.
    method : Method
        Makes the integer weights of a block.
    inplace : bool
        Change `model` itself instead of a copy.
    job : Job, optional
        Run directory and progress; each block is a unit.

    Returns
    -------
    nn.Module
        The quantised model in evaluation mode; its attribute `quantisation` says what was done.

    Raises
    ------
    InputError
        As `quant.quantize`; also if data are missing, a layer is in no block, or the method fails on a block.
    """
    job = job or Job()
    if data is None:
        raise InputError("data must be given: blocks are found by what flows through them")
    result = unfold(model if inplace else copy.deepcopy(model)).eval()
    prepared = prepare(result, plan, data, job)
    batches = on_device(result, data)
    observe(result, {}, batches[:1])  # arguments that the model does not take are one line
    runs = find_blocks(result, prepared, batches[0])
    rows: dict[str, Mapping[str, Any]] = {}
    with torch.no_grad():
        firsts = [_captured(result, run, batches) if method.data else None for run in runs]
        for run, captured in zip(runs, firsts, strict=True):
            streams = None
            if captured is not None:
                hidden = [calls[0].hidden for calls in captured]
                now = hidden if run is runs[0] else [calls[0].hidden for calls in _captured(result, run[:1], batches)]
                masks = [_fitting(token_mask(batch), h) for batch, h in zip(batches, hidden, strict=True)]
                streams = Streams(hidden, [], now, masks, [])
            for i, block in enumerate(run):
                if streams is not None and captured is not None:
                    streams.calls = [calls[i] for calls in captured]
                    streams.targets = [streams.run(block.module, b, h) for b, h in enumerate(streams.inputs)]
                rows |= _quantise_block(block, streams, method, job)
                if streams is not None:
                    streams.quantised = [streams.run(block.module, b, h) for b, h in enumerate(streams.quantised)]
                    streams.inputs = streams.targets
                run[i] = Block(block.name, block.module)  # its real weights go
                for module in block.module.modules():
                    if isinstance(module, QuantisedLinear):
                        module.release()
                job.progress(block.name)
    return record(result, prepared, [rows[name] for name in prepared.settings])


def _quantise_block(block: Block, streams: Streams | None, method: Method, job: Job) -> dict[str, Mapping[str, Any]]:
    """Put the integer layers into a block; the rows of the layers. One unit of the run."""
    before = {name: layer.matrix.detach().clone() for name, layer in block.layers.items()}
    unit = f"block {block.name}"
    found = job.run.done(unit) if job.run is not None else None
    if found is None:
        weights = method(block, streams)
    else:
        tensors, row = found
        weights = {name: read_weight(name, row["weights"][name], tensors) for name in block.layers}
        for key, parameter in _others(block).items():
            parameter.copy_(tensors[key])
    if job.run is not None and found is None:
        stored = {f"{n}.{key}": t for n, w in weights.items() for key, t in weight_tensors(w).items()}
        job.run.finish(unit, {**stored, **_others(block)}, {"weights": {n: weight_row(w) for n, w in weights.items()}})
    made = {
        name: quantised_layer(name, layer.module, weights[name].to(before[name].device), layer.activation)
        for name, layer in block.layers.items()
    }
    replace(block.module, {id(block.layers[name].module): layer for name, layer in made.items()})
    return {name: layer_row(name, before[name], layer) for name, layer in made.items()}


def _others(block: Block) -> dict[str, Tensor]:
    """The block's parameters that do not become codes, by name; they may be trained."""
    coded = {id(dict(layer.module.named_parameters())["weight"]) for layer in block.layers.values()}
    return {f"{block.name}:{name}": p for name, p in block.module.named_parameters() if id(p) not in coded}


def _captured(model: nn.Module, run: Sequence[Block], batches: Sequence[Batch]) -> list[list[Call]]:
    """The arguments with which the model calls each block of a run, for each batch."""
    made: list[list[Call]] = []
    with contextlib.ExitStack() as stack:
        calls: list[Call] = []

        def hook(_module: nn.Module, args: tuple, named: dict[str, Any]) -> None:
            calls.append(Call(tuple(map(_stateless, args)), {key: _stateless(value) for key, value in named.items()}))
            if len(calls) == len(run):
                raise _Enough

        for block in run:
            stack.callback(block.module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        for batch in batches:
            calls.clear()
            with contextlib.suppress(_Enough):
                model(**batch)
            made.append([calls[0], *(_without_hidden(call) for call in calls[1:])])
    return made


class _Enough(Exception):
    """Every argument is captured; the rest of the model need not run."""


def _stateless(value: Any) -> Any:
    """The argument, or None for transformers' caches of keys and values, which a block changes."""
    return None if any(kind.__name__ == "Cache" for kind in type(value).__mro__) else value


def _without_hidden(call: Call) -> Call:
    """The call with an empty hidden state of as many samples: a run's hidden states are kept for one block alone."""
    empty = call.hidden[..., :0]
    if call.key is None:
        return Call((empty, *call.positional[1:]), call.named)
    return Call((), {**call.named, call.key: empty})


def _filled(block: Block, modules: Mapping[str, nn.Module], prepared: Preparation) -> Block:
    layers = {
        name: Layer(name, modules[name], settings, prepared.activations[name])
        for name, settings in prepared.settings.items()
        if name.startswith(f"{block.name}.")
    }
    return Block(block.name, block.module, layers)


def on_device(model: nn.Module, data: CalibrationData) -> Sequence[Batch]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = [{k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()} for batch in data]
    kept = [batch for batch in found if (mask := token_mask(batch)) is None or bool(mask.any())]
    if not kept:
        raise InputError("data: every token is padding")
    return kept


def _fitting(mask: Tensor | None, hidden: Tensor) -> Tensor | None:
    """The mask if it fits the leading axes of the hidden states."""
    return mask if mask is not None and hidden.shape[: mask.ndim] == mask.shape else None


def _first(made: Any) -> Tensor:
    """The hidden state in what a block returns."""
    return made if isinstance(made, Tensor) else made[0]
