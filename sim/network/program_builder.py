"""What every program of the engine is made of: places of tensors in memory, steps, and the builder of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rtl.layer.config import EngineConfig
from sim.network.graph import Network, Node
from sim.network.operators.attention import Context, Scores, Softmax
from sim.network.operators.causal import TokenContext, TokenScores
from sim.network.operators.recording import require_fitted
from sim.network.program_memory import Allocator
from sim.reference import InputError
from sim.reference import engine as hardware
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, Instruction, Walk
from sim.reference.engine_cycles import units_for
from sim.reference.softmax import Softmax as SoftmaxSpecification
from sim.reference.softmax import total_bits_for


@dataclass(frozen=True, eq=False)
class Place:
    """A tensor of `rows` and `channels` in memory; `order` has the channel at each position, if they are reordered."""

    base: int
    rows: int
    channels: int
    order: np.ndarray | None = None

    def tiles(self, lanes: int) -> int:
        """Its tiles of `lanes` channels."""
        return -(-self.channels // lanes)

    def walk(self, lanes: int) -> Walk:
        """All its words in order."""
        return Walk(self.base, (self.rows, self.tiles(lanes), 1), (1, self.rows, 0))

    def part(self, tile: int, channels: int) -> "Place":
        """`channels` of them, from a tile on."""
        return Place(self.base + tile * self.rows, self.rows, channels)

    def position(self, address: int, lane: int, lanes: int) -> tuple[int, int]:
        """(row, channel) of an element in memory."""
        tile, row = divmod(address - self.base, self.rows)
        channel = tile * lanes + lane
        return row, channel if self.order is None else int(self.order[channel])


@dataclass(frozen=True, eq=False)
class Step:
    """An instruction, the operator that it computes, whole or in part, and the tensor that it writes.

    `output` is the tensor's name in the graph, or None for activations that only one layer reads; `head` is which of a
    tensor's heads it is. `last` is whether the tensor is whole after it.
    """

    instruction: Instruction
    key: str
    place: Place
    output: str | None = None
    head: int | None = None
    last: bool = True


@dataclass(eq=False)
class Program:
    """The steps for `tokens` tokens, of which the first `valid` count as keys.

    `inputs` are the graph's tensors that are loaded from outside, `output` the one that is stored at the end.
    """

    config: EngineConfig
    tokens: int
    valid: int
    steps: list[Step] = field(default_factory=list)
    inputs: tuple[str, ...] = ()
    output: str = ""
    words: int = 0  # of the memory that it uses

    @property
    def operators(self) -> int:
        """How many of the network's operators it computes."""
        return len({step.key for step in self.steps if not isinstance(step.instruction, hardware.Load)})

    @property
    def instructions(self) -> list[Instruction]:
        """The instructions, in order."""
        return [step.instruction for step in self.steps]

    def with_inputs(self, codes: Mapping[str, np.ndarray]) -> "Program":
        """The program that loads these codes (M, N), by the tensors' names."""
        steps = [*self.steps]
        for k, step in enumerate(steps):
            if isinstance(step.instruction, hardware.Load):
                words = hardware.tiled(codes[step.key], self.config.lanes)
                steps[k] = replace(step, instruction=replace(step.instruction, words=words))
        return replace(self, steps=steps)


DATA = {Softmax: 1, TokenScores: 2, TokenContext: 2}  # inputs that are tensors; masks and caches are behind them
RowInstruction = Callable[[Walk, Walk, int], Instruction]  # of walks to read and to write, and the first row's number


class Builder:
    """Makes a program from the nodes of a network."""

    def __init__(self, network: Network, config: EngineConfig, tokens: int, valid: int) -> None:
        self.nodes, self.shapes, self.lanes = network.graph.nodes, network.shapes(), config.lanes
        self.program = Program(config, tokens, valid)
        self.memory = Allocator(config.words)
        self.places: dict[str, Place] = {}
        self.scores: dict[str, tuple[Any, Place, Place]] = {}  # until the head's context is computed
        self.softmax: dict[str, tuple[Node, Node]] = {}
        self.known: dict[str, Node] = {node.outputs[0]: node for node in self.nodes}

    def build(self, first: int, last: int, handlers: Mapping[type, Callable[[Any, Node], None]]) -> Program:
        """The program of the nodes `first` to `last` - 1; `handlers` make the instructions of each kind of step."""
        nodes = self.nodes[first:last]
        inside = {name for node in nodes for name in node.outputs}
        read = [name for node in nodes for name in node.inputs[: DATA.get(type(node.step))]]
        self.program.inputs = tuple(dict.fromkeys(name for name in read if name not in inside))
        self.program.output = nodes[-1].outputs[0]
        self.ends = {name: k for k, node in enumerate(nodes) for name in node.inputs}
        for k, node in enumerate(nodes):
            if isinstance(node.step, (Scores, TokenScores)):  # read again for each head
                context = next(c for c in range(k, len(nodes)) if isinstance(nodes[c].step, (Context, TokenContext)))
                self.ends |= {name: max(self.ends[name], context) for name in node.inputs}
        self.ends[self.program.output] = len(nodes)
        for name in self.program.inputs:
            place = self.places[name] = self._place(int(self.shapes[name][-1]))
            load = hardware.Load(place.walk(self.lanes), np.zeros((0, self.lanes)))
            self._emit(load, name, place, output=name)
        for self.now, node in enumerate(nodes):
            handler = next((h for kind, h in handlers.items() if isinstance(node.step, kind)), None)
            if handler is None:
                raise InputError(f"{node.key}: the engine has no unit for {node.step.kind}")
            handler(self, node)
            for name in [name for name in self.places if self.ends.get(name, -1) <= self.now]:
                self.memory.free(self.places.pop(name).base)
        place = self.places[self.program.output]
        self._emit(hardware.Store(place.walk(self.lanes)), nodes[-1].key, place)
        self.program.words = self.memory.most
        return self.program

    # ---- places

    def _place(self, channels: int, order: np.ndarray | None = None) -> Place:
        """A new place for a tensor of the program's tokens."""
        rows = self.program.tokens
        place = Place(self.memory.allocate(-(-channels // self.lanes) * rows), rows, channels, order)
        return place

    def _result(self, node: Node, channels: int, index: int = 0, order: np.ndarray | None = None) -> Place:
        place = self.places[node.outputs[index]] = self._place(channels, order)
        return place

    def _over(self, node: Node) -> Place:
        """The result's place: that of the first input if nothing reads it afterwards, else a new one."""
        name = node.inputs[0]
        given = self.places[name]
        if self.ends[name] > self.now:
            return self._result(node, given.channels, order=given.order)
        del self.places[name]
        self.places[node.outputs[0]] = given
        return given

    def _emit(self, instruction: Instruction, key: str, place: Place, **where: Any) -> None:
        self.program.steps.append(Step(instruction, key, place, **where))

    def _activations(self, a: Place, output_tiles: int) -> Walk:
        return Walk(a.base, (a.rows, a.tiles(self.lanes), output_tiles), (1, a.rows, 0))

    def _is_narrow(self, name: str, bits: int) -> bool:
        if bits not in (NARROW_BITS, ELEMENT_BITS):
            raise InputError(f"{name}: results must have 8 or 16 bits, not {bits}")
        return bits == NARROW_BITS

    def _whole_tiles(self, key: str, channels: int) -> int:
        if channels % self.lanes:
            raise InputError(f"{key}: {channels} channels must be a multiple of the engine's {self.lanes} lanes")
        return channels // self.lanes

    def _softmax_of(self, operator: Softmax) -> SoftmaxSpecification:
        """The operator's softmax for rows as long as the engine's. Raises InputError unless its table is fitted."""
        spec, longest = operator.specification, self.program.config.max_tokens
        assert spec is not None
        require_fitted(operator.name, spec.exp)
        div = replace(spec.div, input_bits=total_bits_for(spec.exp, longest))
        return replace(spec, row_length=longest, div=div)

    def _rowwise(self, key: str, a: Place, o: Place, make: RowInstruction, **where: Any) -> None:
        """The rows in groups of one for each unit; those left over are a group of their own."""
        tiles, rows = a.tiles(self.lanes), a.rows
        units = units_for(a.channels, self.lanes, self.program.config.row_units)
        groups, rest = divmod(rows, units)
        counts = [(units, tiles, groups), (rest, tiles, 1)]
        made = []
        for (count, _, times), first in zip(counts, (0, groups * units), strict=True):
            if count * times:
                read, write = (Walk(p.base + first, (count, tiles, times), (1, rows, units)) for p in (a, o))
                made.append(make(read, write, first))
        for instruction in made:
            self._emit(instruction, key, o, **where, last=instruction is made[-1])
