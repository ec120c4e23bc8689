"""A program of `sim.reference.engine` as what the engine takes: instructions, and the words of its streams.

Tables, gains and biases are written before the first instruction that needs them, and again if others are needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rtl.layer.config import SOURCES, TABLES, EngineConfig
from rtl.pwl import Word
from sim.reference import engine as hardware
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, Instruction, Walk
from sim.reference.pwl import LoweredTable


@dataclass(eq=False)
class Encoded:
    """The payloads of each stream, in order: integers for `program` and `c`, arrays (beats, lanes) for `i` and `w`.

    `place` is for each instruction of the program the number of its own among those that were made.
    """

    program: list[int] = field(default_factory=list)
    i: list[np.ndarray] = field(default_factory=list)
    w: list[np.ndarray] = field(default_factory=list)
    c: list[int] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    stored: int = 0


def encode(config: EngineConfig, program: Sequence[Instruction]) -> Encoded:
    """The streams of a program. Raises `InputError` if a table does not fit the engine's."""
    made = Encoded()
    loaded: dict[str, Any] = {}
    for instruction in program:
        for fields in _writes(config, instruction, loaded):
            made.program.append(_packed(config, "write", fields))
        made.place.append(len(made.program))
        operation, fields = _fields(config, instruction)
        made.program.append(_packed(config, operation, fields))
        if isinstance(instruction, hardware.Load):
            made.i.append(instruction.words)
        elif isinstance(instruction, hardware.Store):
            made.stored += instruction.o.length
        elif isinstance(instruction, hardware.Multiply):
            if not isinstance(instruction.weights, Walk):
                made.w.append(instruction.weights)
            made.c += _constants(config, instruction)
    return made


def _packed(config: EngineConfig, operation: str, fields: dict[str, Any]) -> int:
    layout = config.instruction
    total = 0
    for name, value in {"operation": config.operations.index(operation), **fields}.items():
        place = layout[name]
        if isinstance(value, Walk):
            value = _walk(config, value)
        total |= (value & ((1 << place.width) - 1)) << place.offset
    return total


def _walk(config: EngineConfig, walk: Walk) -> int:
    layout, total = config.walk, 0
    values = {"base": walk.base}
    for level in range(3):
        values |= {f"count_{level}": walk.counts[level], f"stride_{level}": walk.strides[level]}
    for name, value in values.items():
        place = layout[name]
        total |= (value & ((1 << place.width) - 1)) << place.offset
    return total


def _fields(config: EngineConfig, instruction: Instruction) -> tuple[str, dict[str, Any]]:
    """The operation's name and the fields of an instruction."""
    every = (1 << config.lanes) - 1
    fields: dict[str, Any] = {"o": instruction.o, "mask": every}
    match instruction:
        case hardware.Load():
            return "load", fields
        case hardware.Store():
            return "store", {"a": instruction.o}
        case hardware.Multiply():
            fields |= {"a": instruction.a, "scaled": int(instruction.scaled), "narrow": int(instruction.narrow)}
            if isinstance(instruction.weights, Walk):
                source = "transposed" if instruction.transposed else "memory"
                fields |= {"b": instruction.weights, "source": SOURCES.index(source)}
            if config.decoder:
                first = instruction.columns
                fields |= {"wide": int(instruction.wide), "columns": int(first is not None), "first": first or 0}
            return "multiply", fields
        case hardware.Probabilities():
            exp = instruction.softmax.exp
            fields |= {"a": instruction.a, "length": instruction.length, "valid": instruction.valid}
            if config.decoder:
                fields |= {"causal": int(instruction.causal), "first": instruction.first}
            return "softmax", fields | {"intercept_shift": exp.intercept_shift, "shift": exp.output_shift}
        case hardware.Normalise():
            norm = instruction.norm
            fields |= {"a": instruction.a, "length": instruction.length}
            return "norm", fields | {"shift": norm.shift, "epsilon": norm.epsilon}
        case hardware.Quantise():
            kept = {"columns": int(instruction.columns)} if config.decoder else {}
            return "quantise", fields | kept | {
                "a": instruction.a,
                "length": instruction.length,
                "first": instruction.first,
            }
        case hardware.Weigh():
            return "weigh", fields | {"a": instruction.a, "first": instruction.first, "shift": instruction.shift}
        case hardware.Rotate():
            return "rotate", fields | {"a": instruction.a, "b": instruction.b}
        case hardware.ElementProduct():
            spec = instruction.product
            fields |= {"a": instruction.a, "b": instruction.b, "narrow": int(instruction.narrow)}
            return "product", fields | {"multiplier_a": spec.multiplier, "shift": spec.shift}
        case hardware.Add():
            first, second = instruction.multipliers
            return "add", fields | {
                "a": instruction.a,
                "b": instruction.b,
                "multiplier_a": first,
                "multiplier_b": second,
                "shift": instruction.shift,
                "narrow": int(instruction.narrow),
            }
        case hardware.Map():
            table = instruction.table
            return "map", fields | {
                "a": instruction.a,
                "mask": sum(1 << int(k) for k in np.flatnonzero(instruction.mask)),
                "intercept_shift": table.intercept_shift,
                "shift": table.output_shift,
                "narrow": int(table.out_bits == NARROW_BITS),
            }
    raise TypeError(type(instruction).__name__)


def _writes(config: EngineConfig, instruction: Instruction, loaded: dict[str, Any]) -> Iterator[dict[str, int]]:
    """The writes that an instruction needs, if its unit holds something else."""
    words: Sequence[Word] = ()
    name = ""
    match instruction:
        case hardware.Probabilities():
            name, own = "softmax", instruction.softmax
            words = () if loaded.get(name) == own else config.softmax_unit.words(own)
        case hardware.Normalise():
            name, own = "norm", instruction.norm
            words = () if loaded.get(name) == own else config.norm_unit.words(own)
        case hardware.Map():
            name, own = "map", _wide(instruction.table)
            words = () if loaded.get(name) == own else config.map_unit.words(own)
        case _:
            return
    loaded[name] = own
    for word in words:
        yield {"table": TABLES.index(name), "select": word.select, "address": word.address, "data": word.data}


def _wide(table: LoweredTable) -> LoweredTable:
    """The table with 16-bit results; `narrow` saturates them again."""
    return replace(table, out_bits=ELEMENT_BITS)


def _constants(config: EngineConfig, instruction: hardware.Multiply) -> list[int]:
    """A beat of `c` for each output tile."""
    lane = config.channels.elem_shape
    beats = []
    for rows in zip(instruction.bias, instruction.multiplier, instruction.shift, strict=True):
        total = 0
        for k, values in enumerate(zip(*rows, strict=True)):
            for name, value in zip(("bias", "multiplier", "shift"), values, strict=True):
                place = lane[name]
                total |= (int(value) & ((1 << place.width) - 1)) << (place.offset + k * lane.size)
        beats.append(total)
    return beats
