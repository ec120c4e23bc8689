"""The pipeline of every unit: steps of logic between an input and an output stream, cut into stages.

Flow control is a single stall: all registers of the pipeline move in a cycle in which the output register is empty or
its beat is taken; otherwise none moves. That costs one gate and one enable, loses nothing under back-pressure, and
passes one beat per cycle while `o.ready` is held.

**Latency**: a beat taken in cycle n is offered in cycle n + stages if nothing stalls. **Throughput**: one beat per
cycle. **Reset**: synchronous; the valid bits go to 0, so that every beat in flight and any beat offered during the
reset is dropped. Data registers have no reset: without its valid bit their content is ignored.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil, log2

from amaranth.hdl import Module, Shape, Signal, Value
from amaranth.lib import stream

from sim.common.errors import InputError

Fields = dict[str, Value]


@dataclass(frozen=True)
class Step:
    """Combinational logic between two possible register ranks.

    Parameters
    ----------
    name : str
        The step's name in descriptions.
    reads : tuple of str
        The fields that `logic` may read; the pipeline keeps them in registers up to this step.
    levels : int
        Estimated delay in gate levels (0.15 ns each in a 130 nm library, from static timing of each step at 8 and 32
        bits). It only decides where register ranks are placed.
    logic : callable
        `logic(m, fields)` returns the fields that it makes.
    """

    name: str
    reads: tuple[str, ...]
    levels: int
    logic: Callable[[Module, Mapping[str, Value]], Fields]


def adder_levels(bits: int) -> int:
    """Gate levels of an adder; its carries ripple, because this project synthesises without a timing constraint."""
    return bits


def compare_levels(bits: int) -> int:
    """Gate levels of a comparator, which is a tree."""
    return 2 * ceil(log2(bits))


def select_levels(ways: int) -> int:
    """Gate levels of an AND-OR selection with that many ways, its fan-out included."""
    return 2 * ceil(log2(ways))


def shift_levels(distances: int) -> int:
    """Gate levels of a barrel shifter with that many distances."""
    return ceil(log2(distances))


def multiplier_levels(a_bits: int, b_bits: int) -> int:
    """Gate levels of a tree multiplier and its final adder."""
    return 2 * ceil(log2(min(a_bits, b_bits))) + adder_levels(a_bits + b_bits)


def check_stages(stages: int, steps: int) -> None:
    """Raise `InputError` unless `steps` steps can be cut into `stages` stages."""
    if not 1 <= stages <= steps:
        raise InputError(f"stages must be in 1..{steps}, not {stages}")


def cut(levels: Sequence[int], stages: int) -> list[int]:
    """The `stages` steps after which a register rank is placed; the last one is the last step.

    This minimises the delay of the slowest stage, then the sum of squared delays, which balances the other stages.
    """
    check_stages(stages, len(levels))

    def cost(inner: tuple[int, ...]) -> tuple[int, int]:
        edges = [0, *inner, len(levels)]
        delays = [sum(levels[a:b]) for a, b in pairwise(edges)]
        return max(delays), sum(d * d for d in delays)

    best = min(combinations(range(1, len(levels)), stages - 1), key=cost)
    return [edge - 1 for edge in best] + [len(levels) - 1]


def lanes(steps: Sequence[Step], count: int) -> list[Step]:
    """The same steps `count` times in parallel; the field `x` of copy k is called `x_k`."""
    return [_widened(step, count) for step in steps]


def _widened(step: Step, count: int) -> Step:
    def logic(m: Module, fields: Mapping[str, Value]) -> Fields:
        made: Fields = {}
        for lane in range(count):
            own = step.logic(m, {name: fields[f"{name}_{lane}"] for name in step.reads})
            made |= {f"{name}_{lane}": value for name, value in own.items()}
        return made

    return Step(step.name, tuple(f"{name}_{lane}" for lane in range(count) for name in step.reads), step.levels, logic)


def build(
    m: Module, i: stream.Interface, o: stream.Interface, steps: Sequence[Step], stages: int, result: str = "result"
) -> None:
    """Add to `m` the pipeline from `i` to `o`.

    The first step reads the field `payload`; `o` carries the field named by `result`.
    """
    move = Signal()
    valid, fields = staged(m, i.valid, {"payload": Value.cast(i.payload)}, steps, stages, (result,), move)
    m.d.comb += [
        move.eq(o.ready | ~valid),
        i.ready.eq(move),
        o.valid.eq(valid),
        Value.cast(o.payload).eq(fields[result]),
    ]


def staged(
    m: Module,
    valid: Value,
    fields: Fields,
    steps: Sequence[Step],
    stages: int,
    keep: Sequence[str],
    move: Value | int = 1,
) -> tuple[Value, Fields]:
    """Add `steps` to `m`, cut into `stages`; returns the last rank's valid bit and the fields `keep`.

    Every register moves in a cycle in which `move` is 1, by default always.
    """
    ranks = cut([step.levels for step in steps], stages)
    fields = dict(fields)
    for position, step in enumerate(steps):
        fields |= {
            name: wire(m, value, name)
            for name, value in step.logic(m, {name: fields[name] for name in step.reads}).items()
        }
        if position not in ranks:
            continue
        rank = ranks.index(position)
        live = {name for later in steps[position + 1 :] for name in later.reads} | {*keep}
        kept = {name: value for name, value in fields.items() if name in live}
        fields = {}
        for name, value in kept.items():
            fields[name] = Signal.like(value, name=f"{name}_{rank}", reset_less=True)
            with m.If(move):
                m.d.sync += fields[name].eq(value)
        stage_valid = Signal(name=f"valid_{rank}")
        with m.If(move):
            m.d.sync += stage_valid.eq(valid)
        valid = stage_valid
    return valid, fields


def wire(m: Module, value: Value, name: str) -> Signal:
    """`value` on a named wire: it has its name in the Verilog, and logic that is used twice is built once."""
    signal = Signal(Shape.cast(value.shape()), name=name)
    m.d.comb += signal.eq(value)
    return signal
