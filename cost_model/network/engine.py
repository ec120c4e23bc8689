"""What a program costs on the engine (`rtl.layer`): area by unit and of its memories, energy with loads and stores.

Processing elements, columns, requantisers and table lanes are estimated by the analytical model, softmax and norms are
as measured (`data/row_units.json`), the rest is composed (`cost_model.analytical.engine_units`). Energy is that of
units in the cycles in which they work. Memories are macros with two ports (`cost_model.network.memory`), the large one
twice, as it has two readers.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cost_model.analytical import engine_units
from cost_model.analytical.array_column import array_column
from cost_model.analytical.components import Cost
from cost_model.analytical.estimate import Estimate, coefficients, estimate
from cost_model.network.machine import Machine, requantiser, unit_cost
from cost_model.network.memory import DRAM_J, sram
from cost_model.network.row_units import row_units, too_slow
from cost_model.network.site_costs import moved_bit
from cost_model.network.sites import InRows
from rtl.layer.config import EngineConfig
from rtl.layer.encoding import encode
from rtl.product import ProductConfig
from rtl.residual import ResidualConfig
from rtl.rope import RopeConfig
from rtl.rowwise.norm import NormUnit
from rtl.rowwise.softmax import SoftmaxUnit
from rtl.rowwise.token import TokenUnit
from sim.network.program_cycles import cycles_by_kind
from sim.reference import engine as hardware
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, TOTAL_BITS, Instruction, Walk
from sim.reference.token import IN_BITS

NOT_COUNTED = (
    "the clock of units in cycles in which they do not work",
    "wires, glitches and clock distribution",
    "the host that sends instructions, and their bits",
)
MEMORY, OUTSIDE = "memory", "outside"


@dataclass(frozen=True)
class Part:
    """`count` units of one kind: the area of all, and the leakage in W if the library gives it."""

    unit: str
    count: int
    area_ge: float
    leakage_w: float | None


@dataclass(frozen=True)
class Bank:
    """`copies` of a memory of `words` of `bits`; `name` is its place in the engine."""

    name: str
    words: int
    bits: int
    copies: int = 1

    @property
    def size(self) -> int:
        """In bits, all copies."""
        return self.words * self.bits * self.copies

    @property
    def area_um2(self) -> float:
        """Of macros with two ports."""
        return self.copies * sram(2).area(self.words * self.bits)


def banks(config: EngineConfig) -> list[Bank]:
    """The engine's memories; the rows' and the norms' are added up, with a width of one bit."""
    rows = sum(memory["words"] * memory["bits"] for unit in _row_memories(config).values() for memory in unit)
    return [
        Bank(MEMORY, config.words, config.word.size, 2),
        Bank("accumulators", config.max_tokens, config.lanes * config.array.accumulator_bits),
        Bank("magnitudes", config.max_tokens, IN_BITS),
        Bank("rows, gains and biases", rows, 1, config.row_units),
        *([Bank("column magnitudes", config.column_words, config.lanes * IN_BITS)] if config.decoder else []),
    ]


@lru_cache(maxsize=8)
def _row_memories(config: EngineConfig) -> Mapping[type[Instruction], list[Mapping[str, Any]]]:
    """The memories of one unit of each kind, by the instruction that uses it."""
    made = {
        hardware.Probabilities: SoftmaxUnit(config.softmax_unit),
        hardware.Normalise: NormUnit(config.norm_unit),
        hardware.Quantise: TokenUnit(config.token_unit),
    }
    return {kind: unit.describe()["memories"] for kind, unit in made.items()}


def parts(config: EngineConfig, library: str) -> list[Part]:
    """The engine's units, without memories."""
    machine, units, lanes = Machine(library=library), _units(config, library), config.lanes
    counts = {
        "elements": lanes**2, "columns": lanes, "magnitudes": lanes, "requantisers": lanes, "tables": lanes,
        "residual adders": lanes, "transposer": 1, "sequencer": 1, "token quantisers": config.row_units,
        "words of rows": config.row_units, **({"rotators": lanes, "products": lanes} if config.decoder else {}),
    }  # fmt: skip
    shared = (lanes - 1) * float(_table(config, library).parts["table storage"].area_ge)  # one table serves all lanes
    found = []
    for name, count in counts.items():
        area = count * float(units[name].area_ge) - (shared if name == "tables" else 0.0)
        found.append(Part(name, count, area, count * float(units[name].leakage_w) if machine.physical else None))
    for kind in _measured(config):
        measured = row_units(library)[kind]
        leakage = measured["leakage_w"]
        found.append(
            Part(kind, config.row_units, config.row_units * measured["area_ge"],
                 None if leakage is None else config.row_units * leakage)
        )  # fmt: skip
    return found


def energies(config: EngineConfig, program: Sequence[Instruction], library: str) -> Mapping[str, float]:
    """The energy of a program by part: J, or NAND2 inputs charged if the library has no energies.

    With energies, also that of the memories' accesses, and of the bits that come from outside and go there, taken for
    those of DRAM.
    """
    machine = Machine(library=library)
    each = {name: machine.energy(cost) for name, cost in _units(config, library).items()}
    each |= {kind: row_units(library)[kind]["energy"] for kind in _measured(config)}
    spent: dict[str, float] = defaultdict(float)
    for instruction in program:
        for name, actions in _actions(config, instruction).items():
            spent[name] += actions * each[name]
        if isinstance(instruction, hardware.Multiply):
            tiles = instruction.a.length // instruction.a.counts[0]
            moved = tiles * (config.lanes + 1) * config.lanes**2 * NARROW_BITS
            spent["weight loading"] += moved * moved_bit(library)
        if machine.physical:
            for name, energy in _moved(config, instruction).items():
                spent[name] += energy
    return dict(spent)


def _actions(config: EngineConfig, instruction: Instruction) -> Mapping[str, int]:
    """How often each unit works."""
    lanes, words = config.lanes, instruction.o.length
    match instruction:
        case hardware.Multiply():
            beats = instruction.a.length * (2 if instruction.wide else 1)
            found = {"elements": beats * lanes**2, "columns": beats * lanes, "requantisers": words * lanes,
                     "magnitudes": words * lanes}  # fmt: skip
            if isinstance(instruction.weights, Walk) and instruction.transposed:
                found["transposer"] = instruction.weights.length
            return found
        case hardware.Rowwise():
            units, _, groups = instruction.a.counts
            elements = instruction.length * units * groups
            return {_KINDS[type(instruction)](config): elements, "words of rows": elements}
        case hardware.Add() | hardware.Weigh():
            return {"residual adders": words * lanes}
        case hardware.Rotate():
            return {"rotators": words * lanes // 2}
        case hardware.ElementProduct():
            return {"products": words * lanes}
        case hardware.Map():
            return {"tables": words * lanes}
    return {}


def _moved(config: EngineConfig, instruction: Instruction) -> Mapping[str, float]:
    """The energy of what an instruction moves, in J."""
    macro, word = sram(2), config.word.size
    outside, reads, writes, accumulated, rows = 0, 0, 2 * instruction.o.length, 0, 0.0
    match instruction:
        case hardware.Load():
            outside = instruction.o.length * word
        case hardware.Store():
            outside, reads, writes = instruction.o.length * word, instruction.o.length, 0
        case hardware.Multiply():
            reads = instruction.a.length
            if isinstance(instruction.weights, Walk):
                reads += instruction.weights.length
            else:
                outside = len(instruction.weights) * config.weights.size
            outside += len(instruction.bias) * config.channels.size
            accumulated = instruction.a.length * config.lanes * config.array.accumulator_bits
        case hardware.Rowwise():
            units, _, groups = instruction.a.counts
            reads = instruction.a.length
            for memory in _row_memories(config)[type(instruction)]:  # rings are written too, gains and biases are not
                each = macro.read_j + (macro.write_j if memory["name"].endswith("ring") else 0.0)
                rows += instruction.length * units * groups * memory["bits"] * each
        case hardware.Add() | hardware.Rotate() | hardware.ElementProduct():
            reads = instruction.a.length + instruction.b.length
        case hardware.Map() | hardware.Weigh():
            reads = instruction.a.length
    return {
        MEMORY: word * (reads * macro.read_j + writes * macro.write_j),
        "accumulators": accumulated * (macro.read_j + macro.write_j),
        "rows, gains and biases": rows,
        OUTSIDE: outside * DRAM_J,
    }


def _norm(config: EngineConfig) -> str:
    return "layernorm" if config.norm.centring else "rmsnorm"


_KINDS: Mapping[type[Instruction], Callable[[EngineConfig], str]] = {
    hardware.Probabilities: lambda config: "softmax",
    hardware.Normalise: _norm,
    hardware.Quantise: lambda config: "token quantisers",
}


def _measured(config: EngineConfig) -> tuple[str, str]:
    """The units that were measured."""
    return "softmax", _norm(config)


def _table(config: EngineConfig, library: str) -> Estimate:
    unit = config.map_unit
    return estimate(
        "pwl", library, entries=unit.entries, in_bits=unit.in_bits, coef_bits=unit.coef_bits, out_bits=unit.out_bits,
        stages=unit.stages,
    )  # fmt: skip


def _units(config: EngineConfig, library: str) -> Mapping[str, Cost]:
    """The cost of one unit of each kind that is estimated."""
    machine = Machine(library=library)
    # the low half of an activation that takes two passes has no sign
    operand = NARROW_BITS + config.array.two_pass
    decoder = {
        "rotators": engine_units.rotator(RopeConfig(), library).total,
        "products": engine_units.element_product(ProductConfig(), library).total,
    }
    return {
        "elements": unit_cost("element", library, rows=config.lanes, weight_bits=NARROW_BITS, activation_bits=operand),
        "columns": array_column(config.array, library).total,
        "magnitudes": engine_units.magnitude_column(config.array.accumulator_bits, library).total,
        "requantisers": requantiser(TOTAL_BITS, ELEMENT_BITS, machine),
        "tables": _table(config, library).total,
        "residual adders": engine_units.residual_adder(ResidualConfig(), library).total,
        "transposer": engine_units.transposer(config, library).total,
        "sequencer": engine_units.sequencer(config, library).total,
        "token quantisers": engine_units.token_quantiser(config.token_unit, library).total,
        "words of rows": engine_units.row_words(config, library).total,
        **(decoder if config.decoder else {}),
    }


def report(config: EngineConfig, program: Sequence[Instruction], tokens: int, machine: Machine) -> dict[str, Any]:
    """Area, memories, cycles and energy of a program of `tokens` tokens.

    Raises `InputError` if the library is unknown.
    """
    library = machine.library
    durations = [config.schedule.cycles(instruction) for instruction in program]
    writes = len(encode(config, program).program) - len(program)  # of tables, a cycle each
    cycles = sum(durations) + writes
    units, spent = parts(config, library), energies(config, program, library)
    seconds = cycles / machine.clock_hz
    leakage = [part.leakage_w for part in units]
    leaked = sum(w for w in leakage if w is not None) * seconds if machine.physical else None
    nand2 = coefficients()["libraries"][library]["nand2_area"]
    held = banks(config)
    area_ge = sum(part.area_ge for part in units)
    energy = sum(spent.values()) + (leaked or 0.0)
    return {
        "units": [vars(part) for part in units],
        "memories": [
            {**vars(bank), "size": bank.size, "area_um2": bank.area_um2 if machine.physical else None} for bank in held
        ],
        "kinds": cycles_by_kind(config, program, durations, cycles),
        "energy_by_part": {**spent, **({} if leaked is None else {"leakage": leaked})},
        "totals": {
            "area_ge": area_ge,
            "area_units_mm2": area_ge * nand2 * 1e-6 if machine.physical else None,
            "area_memories_mm2": sum(bank.area_um2 for bank in held) * 1e-6 if machine.physical else None,
            "memory_bits": sum(bank.size for bank in held),
            "cycles": cycles,
            "seconds": seconds,
            "utilisation": config.schedule.products(program) / cycles,
            "energy": energy,
            "energy_per_token": energy / tokens,
        },
        "energy_unit": "J" if machine.physical else "NAND2 inputs charged",
        "too_slow": too_slow([InRows("", kind, {}, 0, 0) for kind in _measured(config)], machine),
        "not_counted": list(NOT_COUNTED),
    }
