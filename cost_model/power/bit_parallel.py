"""A netlist over a whole stream at once: every net is one Python integer with a bit for each cycle.

A flip-flop is a shift by one cycle, so a pipeline settles in a few passes over its gates for any number of vectors.
This gives the toggles of thousands of cells over thousands of cycles in a fraction of a second, without building a
simulator. It is used to measure many designs; the hardware table uses a simulator, and both agree
(`tests/cost_model/power/test_bit_parallel.py`). Streams do not stall there; some vectors go through a cycle at a time,
with stalls and resets, to check the netlist.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from cost_model.netlist.netlist import Instance, Netlist, expression, required, state_pins
from cost_model.power.gate_level import Activity, GateLevelError, Verified
from sim.cosim import wrapper
from sim.cosim.dut import Device
from sim.reference import InputError
from sim.vectors.vector_set import VectorSet

TOOL = "bit-parallel evaluation"
SETTLE_CYCLES = 4  # after the last table write
STALLED = 64  # vectors that are sent with stalls
STALL_RATES = ((0.5, 0.5), (0.9, 0.2), (0.2, 0.9))  # how often a beat is offered, and taken
RESETS = 0.02  # of the cycles


@dataclass(frozen=True)
class _Flop:
    next_state: str
    state: int  # the nets of Q and its complement; a unique negative number if there is no such net
    inverse: int
    falling: bool


class BitParallel:
    """One netlist of a unit, compiled to straight-line Python; `run` sends a set of one or more loads through it."""

    def __init__(self, netlist: Netlist, unit: Device) -> None:
        self.netlist, self.unit = netlist, unit
        self.nets = sorted(
            {b for _, bits in netlist.ports.values() for b in bits if isinstance(b, int)}
            | {net for i in netlist.instances for net in (*i.read.values(), *i.driven.values())}
        )
        clock = netlist.ports["clk"][1][0]
        self._clock: set[int] = {clock} if isinstance(clock, int) else set()
        phases = dict.fromkeys(self._clock, 1)  # values of the clock's nets while the clock is 1
        rows = [i for i in netlist.instances if len(i.cell.inputs) == len(i.read) == 1 and not i.cell.state]
        for _ in rows:
            found = {
                net: self._phase(i, pin, phases)
                for i in rows for pin, net in i.driven.items() if set(i.read.values()) <= set(phases)
            }  # fmt: skip
            if set(found) <= set(phases):
                break
            phases |= found
        self._inverted_clock = {net for net, phase in phases.items() if not phase}
        self._flops, self._latches, gates = [], [], []
        for instance in netlist.instances:
            if not instance.cell.state:
                gates.append(instance)
            elif instance.cell.state["kind"] == "ff":
                self._flops.append(self._flop(instance))
            else:
                self._latches.append(instance)
        self._settle = self._compile(gates)

    @staticmethod
    def _phase(instance: Instance, pin: str, phases: Mapping[int, int]) -> int:
        """The value of a buffer's or inverter's output while the clock is 1."""
        text = expression(instance.cell.pins[pin].function, _pins(instance))
        return eval(_indexed(text), {"N": phases, "M": 1}) & 1

    def _flop(self, instance: Instance) -> _Flop:
        cell, pins = instance.cell, _pins(instance)
        nets = {False: -2 * len(self._flops) - 1, True: -2 * len(self._flops) - 2}
        driven = {cell.inverted(pin): net for pin, net in instance.driven.items()}
        if len(driven) < len(instance.driven):
            raise InputError(f"cell {cell.name}: two outputs of one state are not supported by {TOOL}")
        nets |= driven
        pins |= state_pins(cell, f"n{nets[False]}_")
        edge = expression(required(cell, "clocked_on"), pins)
        falling = any(f"n{net}_" in edge for net in self._inverted_clock) != ("~" in edge)
        return _Flop(expression(required(cell, "next_state"), pins), nets[False], nets[True], falling)

    def _compile(self, gates: list[Instance]) -> Callable[[dict[int, int], int], None]:
        """All gates in order, with each latch after its gate and data."""
        rows: dict[int, tuple[str, set[int]]] = {}
        for instance in gates:
            for pin, net in instance.driven.items():
                text = expression(instance.cell.pins[pin].function, _pins(instance))
                rows[net] = (text, set(instance.read.values()))
        for instance in self._latches:
            cell, pins = instance.cell, _pins(instance)
            enable, data = (expression(required(cell, key), pins) for key in ("enable", "data_in"))
            for pin, net in instance.driven.items():
                inverse = cell.inverted(pin)
                held, taken = f"N[{net}]", f"~({data})" if inverse else f"({data})"
                rows[net] = (f"({enable} & {taken}) | (~({enable}) & {held})", set(instance.read.values()))
        try:
            order = list(TopologicalSorter({net: read for net, (_, read) in rows.items()}).static_order())
        except CycleError as error:
            raise GateLevelError(f"netlist of {self.netlist.top}: gates form a loop ({error.args[1][:3]})") from None
        lines = [f" N[{net}] = ({_indexed(rows[net][0])}) & M" for net in order if net in rows]
        scope: dict[str, Any] = {}
        exec("def settle(N, M):\n" + "\n".join([*lines, " return"]), scope)
        return scope["settle"]

    def run(self, vectors: VectorSet) -> dict[int, int]:
        """Toggles of every net over all loads; every result is compared. Raises `GateLevelError` if one differs."""
        toggles: dict[int, int] = dict.fromkeys(self.nets, 0)
        first = 0
        for load, count in enumerate(vectors.counts.tolist()):
            state = self._load(vectors, load)
            inputs = vectors.payloads("inputs", slice(first, first + count))
            expected = vectors.payloads("expected", slice(first, first + count))
            nets, cycles = self._flow(vectors, load, state, inputs)
            self._compare(vectors, first, nets, expected)
            low = self._low_half(nets, cycles)
            window = (1 << (cycles - 1)) - 1
            for net in self.nets:
                toggles[net] += (nets[net] ^ low[net]).bit_count() + (
                    (low[net] ^ (nets[net] >> 1)) & window
                ).bit_count()
            first += count
        return toggles

    def stall(self, vectors: VectorSet, count: int = STALLED) -> None:
        """Send `count` vectors of the first load while both sides stall, and reset the unit on the way.

        Raises `GateLevelError` if a result differs, is lost or comes twice, or `i__ready` is not `rtl.emit.STALL`'s.
        """
        rng, count = np.random.default_rng(0), min(count, int(vectors.counts[0]))
        inputs = vectors.payloads("inputs", slice(0, count))
        expected = vectors.payloads("expected", slice(0, count))
        for valid, ready in STALL_RATES:
            nets, idle, sent, waiting = self._load(vectors, 0, rng), self._statics(vectors, 0), 0, []
            while sent < len(inputs) or waiting:
                values = idle | {"rst": int(rng.random() < RESETS), "o__ready": int(rng.random() < ready)}
                values |= {"i__valid": int(sent < len(inputs) and rng.random() < valid)}
                values |= {"i__payload": inputs[sent] if values["i__valid"] else int(rng.integers(0, 2))}
                self._low(nets, values)
                offered, taken = self._read(nets, "o__valid"), self._read(nets, "i__ready")
                wrong = offered and (not waiting or self._read(nets, "o__payload") != waiting[0])
                if wrong or taken != (values["o__ready"] or not offered):
                    raise GateLevelError(f"netlist of {vectors.name}: a result is wrong, lost or doubled under stalls")
                waiting = waiting[offered and values["o__ready"] :]
                if values["i__valid"] and taken:
                    waiting.append(expected[sent])
                    sent += 1
                if values["rst"]:
                    waiting = []
                self._high(nets)

    def _read(self, nets: dict[int, int], port: str) -> int:
        return sum(
            (nets[bit] & 1 if isinstance(bit, int) else int(bit)) << k
            for k, bit in enumerate(self.netlist.ports[port][1])
        )

    def _low_half(self, nets: dict[int, int], cycles: int) -> dict[int, int]:
        """The same values with the clock at 0; only the clock's nets differ."""
        low = dict(nets)
        for net in self._clock:
            low[net] = 0
        self._settle(low, (1 << cycles) - 1)
        return low

    def _load(self, vectors: VectorSet, load: int, rng: np.random.Generator | None = None) -> dict[int, int]:
        """Reset and write the table, a cycle at a time; returns the final value of every net.

        With `rng` a word that is not enabled follows each write.
        """
        nets = dict.fromkeys(self.nets, 0) | {flop.inverse: 1 for flop in self._flops}
        nets |= {flop.state: 0 for flop in self._flops}
        writes = [step for step in wrapper.load_steps(vectors, self.unit, load) if step.operation == wrapper.TABLE]
        idle = self._statics(vectors, load)
        self._cycle(nets, idle | {"rst": 1})
        self._cycle(nets, idle | {"rst": 1})
        for step in writes:
            word = {"table__en": 1, "table__select": step.select, "table__address": step.address}
            self._cycle(nets, idle | word | {"table__data": step.value})
            if rng is not None:
                noise = {name: int(rng.integers(0, 1 << 16)) for name in (*word, "table__data")}
                self._cycle(nets, idle | noise | {"table__en": 0})
        for _ in range(SETTLE_CYCLES):
            self._cycle(nets, idle)
        return nets

    def _statics(self, vectors: VectorSet, load: int) -> dict[str, int]:
        return {name: int(vectors.arrays[name][load]) & ((1 << bits) - 1) for name, bits in self.unit.statics.items()}

    def _cycle(self, nets: dict[int, int], values: Mapping[str, int]) -> None:
        """One clock."""
        self._low(nets, values)
        self._high(nets)

    def _low(self, nets: dict[int, int], values: Mapping[str, int]) -> None:
        """The low half of a clock with these inputs, in which latches are open, after the falling flip-flops."""
        for name, (direction, bits) in self.netlist.ports.items():
            if direction == "input" and name != "clk":
                for k, bit in enumerate(bits):
                    if isinstance(bit, int):
                        nets[bit] = values.get(name, 0) >> k & 1
        for net in self._clock:
            nets[net] = 0
        self._settle(nets, 1)
        self._sample(nets, True)
        self._settle(nets, 1)

    def _high(self, nets: dict[int, int]) -> None:
        """The rising edge, which samples what settled in the low half, and the high half."""
        self._sample(nets, False)
        for net in self._clock:
            nets[net] = 1
        self._settle(nets, 1)

    def _sample(self, nets: dict[int, int], falling: bool) -> None:
        taken = [(f, self._next[f.next_state](nets, 1) & 1) for f in self._flops if f.falling == falling]
        for flop, value in taken:
            nets[flop.state], nets[flop.inverse] = value, 1 - value

    @property
    def _next(self) -> dict[str, Callable[[dict[int, int], int], int]]:
        if not hasattr(self, "_next_states"):
            texts = {flop.next_state for flop in self._flops}
            self._next_states = {t: eval(f"lambda N, M: ({_indexed(t)}) & M") for t in texts}
        return self._next_states

    def _flow(
        self, vectors: VectorSet, load: int, state: dict[int, int], inputs: list[int]
    ) -> tuple[dict[int, int], int]:
        """Every net over the stream from a loaded state: (net to its values, cycles)."""
        cycles = len(inputs) + self.unit.latency
        everywhere = (1 << cycles) - 1
        nets = {net: everywhere * value for net, value in state.items()}
        for name, value in (self._statics(vectors, load) | {"o__ready": 1}).items():
            for k, bit in enumerate(self.netlist.ports[name][1]):
                if isinstance(bit, int):
                    nets[bit] = everywhere * (value >> k & 1)
        for k, bit in enumerate(self.netlist.ports["i__payload"][1]):
            if isinstance(bit, int):
                nets[bit] = int("".join("1" if word >> k & 1 else "0" for word in reversed(inputs)), 2)
        for bit in self.netlist.ports["i__valid"][1]:
            if isinstance(bit, int):
                nets[bit] = (1 << len(inputs)) - 1
        rising = [flop for flop in self._flops if not flop.falling]
        for net in self._clock:
            nets[net] = everywhere  # latches are shut, as their gates open in the low half only
        for _ in range(cycles + 1):
            self._settle(nets, everywhere)
            taken = [
                (f, (self._next[f.next_state](nets, everywhere) << 1 | state[f.state]) & everywhere) for f in rising
            ]
            moved = [(flop, value) for flop, value in taken if nets[flop.state] != value]
            for flop, value in moved:
                nets[flop.state], nets[flop.inverse] = value, value ^ everywhere
            if not moved:
                return nets, cycles
        raise GateLevelError(f"netlist of {vectors.name}: it does not settle")

    def _compare(self, vectors: VectorSet, first: int, nets: dict[int, int], expected: list[int]) -> None:
        latency = self.unit.latency
        bits = self.netlist.ports["o__payload"][1]
        wanted_valid = ((1 << len(expected)) - 1) << latency
        valid = self.netlist.ports["o__valid"][1][0]
        if not isinstance(valid, int) or nets[valid] != wanted_valid:
            raise GateLevelError(f"netlist of {vectors.name}: results do not come one per cycle after {latency} cycles")
        wrong = 0
        for k, bit in enumerate(bits):
            got = (nets[bit] if isinstance(bit, int) else (wanted_valid if bit == "1" else 0)) & wanted_valid
            want = int("".join("1" if word >> k & 1 else "0" for word in reversed(expected)), 2) << latency
            wrong |= got ^ want
        if wrong:
            at = (wrong & -wrong).bit_length() - 1 - latency
            got = sum((nets[b] >> (at + latency) & 1) << k for k, b in enumerate(bits) if isinstance(b, int))
            described = vectors.describe(first + at, got)
            found = f"{wrong.bit_count()} of {len(expected)} results differ, the first: {described}"
            raise GateLevelError(f"netlist of {vectors.name}: {found}")


def flowing(
    netlist: Netlist, unit: Device, work: VectorSet, checks: tuple[VectorSet, ...], stalls: bool = True
) -> tuple[Activity, Verified]:
    """The toggles of `work`, after `work` and `checks` passed without stalls and, if `stalls`, some with them.

    Raises `GateLevelError` if a result differs.
    """
    evaluation = BitParallel(netlist, unit)
    for vectors in checks:
        evaluation.run(vectors)
    if stalls:
        evaluation.stall((*checks, work)[0])
    toggles = evaluation.run(work)
    cycles = work.size + len(work.counts) * unit.latency
    verified = Verified(netlist.sha256, TOOL, work.size + sum(vectors.size for vectors in checks))
    return Activity(netlist.sha256, TOOL, work.name, cycles, toggles), verified


def _pins(instance: Instance) -> dict[str, str]:
    return {
        pin: f"n{bit}_" if isinstance(bit, int) else ("M" if bit == "1" else "Z") for pin, bit in instance.nets.items()
    }


def _indexed(text: str) -> str:
    """An expression over N, the nets' values, and M, all ones."""
    text = re.sub(r"\bn(-?\d+)_", r"N[\1]", text).replace("1'b1", "M").replace("1'b0", "0")
    return re.sub(r"\bZ\b", "0", text)
