"""Networks: a list of operators with named inputs and outputs, in the order of execution, and its execution."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from quant import Plan
from sim.network.operators.base import Operator, Shape, Step, ordinary_arithmetic
from sim.network.operators.causal import CACHE, extending
from sim.network.operators.residual import Input
from sim.reference import InputError


@dataclass(frozen=True)
class Node:
    """A step or operator in a graph.

    `key` names it, and its stored tensors in a packed folder. `inputs` and `outputs` name the tensors that it reads and
    returns; an input is an input of the graph or an output of an earlier node.
    """

    key: str
    step: Step
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class GraphInput:
    """An argument of the model: its shape, and whether it must be given (it is None otherwise)."""

    shape: Shape
    required: bool = True


@dataclass
class Graph:
    """Nodes in the order of execution.

    `limits` gives the maximum length of named axes, `boundary` describes where floating point ends, and `outside` names
    the model's modules outside the boundary.
    """

    inputs: Mapping[str, GraphInput]
    limits: Mapping[str, int] = field(default_factory=dict)
    boundary: Mapping[str, str] = field(default_factory=dict)
    outside: Sequence[str] = ()
    nodes: list[Node] = field(default_factory=list)
    output: str = ""

    def add(self, key: str, step: Step, *inputs: str) -> str:
        """Append a node with one output, named as the node; returns the name. The last one is the graph's output."""
        return self.add_several(key, step, inputs, 1)[0]

    def add_several(self, key: str, step: Step, inputs: Sequence[str], count: int) -> tuple[str, ...]:
        """Append a node with `count` outputs, named KEY.0, KEY.1, ... if there are several; returns the names."""
        outputs = (key,) if count == 1 else tuple(f"{key}.{k}" for k in range(count))
        self.append(Node(key, step, tuple(inputs), outputs))
        return outputs

    def append(self, node: Node) -> None:
        """Append a node. Raises InputError if its key is taken, or it reads a tensor that no earlier node gives."""
        if any(node.key == earlier.key for earlier in self.nodes):
            raise InputError(f"{node.key}: is the key of an earlier operator")
        known = {*self.inputs, *(name for earlier in self.nodes for name in earlier.outputs)}
        for name in node.inputs:
            if name not in known:
                raise InputError(f"{node.key}: no earlier operator gives {name!r}")
        self.nodes.append(node)
        self.output = node.outputs[0]


class Output(NamedTuple):
    """The output of a network: codes, int16 or int8 (None in floating point), and real numbers."""

    codes: Tensor | None
    last_hidden_state: Tensor


class Network(nn.Module):
    """A graph of operators that runs in integers, in floating point, or in integers with gradients.

    It is called with the model's own keyword arguments. Its output is the boundary: pooling, heads and losses that the
    converter leaves out are computed by the caller, in floating point. `network[KEY]` is a node's operator.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.steps = nn.Module()
        for node in graph.nodes:
            _attach(self.steps, node.key, node.step)
        self.plan: Plan | None = None
        self.data_sha256: str | None = None
        last: dict[str, int] = {name: k for k, node in enumerate(graph.nodes) for name in node.inputs}
        self._done = [[name for name, k in last.items() if k == step] for step in range(len(graph.nodes))]

    def __getitem__(self, key: str) -> Any:
        return next(node.step for node in self.graph.nodes if node.key == key)

    def operators(self) -> Iterator[Operator]:
        """Every operator, in the order of execution."""
        return (step for _, step in self.sites())

    def sites(self) -> Iterator[tuple[Node, Operator]]:
        """Every node that holds an operator, with it."""
        return ((node, node.step) for node in self.graph.nodes if isinstance(node.step, Operator))

    def run(self, batch: Mapping[str, Any], watch: "Watch | None" = None, until: str | None = None) -> Tensor:
        """Execute the graph on the model's arguments: real numbers, or codes in the mode "integer".

        `watch` is called after each node with the node, its arguments and its results. `until` is the key of the node
        to stop at, whose first result is returned. Tensors are freed after their last use. Integers are updated first
        if real parameters have changed.
        """
        graph = self.graph
        for name, value in batch.items():
            if name not in graph.inputs and value is not None and value is not False:
                raise InputError(f"{name} is not supported by the integer network")
        for name, given in graph.inputs.items():
            if given.required and batch.get(name) is None:
                raise InputError(f"{name} must be given")
            _require_shape(name, batch.get(name), given.shape)
        values = {name: batch.get(name) for name in graph.inputs}
        with ordinary_arithmetic(), extending(values.get(CACHE), self):
            if _get_current_dispatch_mode() is None:  # a mode that looks for floating point would see the weights
                self.refresh()
            return self._run(values, watch, until)

    def input_codes(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch as it enters the integers: real activations as the codes that the boundary rounds them to."""
        codes, origins = dict(batch), {name: name for name in self.graph.inputs}
        for node in self.graph.nodes:
            name = origins.get(node.inputs[0]) if node.inputs else None
            if name is None:
                continue
            if isinstance(node.step, Input):
                codes[name] = node.step.integer(batch[name])
            elif not isinstance(node.step, Operator):
                origins |= dict.fromkeys(node.outputs, name)
        return codes

    def _run(self, values: dict[str, Any], watch: "Watch | None", until: str | None) -> Tensor:
        graph = self.graph
        for node, done in zip(graph.nodes, self._done, strict=True):
            arguments = tuple(values[name] for name in node.inputs)
            step = node.step
            hooked = step._forward_hooks or step._forward_pre_hooks or step._backward_hooks or step._backward_pre_hooks
            result = step(*arguments) if hooked else step.compute(*arguments)  # a call costs microseconds
            results = result if isinstance(result, tuple) else (result,)
            if watch is not None:
                watch(node, arguments, results)
            if node.key == until:
                return results[0]
            values |= zip(node.outputs, results, strict=True)
            for name in done:
                if name != graph.output:
                    del values[name]
        return values[graph.output]

    def stream(self, **batch: Any) -> Tensor:
        """The output of the graph: real numbers, or codes in the mode "integer"."""
        return self.run(batch)

    def codes(self, **batch: Any) -> Tensor:
        """The output of the integer network, as codes. Raises InputError in another mode than "integer"."""
        if any(operator.mode != "integer" for operator in self.operators()):
            raise InputError('codes need every operator in the mode "integer"')
        return self.run(batch)

    def refresh(self) -> None:
        """Update the integers from real parameters that have changed; grids and scales stay."""
        for operator in self.operators():
            operator.refresh()

    def train(self, mode: bool = True) -> "Network":
        """Set the mode of this module only; modules that are shared with the model keep theirs."""
        self.training = mode
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "Network":
        """Move to another device. Raises InputError for another data type, which would change the codes."""
        moved = fn(torch.zeros(1, dtype=torch.float32))
        if moved.dtype != torch.float32:
            raise InputError(f"an integer network cannot be changed to {moved.dtype}; convert the model in float32")
        return super()._apply(fn, recurse)

    def forward(self, **batch: Any) -> Output:
        """The model's own keyword arguments; codes are None unless the network is in integers."""
        x = self.run(batch)
        if x.is_floating_point():
            return Output(None, x)
        return Output(x, self.last.outputs[0].real(x))

    @property
    def last(self) -> Operator:
        """The operator whose output is the boundary."""
        return self._last()[1]

    @property
    def last_key(self) -> str:
        """The key of that operator's node."""
        return self._last()[0].key

    def _last(self) -> tuple[Node, Operator]:
        return list(self.sites())[-1]

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor, by name."""
        found = {name: given.shape for name, given in self.graph.inputs.items()}
        for node in self.graph.nodes:
            found |= zip(node.outputs, node.step.shapes(*(found[name] for name in node.inputs)), strict=True)
        return found


Watch = Callable[[Node, tuple[Any, ...], tuple[Any, ...]], None]


def _require_shape(name: str, value: Any, shape: Shape) -> None:
    """Raise InputError unless a tensor has the axes of `shape`, if one of them has a fixed length."""
    if not isinstance(value, Tensor) or all(isinstance(size, str) for size in shape):
        return
    fits = value.ndim == len(shape)
    if not fits or any(isinstance(want, int) and want != got for want, got in zip(shape, value.shape, strict=True)):
        raise InputError(f"{name} must be ({', '.join(map(str, shape))}), not ({', '.join(map(str, value.shape))})")


def _attach(root: nn.Module, key: str, module: nn.Module) -> None:
    """Register a module under a dotted path, so that its parameters have that name."""
    *path, name = key.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    assert name not in dict(root.named_children()), f"{key} is the beginning of another key"
    root.add_module(name, module)
