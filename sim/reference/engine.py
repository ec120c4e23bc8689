"""The engine: a memory of words of `lanes` signed 16-bit elements, and a list of instructions that work on it in turn.

An instruction reads words where a `Walk` leads, gives them to one unit, and writes the unit's results where another
walk leads. What the units compute is that of the other files here; this file is how they read and write.

A tensor of M rows (tokens) and N channels lies in ceil(N / lanes) tiles of M words:

    element (m, n) is lane n mod lanes of word base + (n div lanes) * M + m

so that the array takes a tile's words as its activations, and its results are the tiles of the next tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.common.errors import require_range
from sim.reference.arithmetic import code_range, round_half_up, saturate
from sim.reference.norm import Norm
from sim.reference.product import Product
from sim.reference.pwl import LoweredTable
from sim.reference.requant import requantise
from sim.reference.residual import add_scaled
from sim.reference.rope import Rope
from sim.reference.softmax import Softmax
from sim.reference.token import quantise_tokens

ELEMENT_BITS = 16
NARROW_BITS = 8  # of the array's operands
TOTAL_BITS = 46  # of a sum times its magnitude plus the bias: times a 16-bit multiplier it has 62


@dataclass(frozen=True)
class Walk:
    """Addresses base + i * strides[0] + j * strides[1] + k * strides[2], i innermost, of `counts` steps each."""

    base: int
    counts: tuple[int, int, int] = (1, 1, 1)
    strides: tuple[int, int, int] = (1, 0, 0)

    @property
    def length(self) -> int:
        """How many addresses it has."""
        i, j, k = self.counts
        return i * j * k

    def addresses(self, words: int) -> np.ndarray:
        """Every address in order, modulo the memory's `words`, a power of two."""
        k, j, i = (np.arange(n) * s for n, s in zip(reversed(self.counts), reversed(self.strides), strict=True))
        return (self.base + k[:, None, None] + j[:, None] + i).ravel() % words


class Written(NamedTuple):
    """What an instruction wrote, in order: addresses (W,), elements (W, lanes), and which of them count (W, lanes).

    Others lie beyond a tensor's channels, or are not written at all.
    """

    addresses: np.ndarray
    elements: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True, eq=False)
class Instruction:
    """One step of a program: `o` is where its results go."""

    o: Walk


@dataclass(frozen=True, eq=False)
class Load(Instruction):
    """Words from outside, (o.length, lanes)."""

    words: np.ndarray


@dataclass(frozen=True, eq=False)
class Store(Instruction):
    """Words to outside; they are read along `o`, and nothing is written."""


@dataclass(frozen=True, eq=False)
class Multiply(Instruction):
    """The array: y = saturate(round_half_up((bias + magnitude * sum of w * a) * m * 2**-k)).

    `a` walks the activations: the words of a tile, the input tiles, the output tiles. `weights` are beats of `lanes`
    weights, a tile's rows from the last to the first, for each output tile, each input tile: (N_t * K_t * lanes, lanes)
    from outside, or a walk of words; if `transposed`, each tile's words are its columns, from the first on.
    `bias`, `multiplier` and `shift` are (N_t, lanes). With `scaled` the magnitudes are those of the last `Quantise` of
    rows, else 1. With `columns` the magnitudes of columns from there on, a multiple of `lanes`, are the multipliers.
    `wide` activations have 16 bits, else the low 8 bits of each element count. `narrow` saturates to 8 bits. `channels`
    is N.
    """

    a: Walk
    weights: np.ndarray | Walk
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    channels: int
    transposed: bool = False
    scaled: bool = False
    narrow: bool = False
    columns: int | None = None
    wide: bool = False


@dataclass(frozen=True, eq=False)
class Rowwise(Instruction):
    """A unit that sees whole rows of `length` elements: `a` and `o` walk the rows of a group, the tiles, the groups.

    Lanes beyond a row's end are written as zeros.
    """

    a: Walk
    length: int


@dataclass(frozen=True, eq=False)
class Probabilities(Rowwise):
    """Softmax over the first `valid` elements of each row; the others' probability is 0.

    If `causal`, row r counts no more than its first r + 1 elements; rows are numbered from `first` on.
    """

    softmax: Softmax
    valid: int
    causal: bool = False
    first: int = 0


@dataclass(frozen=True, eq=False)
class Normalise(Rowwise):
    """LayerNorm or RMSNorm."""

    norm: Norm


@dataclass(frozen=True, eq=False)
class Quantise(Rowwise):
    """8-bit codes at each row's own scale; its magnitude is kept under the row's number, `first` on.

    It is kept as that of a row of activations, or of a column: a token whose key or value is a row of weights.
    """

    first: int
    columns: bool = False


@dataclass(frozen=True, eq=False)
class Add(Instruction):
    """Words of `a` times a multiplier, plus those of `b` times another, shifted right; `narrow` saturates to 8 bits."""

    a: Walk
    b: Walk
    multipliers: tuple[int, int]
    shift: int
    narrow: bool = False


@dataclass(frozen=True, eq=False)
class Map(Instruction):
    """A table on 8-bit codes, in the lanes that `mask` has; other lanes keep what they hold."""

    a: Walk
    table: LoweredTable
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Weigh(Instruction):
    """Words of one tile, 16-bit elements times the magnitudes of the columns from `first` on, shifted right."""

    a: Walk
    first: int
    shift: int


@dataclass(frozen=True, eq=False)
class Rotate(Instruction):
    """`sim.reference.rope`: `a` walks in turn a word of first halves and one of cosines, `b` second halves and sines.

    `o` walks in turn the words of both halves.
    """

    a: Walk
    b: Walk


@dataclass(frozen=True, eq=False)
class ElementProduct(Instruction):
    """The elements of `a` times those of `b`; `narrow` saturates to 8 bits."""

    a: Walk
    b: Walk
    product: Product
    narrow: bool = False


class Engine:
    """The state of an engine: its memory (words, lanes), zeros at first, and the magnitudes of rows and columns."""

    def __init__(self, words: int, lanes: int) -> None:
        require_range("words", words, 2, 1 << 24)
        require_range("lanes", lanes, 2, 256)
        self.words, self.lanes = words, lanes
        self.memory = np.zeros((words, lanes), dtype=np.int64)
        self.magnitudes = np.ones(1 << ELEMENT_BITS, dtype=np.int64)
        self.columns = self.magnitudes.copy()

    def read(self, walk: Walk) -> np.ndarray:
        """The words along a walk, (length, lanes)."""
        return self.memory[walk.addresses(self.words)]

    def execute(self, instruction: Instruction) -> Written:
        """Execute one instruction; returns what it wrote."""
        addresses = instruction.o.addresses(self.words)
        if isinstance(instruction, Store):
            return Written(addresses[:0], np.zeros((0, self.lanes), np.int64), np.zeros((0, self.lanes), bool))
        counted = np.ones((len(addresses), self.lanes), dtype=bool)
        match instruction:
            case Load():
                elements = np.asarray(instruction.words, dtype=np.int64)
            case Multiply():
                elements = self._multiply(instruction)
                tiles = instruction.bias.shape[0]
                inside = np.arange(tiles * self.lanes).reshape(tiles, 1, self.lanes) < instruction.channels
                counted = np.broadcast_to(inside, (tiles, instruction.a.counts[0], self.lanes)).reshape(-1, self.lanes)
            case Rowwise():
                elements = self._rowwise(instruction)
            case Add():
                a, b = self.read(instruction.a), self.read(instruction.b)
                elements = add_scaled(a, b, instruction.multipliers, instruction.shift)
                elements = saturate(elements, NARROW_BITS, True) if instruction.narrow else elements
            case Weigh():
                magnitudes = self.columns[instruction.first :][: self.lanes]
                product = self.read(instruction.a) * magnitudes
                elements = saturate(round_half_up(product, instruction.shift), ELEMENT_BITS, True)
            case Rotate():
                elements = self._rotate(instruction)
            case ElementProduct():
                elements = instruction.product.compute(self.read(instruction.a), self.read(instruction.b))
                elements = saturate(elements, NARROW_BITS, True) if instruction.narrow else elements
            case Map():
                codes = narrow(self.read(instruction.a))
                counted = np.broadcast_to(instruction.mask, counted.shape)
                elements = np.where(counted, instruction.table.output(codes), self.memory[addresses])
            case _:
                raise TypeError(type(instruction).__name__)
        self.memory[addresses] = elements
        return Written(addresses, elements, counted)

    def run(self, program: Sequence[Instruction]) -> list[Written]:
        """Execute a program; returns what each instruction wrote."""
        return [self.execute(instruction) for instruction in program]

    def _multiply(self, instruction: Multiply) -> np.ndarray:
        """The results in the order of output tiles, then rows, (N_t * M, lanes)."""
        lanes = self.lanes
        rows, input_tiles, output_tiles = instruction.a.counts
        a = self.read(instruction.a).reshape(output_tiles, input_tiles, rows, lanes)
        a = a if instruction.wide else narrow(a)
        weights = instruction.weights
        w = narrow(self.read(weights)) if isinstance(weights, Walk) else np.asarray(weights, dtype=np.int64)
        w = w.reshape(output_tiles, input_tiles, lanes, lanes)
        w = w.swapaxes(-1, -2) if instruction.transposed else w[:, :, ::-1]
        total = (a @ w).sum(1)  # (output tiles, rows, lanes)
        if instruction.scaled:
            total *= self.magnitudes[:rows, None]
        total += instruction.bias[:, None]
        bits = NARROW_BITS if instruction.narrow else ELEMENT_BITS
        multiplier, first = instruction.multiplier, instruction.columns
        if first is not None:
            multiplier = self.columns[first : first + output_tiles * lanes].reshape(output_tiles, lanes)
        codes = requantise(total, multiplier[:, None], instruction.shift[:, None], 0, bits)
        return codes.reshape(-1, lanes)

    def _rotate(self, instruction: Rotate) -> np.ndarray:
        """Both halves in turn, (words, lanes)."""
        first, second = (self.read(walk).reshape(-1, 2, self.lanes) for walk in (instruction.a, instruction.b))
        pairs = np.stack([first[:, 0], second[:, 0]], -1)
        turned = Rope().rotate(pairs, first[:, 1, :, None], second[:, 1, :, None])
        return turned.transpose(0, 2, 1).reshape(-1, self.lanes)

    def _rowwise(self, instruction: Rowwise) -> np.ndarray:
        """The results in the order of the walk."""
        lanes, length = self.lanes, instruction.length
        group, tiles, groups = instruction.a.counts
        words = self.read(instruction.a).reshape(groups, tiles, group, lanes)
        rows = words.transpose(0, 2, 1, 3).reshape(groups * group, tiles * lanes)[:, :length]
        match instruction:
            case Probabilities():
                limit = np.full((len(rows), 1), instruction.valid)
                if instruction.causal:
                    limit = np.minimum(limit, instruction.first + 1 + np.arange(len(rows))[:, None])
                results = instruction.softmax.compute(rows, np.arange(length) < limit)
            case Normalise():
                results = instruction.norm.compute(rows)
            case Quantise():
                results, magnitude = quantise_tokens(rows, NARROW_BITS)
                kept = self.columns if instruction.columns else self.magnitudes
                kept[instruction.first : instruction.first + len(rows)] = magnitude[:, 0]
            case _:
                raise TypeError(type(instruction).__name__)
        whole = np.zeros((groups * group, tiles * lanes), dtype=np.int64)
        whole[:, :length] = results
        return whole.reshape(groups, group, tiles, lanes).transpose(0, 2, 1, 3).reshape(-1, lanes)


def narrow(elements: np.ndarray) -> np.ndarray:
    """The low 8 bits of each element, signed, which are all that the array and the table read."""
    low = code_range(NARROW_BITS, True)[0]
    return ((elements - low) & ((1 << NARROW_BITS) - 1)) + low


def tiled(tensor: np.ndarray, lanes: int) -> np.ndarray:
    """A tensor (M, N) as its words in the order of addresses, (ceil(N / lanes) * M, lanes), zeros beyond N."""
    rows, channels = tensor.shape
    tiles = -(-channels // lanes)
    whole = np.zeros((rows, tiles * lanes), dtype=np.int64)
    whole[:, :channels] = tensor
    return whole.reshape(rows, tiles, lanes).transpose(1, 0, 2).reshape(-1, lanes)


def untiled(words: np.ndarray, rows: int, channels: int) -> np.ndarray:
    """The inverse of `tiled`."""
    lanes = words.shape[1]
    return words.reshape(-1, rows, lanes).transpose(1, 0, 2).reshape(rows, -1)[:, :channels]
