"""Coroutines that feed and check streams.

Faults of a unit raise exceptions instead of failing assertions, so that `python -O` finds them too.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

PATIENCE = 8192  # cycles without a beat before a stream counts as stuck: a row of 1024, stalled, may be on its way


class StreamError(Exception):
    """A unit breaks the stream's protocol, or gives results too late, too many or none."""


class Stuck(StreamError):
    """Nothing has moved on a stream for `PATIENCE` cycles."""


class Mismatch(StreamError):
    """The beat at `position` has another payload than expected."""

    def __init__(self, position: int, expected: int, got: int) -> None:
        super().__init__(f"beat {position}: expected {expected:#x}, got {got:#x}")
        self.position = position
        self.got = got


def stalls(seed: int, probability: float) -> Iterable[bool]:
    """Whether to stall, cycle by cycle; the same for the same seed."""
    source = random.Random(seed)
    while True:
        yield source.random() < probability


async def reset(dut: Any, cycles: int = 2) -> None:
    """Hold the streams idle and `rst` high; ends half a cycle after the first edge without it."""
    dut.rst.value = 1
    dut.i__valid.value = 0
    dut.o__ready.value = 0
    for _ in range(cycles):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)


async def start(dut: Any) -> None:
    """Start the clock, set every input, reset."""
    dut.clk.value = 0
    Clock(dut.clk, 2, unit="ns").start()
    dut.i__payload.value = 0
    if hasattr(dut, "table__en"):
        dut.table__en.value = 0
    await reset(dut)


async def feed(dut: Any, beats: Sequence[int], stalled: Iterable[bool]) -> None:
    """Offer each beat until it is taken. Inputs change at the falling edge and are taken at the rising one."""
    gaps = iter(stalled)
    for beat in beats:
        while next(gaps):
            dut.i__valid.value = 0
            await FallingEdge(dut.clk)
        dut.i__payload.value = beat
        dut.i__valid.value = 1
        await _taken(dut.clk, dut.i__valid, dut.i__ready)
    dut.i__valid.value = 0


async def check(dut: Any, expected: Sequence[int], stalled: Iterable[bool]) -> int:
    """Take as many beats as are expected and compare each, in order; returns the cycles from the call to the last.

    Raises `Mismatch` at the first beat that differs, `StreamError` if the handshake is broken, or `Stuck` if nothing
    comes.
    """
    gaps = iter(stalled)
    cycles = quiet = position = 0
    held = None
    while position < len(expected):
        dut.o__ready.value = int(not next(gaps))
        await RisingEdge(dut.clk)
        cycles, quiet = cycles + 1, quiet + 1
        if int(dut.o__valid.value):
            got = int(dut.o__payload.value)
            if held is not None and got != held:
                raise StreamError(f"beat {position}: changed from {held:#x} to {got:#x} before it was taken")
            held = got
            if int(dut.o__ready.value):
                want = expected[position]
                if got != want:
                    raise Mismatch(position, want, got)
                position, quiet, held = position + 1, 0, None
        elif held is not None:
            raise StreamError(f"beat {position}: withdrawn before it was taken")
        if quiet > PATIENCE:
            raise Stuck(f"stuck after {position} of {len(expected)} beats")
        await FallingEdge(dut.clk)
    dut.o__ready.value = 0
    return cycles


async def offered(dut: Any, at_least: int) -> None:
    """Hold `ready` low for `at_least` cycles and until a beat is offered; raises `Stuck` after `PATIENCE` more."""
    for cycle in range(at_least + PATIENCE):
        if cycle >= at_least and int(dut.o__valid.value):
            return
        await FallingEdge(dut.clk)


async def nothing_more(dut: Any, cycles: int = 64) -> None:
    """Require that no further beat comes."""
    dut.o__ready.value = 1
    for _ in range(cycles):
        await RisingEdge(dut.clk)
        if int(dut.o__valid.value):
            raise StreamError(f"a beat too many: {int(dut.o__payload.value):#x}")
    await FallingEdge(dut.clk)
    dut.o__ready.value = 0


async def _taken(clk: Any, valid: Any, ready: Any) -> None:
    for _ in range(PATIENCE):
        await RisingEdge(clk)
        taken = int(valid.value) and int(ready.value)
        await FallingEdge(clk)
        if taken:
            return
    raise Stuck("no beat was taken")
