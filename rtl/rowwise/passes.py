"""A pass over consecutive rows: the values of a whole row are ready before the row leaves its memory.

    lead       steps on each element as it comes, before the totals
    totals     registers that run over a row: a maximum, sums
    row        steps from a row's totals to what its elements need, once a row, into a queue of rows
    element    steps on each element as it leaves the memory, with its row's values beside it

Elements enter and leave at up to one per cycle. The memory is a ring, and a row begins to leave it as soon as its
values are in the queue and the row before has left. With `delay` cycles from a row's last element to its values, a ring
of `row_length + delay` words is never full for any lengths of rows: a full ring would hold a whole row and the `delay`
elements after it, and that row would have begun to leave.

Every register of a pass moves in every cycle; `chain` enables them in the cycles in which the unit moves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, EnableInserter, Module, Mux, Shape, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout, View
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl.blocks import pipeline
from rtl.blocks.pipeline import Fields, Step

# (the row's totals so far, the element's fields) to the totals with it
Add = Callable[[Mapping[str, Value], Mapping[str, Value]], Fields]


@dataclass(frozen=True)
class PassPlan:
    """What a pass computes, for rows of 1..`row_length` elements of which it holds parts of at most `rows`.

    An element is a `word`; its fields are there under their names. `totals` are names and shapes, each with the value
    at a row's start; `add` brings them up to date. The row's steps may read the totals and `rest`, the row's length
    less one; the element's steps may read the word, `row_fields` and `beside`, values that belong to the element whose
    `position` was given a cycle before. `result` is the field that leaves.
    """

    row_length: int
    rows: int
    word: StructLayout
    totals: Mapping[str, tuple[Shape, int]]
    add: Add
    row_fields: Sequence[str]
    element_steps: Sequence[Step]
    element_stages: int
    result: str
    result_shape: Any
    row_steps: Sequence[Step] = ()
    row_stages: int = 0
    lead: Sequence[Step] = ()
    lead_fields: Sequence[str] = ()
    beside: Mapping[str, Value] = field(default_factory=dict)

    @property
    def delay(self) -> int:
        """Cycles from a row's last element entering to its first element leaving the memory, if it does not wait."""
        return delay_of(len(self.lead), self.row_stages)

    @property
    def depth(self) -> int:
        """Words of the ring."""
        return self.row_length + self.delay


def delay_of(lead_stages: int, row_stages: int) -> int:
    """Cycles from a row's last element entering to the first one leaving the memory: lead, totals, row, queue."""
    return lead_stages + 1 + row_stages + 1


def way_of(element_stages: int) -> int:
    """Cycles from an element leaving the memory to its result."""
    return 1 + element_stages


class Pass(wiring.Component):
    """A pass as a component. `valid`, `last` and `word` come in, `out_valid`, `out_last` and `result` go out.

    `begins` is 1 in the cycle in which a row's first element leaves the memory; `position` is the place in its row of
    the element that leaves in this cycle.
    """

    def __init__(self, plan: PassPlan) -> None:
        self.plan = plan
        super().__init__(
            {
                "valid": In(1),
                "last": In(1),
                "word": In(plan.word),
                "out_valid": Out(1),
                "out_last": Out(1),
                "result": Out(plan.result_shape),
                "begins": Out(1),
                "position": Out(range(plan.row_length)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        plan = self.plan
        m.submodules.ring = ring = Memory(shape=plan.word, depth=plan.depth, init=[])
        write, read = ring.write_port(), ring.read_port()
        m.d.comb += [write.data.eq(self.word), write.en.eq(self.valid)]
        _step_round(m, write.addr, self.valid, plan.depth)
        leaves, last, row = self._leave(m, *self._row(m))
        _step_round(m, read.addr, leaves, plan.depth)
        m.d.comb += read.en.eq(leaves)

        out = Signal()
        out_last = Signal(reset_less=True)
        m.d.sync += [out.eq(leaves), out_last.eq(last)]
        fields = {**_fields(read.data, plan.word), **row, **plan.beside, "last": out_last}
        valid, fields = pipeline.staged(m, out, fields, plan.element_steps, plan.element_stages, (plan.result, "last"))
        m.d.comb += [self.out_valid.eq(valid), self.out_last.eq(fields["last"]), self.result.eq(fields[plan.result])]
        return m

    def _row(self, m: Module) -> tuple[SyncFIFO, StructLayout]:
        """Totals and row steps; returns the queue of finished rows and the layout of its words."""
        plan = self.plan
        valid, last = self.valid, self.last
        element: Fields = _fields(self.word, plan.word)
        if plan.lead:
            keep = (*plan.lead_fields, "last")
            valid, element = pipeline.staged(m, valid, element | {"last": last}, plan.lead, len(plan.lead), keep)
            last = element["last"]
        first, whole = Signal(init=1, name="first"), Signal(name="whole")
        totals = {name: Signal(shape, name=name, reset_less=True) for name, (shape, _) in plan.totals.items()}
        rest = Signal(range(plan.row_length), reset_less=True)
        before = {name: Mux(first, start, totals[name]) for name, (_, start) in plan.totals.items()}
        m.d.sync += whole.eq(valid & last)
        with m.If(valid):
            m.d.sync += [first.eq(last), rest.eq(Mux(first, 0, rest + 1))]
            m.d.sync += [totals[name].eq(value) for name, value in plan.add(before, element).items()]
        kept = ("rest", *plan.row_fields)
        done, row = whole, {**totals, "rest": rest}
        if plan.row_steps:
            done, row = pipeline.staged(m, whole, row, plan.row_steps, plan.row_stages, kept)
        layout = StructLayout({name: row[name].shape() for name in dict.fromkeys(kept)})
        m.submodules.queue = queue = SyncFIFO(width=layout.size, depth=plan.rows)
        m.d.comb += [queue.w_en.eq(done), queue.w_data.eq(Cat(row[name] for name, _ in layout))]
        return queue, layout

    def _leave(self, m: Module, queue: SyncFIFO, layout: StructLayout) -> tuple[Value, Value, Fields]:
        """Which cycles an element leaves in, whether it is its row's last, and its row's values, a cycle later."""
        head = View(layout, queue.r_data)
        left = Signal(range(self.plan.row_length))  # elements of the current row that are still to leave
        place = Signal(range(self.plan.row_length), reset_less=True)
        leaves, last = Signal(name="leaves"), Signal(name="leaves_last")
        m.d.comb += [
            self.begins.eq(~left.any() & queue.r_rdy),
            queue.r_en.eq(self.begins),
            leaves.eq(left.any() | self.begins),
            last.eq(Mux(self.begins, ~head.rest.any(), left == 1)),
            self.position.eq(Mux(self.begins, 0, place)),
        ]
        row: Fields = {name: Signal(head[name].shape(), name=f"row_{name}", reset_less=True) for name, _ in layout}
        with m.If(self.begins):
            m.d.sync += [left.eq(head.rest), *(row[name].eq(head[name]) for name in row)]
        with m.Elif(leaves):
            m.d.sync += left.eq(left - 1)
        m.d.sync += place.eq(self.position + 1)
        return leaves, last, row


def chain(
    m: Module, i: stream.Interface, o: stream.Interface, passes: Sequence[Pass], rows: int, accept: Value, emit: Value
) -> Value:
    """Add the passes to `m`, one after the other, and the flow control; returns `move`, their enable.

    `accept` is the first pass's word from `i`'s payload, `emit` the value of `o`'s payload. A row's first element is
    taken only while fewer than `rows` rows have come in and not begun to leave the last pass's memory.
    """
    move, middle, take = Signal(name="move"), Signal(name="middle"), Signal(name="take")
    inside = Signal(range(rows + 1), name="rows_inside")
    first, final = passes[0], passes[-1]
    for k, each in enumerate(passes):
        m.submodules[f"pass_{k}"] = EnableInserter(move)(each)
    for before, after in pairwise(passes):
        m.d.comb += [
            after.valid.eq(before.out_valid),
            after.last.eq(before.out_last),
            Value.cast(after.word).eq(before.result),
        ]
    enters, leaves = Signal(name="enters"), Signal(name="leaves")
    m.d.comb += [
        move.eq(o.ready | ~o.valid),
        i.ready.eq(move & (middle | (inside != rows))),
        take.eq(i.valid & i.ready),
        enters.eq(take & ~middle),
        leaves.eq(move & final.begins),
        first.valid.eq(take),
        first.last.eq(i.payload.last),
        Value.cast(first.word).eq(accept),
        o.valid.eq(final.out_valid),
        Value.cast(o.payload).eq(emit),
    ]
    m.d.sync += inside.eq(inside + enters - leaves)
    with m.If(take):
        m.d.sync += middle.eq(~i.payload.last)
    return move


def _fields(word: Any, layout: StructLayout) -> Fields:
    return {name: word[name] for name, _ in layout}


def _step_round(m: Module, address: Value, step: Value, depth: int) -> None:
    """Drive `address` from a register that steps round the ring."""
    pointer = Signal(range(depth))
    m.d.comb += address.eq(pointer)
    with m.If(step):
        m.d.sync += pointer.eq(Mux(pointer == depth - 1, 0, pointer + 1))
