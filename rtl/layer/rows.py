"""Units that see whole rows: words are taken apart into elements, go through a unit one by one, and are put together.

There are `row_units` of each kind, each on a row of its own. Words come and go in turns: the first word of each row of
a group, then the second one of each, and so on, so that a memory's one word per cycle feeds all of them.
"""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from rtl.layer.config import COUNT_BITS, OPERATIONS, EngineConfig
from rtl.rowwise.norm import NormUnit
from rtl.rowwise.softmax import SoftmaxUnit
from rtl.rowwise.token import MAGNITUDE, TokenUnit

KINDS = ("softmax", "norm", "quantise")  # of operations


class RowLane(wiring.Component):
    """One unit of each kind, and the two words around it.

    `i` takes the words of a row, `o` gives its results' words, with the row's magnitude and `last` with its last one.
    `length` and `valid` are the elements of a row and those that count in softmax; `chosen` has a bit for each of
    `KINDS`. These and `softmax`, `norm` (ports of the units) are quasi-static.

    In a decoder `start` begins an instruction. This is the lane `number` of `group`; its first row is `first` + number.
    If `causal`, row r counts no more than r + 1 elements.
    """

    def __init__(self, config: EngineConfig, number: int) -> None:
        self.config, self.number = config, number
        self.units = {
            "softmax": SoftmaxUnit(config.softmax_unit),
            "norm": NormUnit(config.norm_unit),
            "quantise": TokenUnit(config.token_unit),
        }
        result = StructLayout({"word": config.word, "magnitude": MAGNITUDE, "last": 1})
        ports = {
            "i": In(stream.Signature(config.word)),
            "o": Out(stream.Signature(result)),
            "chosen": In(len(KINDS)),
            "length": In(COUNT_BITS),
            "valid": In(COUNT_BITS),
        }
        if config.decoder:
            ports |= {"start": In(1), "causal": In(1), "first": In(COUNT_BITS), "group": In(COUNT_BITS)}
        for name, unit in self.units.items():
            ports |= {f"{name}_{port}": unit.signature.members[port] for port in side_ports(unit)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        end = config.lanes - 1
        word = Signal(config.word, reset_less=True)
        full, step = Signal(), Signal()
        lane, position = Signal(range(config.lanes)), Signal(COUNT_BITS)
        last, empties = Signal(), Signal()
        taken, result, result_last = Signal(), Signal.like(word[0], name="result"), Signal()
        offered = Signal()
        m.d.comb += [
            last.eq(position == self.length - 1),
            empties.eq(step & (last | (lane == end))),
            self.i.ready.eq(~full | empties),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [word.eq(self.i.payload), full.eq(1), lane.eq(0)]
        with m.Elif(empties):
            m.d.sync += full.eq(0)
        with m.Elif(step):
            m.d.sync += [word.eq(word.as_value() >> len(word[0])), lane.eq(lane + 1)]
        with m.If(step):
            m.d.sync += position.eq(Mux(last, 0, position + 1))
        counts = position < self.valid
        if config.decoder:
            row = Signal(COUNT_BITS)
            counts &= ~self.causal | (position <= row)
            with m.If(self.start):
                m.d.sync += row.eq(self.first + self.number)
            with m.Elif(step & last):
                m.d.sync += row.eq(row + self.group)

        for k, (name, unit) in enumerate(self.units.items()):
            m.submodules[name] = unit
            chosen = self.chosen[k]
            element = unit.i.payload
            m.d.comb += [
                unit.i.valid.eq(full & chosen),
                element.last.eq(last),
                element.as_value()[: len(word[0])].eq(word[0]),
                unit.o.ready.eq(taken & chosen),
            ]
            if name == "softmax":
                m.d.comb += element.valid.eq(counts)
            drive(m, unit, {port: getattr(self, f"{name}_{port}") for port in side_ports(unit)})
            output = unit.o.payload
            value = {"softmax": "probability"}.get(name, "code")
            with m.If(chosen):
                m.d.comb += [
                    step.eq(full & unit.i.ready),
                    offered.eq(unit.o.valid),
                    result.eq(output[value]),
                    result_last.eq(output.last),
                ]
        m.d.comb += self.o.payload.magnitude.eq(self.units["quantise"].o.payload.magnitude)
        self._gather(m, offered, taken, result, result_last)
        return m

    def _gather(self, m: Module, offered: Signal, taken: Signal, result: Signal, last: Signal) -> None:
        """The results of a word, with zeros in the lanes behind a row's end."""
        config = self.config
        gathered = Signal(config.word, reset_less=True)
        lane = Signal(range(config.lanes), name="result_lane")
        complete = Signal()
        m.d.comb += [
            complete.eq(last | (lane == config.lanes - 1)),
            self.o.valid.eq(offered & complete),
            taken.eq(offered & (~complete | self.o.ready)),
            self.o.payload.last.eq(last),
            *(
                self.o.payload.word[k].eq(Mux(lane == k, result, Mux(lane > k, gathered[k], 0)))
                for k in range(config.lanes)
            ),
        ]
        with m.If(taken):
            m.d.sync += lane.eq(Mux(complete, 0, lane + 1))
            for k in range(config.lanes - 1):
                with m.If(lane == k):
                    m.d.sync += gathered[k].eq(result)


class Rows(wiring.Component):
    """All lanes: `i` and `o` carry words in turns of `group` rows. `start` begins an instruction.

    `magnitude` is written for each row of "quantise": `enable`, `row`, `value`; rows count from `first`.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.lanes = [RowLane(config, k) for k in range(config.row_units)]
        ports = dict(self.lanes[0].signature.members)
        ports |= {
            "o": Out(stream.Signature(config.word)),
            "start": In(1),
            "group": In(COUNT_BITS),
            "first": In(COUNT_BITS),
            "magnitude": Out(wiring.Signature({"enable": Out(1), "row": Out(COUNT_BITS), "value": Out(MAGNITUDE)})),
        }
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = len(self.lanes)
        turn_in, turn_out = Signal(range(count), name="turn_in"), Signal(range(count), name="turn_out")
        row = Signal(COUNT_BITS)
        last = turn_out == self.group - 1
        ready, results = [], []
        for k, lane in enumerate(self.lanes):
            m.submodules[f"lane_{k}"] = lane
            m.d.comb += [
                lane.i.payload.eq(self.i.payload),
                lane.i.valid.eq(self.i.valid & (turn_in == k)),
                lane.o.ready.eq(self.o.ready & (turn_out == k)),
            ]
            ready.append(lane.i.ready)
            results.append(lane.o)
            drive(m, lane, {port: getattr(self, port) for port in side_ports(lane)})
        m.d.comb += self.i.ready.eq(Array(ready)[turn_in])
        with m.Switch(turn_out):
            for k, result in enumerate(results):
                with m.Case(k):
                    m.d.comb += [
                        self.o.valid.eq(result.valid),
                        self.o.payload.eq(result.payload.word),
                        self.magnitude.value.eq(result.payload.magnitude),
                        self.magnitude.enable.eq(result.valid & self.o.ready & result.payload.last),
                    ]
        m.d.comb += self.magnitude.row.eq(row)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += turn_in.eq(Mux(turn_in == self.group - 1, 0, turn_in + 1))
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += turn_out.eq(Mux(last, 0, turn_out + 1))
        with m.If(self.magnitude.enable):
            m.d.sync += row.eq(row + 1)
        with m.If(self.start):
            m.d.sync += [turn_in.eq(0), turn_out.eq(0), row.eq(self.first)]
        return m


def side_ports(component: wiring.Component) -> list[str]:
    """The names of a component's ports beside its streams."""
    return [name for name in component.signature.members if name not in ("i", "o")]


def drive(m: Module, component: wiring.Component, sources: Mapping[str, Any]) -> None:
    """Drive ports of a component, single signals or one level of them."""
    for name, source in sources.items():
        member, port = component.signature.members[name], getattr(component, name)
        if member.is_signature:
            m.d.comb += [getattr(port, part).eq(getattr(source, part)) for part in member.signature.members]
        else:
            m.d.comb += port.eq(source)


def chosen_bits(operation: object) -> list[object]:
    """The bits of `RowLane.chosen` for an instruction's operation."""
    return [operation == OPERATIONS.index(kind) for kind in KINDS]
