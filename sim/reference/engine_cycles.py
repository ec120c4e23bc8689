"""Clock cycles of the engine's instructions, exactly, if no stream outside stalls it.

An instruction takes the cycles from its own being taken to the next one's. Readers give their first word 2 cycles after
that (`START`), and a word is written in the cycle in which its unit gives it:

    write                    1
    load, of w words         1 + w
    store                    START + w
    add, weigh, product, map START + w + stages
    rotate                   START + w + stages + 1
    multiply                 1 + wait + (the array's cycles) + stages
    row units, G groups      START + units + (a unit's cycles for G rows)

`wait` is 0 for weights from a stream, 1 from the memory, 1 + lanes transposed. Units for rows work side by side, each a
cycle behind the one before. That holds if a row's last word has as many elements as there are units in a group, which
`units_for` sees to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.reference import engine as hardware
from sim.reference.array_cycles import Schedule
from sim.reference.engine import Instruction, Walk
from sim.reference.row_cycles import RowSchedule

START = 2


@dataclass(frozen=True)
class EngineSchedule:
    """The cycles of one engine.

    `array` is that of the array up to the sums, `result_stages` the depth of the pipeline behind it. `rows` has the
    schedule of each unit for rows, by the instruction's class. The depths of the other units follow.
    """

    lanes: int
    array: Schedule
    result_stages: int
    rows: Mapping[type[Instruction], RowSchedule]
    add_stages: int
    map_stages: int
    rotate_stages: int
    product_stages: int

    def cycles(self, instruction: Instruction) -> int:
        """The cycles of an instruction, without the writes of tables before it."""
        words = instruction.o.length
        match instruction:
            case hardware.Load():
                return 1 + words
            case hardware.Store():
                return START + words
            case hardware.Add() | hardware.Weigh():
                return START + words + self.add_stages
            case hardware.ElementProduct():
                return START + words + self.product_stages
            case hardware.Rotate():  # the second half of a pair comes a cycle later
                return START + words + self.rotate_stages + 1
            case hardware.Map():
                return START + words + self.map_stages
            case hardware.Multiply():
                return 1 + self._wait(instruction) + self.array_cycles(instruction) + self.result_stages
            case hardware.Rowwise():
                units, _, groups = instruction.a.counts
                return START + units + self.rows[type(instruction)].cycles([instruction.length] * groups)
        raise TypeError(type(instruction).__name__)

    def array_cycles(self, instruction: hardware.Multiply) -> int:
        """From the array's taking the job to its last sums."""
        tokens, input_tiles, output_tiles = instruction.a.counts
        sizes = tokens, input_tiles * self.lanes, output_tiles * self.lanes
        return self.array.cycles(*sizes, passes=_passes(instruction))

    def busy_cycles(self, instruction: Instruction) -> int:
        """The cycles that the instruction's unit would need alone, if its pipeline were always full.

        One of the array for each pass of a word of activations, one of a unit for rows for each element of its rows,
        and one of the others for each word.
        """
        match instruction:
            case hardware.Multiply():
                return _passes(instruction) * instruction.a.length
            case hardware.Rowwise():
                return instruction.length * instruction.a.counts[2]
        return instruction.o.length

    def products(self, program: Sequence[Instruction]) -> int:
        """The array's cycles with a product in every element: those that the array alone would need at least."""
        return sum(self.busy_cycles(i) for i in program if isinstance(i, hardware.Multiply))

    def _wait(self, instruction: hardware.Multiply) -> int:
        if not isinstance(instruction.weights, Walk):
            return 0
        return 1 + (self.lanes if instruction.transposed else 0)


def _passes(instruction: hardware.Multiply) -> int:
    """How often a word of activations goes through the array."""
    return 2 if instruction.wide else 1


def units_for(length: int, lanes: int, row_units: int) -> int:
    """How many units a group may have for rows of `length`: no more than the elements of a row's last word."""
    return min(row_units, length % lanes or lanes)
