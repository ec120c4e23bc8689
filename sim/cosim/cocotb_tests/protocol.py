"""The protocol on the unit's own ports: stalls, a reset in mid-stream, throughput, a beat at a time.

The first wrong beat of all goes to `mismatch`, as its vector in the set and the output's word.

Plusargs: `vectors` the set's JSON, `lists` what is written through the table's port, in load order, `latency` the
cycles that the first load takes beyond one for each vector, `seed`, `result` the file for the counters, `mismatch`
the file for a wrong beat.
"""

import json
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from sim.cosim.cocotb_tests import stream
from sim.vectors.files import load
from sim.vectors.vector_set import VectorSet

NEVER = repeat(False)
STALLS = ((0.5, 0.5), (0.8, 0.0), (0.0, 0.8))  # how often the unit's input and output stall
MOST_TAKEN = 3 + 5 * 3  # results taken before the last of the resets


def _plusarg(name: str) -> int:
    return int(cocotb.plusargs[name])


def _vectors() -> VectorSet:
    return load(str(cocotb.plusargs["vectors"]))


async def _load(dut: Any, vectors: VectorSet, load: int) -> None:
    """Write the table in load order and set the quasi-static inputs; nothing may be in flight."""
    lists = str(cocotb.plusargs.get("lists") or "").split(",") if hasattr(dut, "table__en") else []
    for select, key in enumerate(lists):
        mask = (1 << len(dut.table__data)) - 1
        for address, word in enumerate(vectors.arrays[key][load].tolist()):
            dut.table__en.value, dut.table__select.value, dut.table__address.value = 1, select, address
            dut.table__data.value = word & mask
            await FallingEdge(dut.clk)
        dut.table__en.value = 0
    for key, array in vectors.arrays.items():
        if array.ndim == 1 and hasattr(dut, key):
            port = getattr(dut, key)
            port.value = int(vectors.arrays[key][load]) & ((1 << len(port)) - 1)
    await FallingEdge(dut.clk)


def _parts(vectors: VectorSet) -> list[tuple[int, list[int], list[int]]]:
    """(load, inputs, expected) of each load."""
    ends = [0, *vectors.counts.cumsum().tolist()]
    parts = [slice(first, last) for first, last in pairwise(ends)]
    return [(k, vectors.payloads("inputs", part), vectors.payloads("expected", part)) for k, part in enumerate(parts)]


async def _check(dut: Any, vectors: VectorSet, load: int, expected: Sequence[int], stalled: Iterable[bool]) -> int:
    """`stream.check` of a load's outputs, which may be repeated; a beat that differs is reported, once a run."""
    try:
        return await stream.check(dut, expected, stalled)
    except stream.Mismatch as wrong:
        vector = int(vectors.counts[:load].sum()) + wrong.position % int(vectors.counts[load])
        report = Path(str(cocotb.plusargs["mismatch"]))
        if not report.exists():
            report.write_text(json.dumps({"vector": vector, "got": wrong.got}))
        raise


@cocotb.test()
async def random_stalls_lose_duplicate_and_reorder_nothing(dut) -> None:
    vectors = _vectors()
    await stream.start(dut)
    beats = cycles = 0
    start = time.perf_counter()
    try:
        for load, inputs, expected in _parts(vectors):
            await _load(dut, vectors, load)
            for k, (slow_in, slow_out) in enumerate(STALLS):
                seed = 10 * (100 * _plusarg("seed") + load) + 2 * k
                feeding = cocotb.start_soon(stream.feed(dut, inputs, stream.stalls(seed, slow_in)))
                cycles += await _check(dut, vectors, load, expected, stream.stalls(seed + 1, slow_out))
                beats += len(expected)
                await feeding
                await stream.nothing_more(dut)
    except stream.Mismatch as wrong:
        beats += wrong.position + 1
        raise
    finally:
        counters = {"vectors": beats, "cycles": cycles, "seconds": time.perf_counter() - start}
        Path(str(cocotb.plusargs["result"])).write_text(json.dumps(counters))


@cocotb.test()
async def a_reset_in_mid_stream_drops_what_was_in_flight_and_nothing_else(dut) -> None:
    vectors = _vectors()
    await stream.start(dut)
    load, inputs, expected = _parts(vectors)[0]
    repeats = -(-(MOST_TAKEN + _plusarg("latency") + 8) // len(inputs))  # enough to fill the pipeline in every round
    inputs, expected = inputs * repeats, expected * repeats
    await _load(dut, vectors, load)
    seed = 1000 * _plusarg("seed")
    for k in range(4):
        # results are held back, so that the pipeline is full when the reset comes
        feeding = cocotb.start_soon(stream.feed(dut, inputs, stream.stalls(seed + k, 0.2)))
        await _check(dut, vectors, load, expected[: 3 + 5 * k], stream.stalls(seed + 50 + k, 0.5))
        await stream.offered(dut, at_least=_plusarg("latency") + 2)
        if not int(dut.o__valid.value):
            raise stream.StreamError("nothing was in flight, so the reset shows nothing")
        feeding.cancel()
        await stream.reset(dut, cycles=1 + k)
        await stream.nothing_more(dut, cycles=8 + k)
        # the table is not written again: a reset keeps it
        feeding = cocotb.start_soon(stream.feed(dut, inputs, stream.stalls(seed + 60 + k, 0.3)))
        await _check(dut, vectors, load, expected, stream.stalls(seed + 70 + k, 0.3))
        await feeding
        await stream.nothing_more(dut)


@cocotb.test()
async def one_result_comes_per_cycle_when_nothing_stalls(dut) -> None:
    vectors = _vectors()
    await stream.start(dut)
    load, inputs, expected = _parts(vectors)[0]
    await _load(dut, vectors, load)
    feeding = cocotb.start_soon(stream.feed(dut, inputs, NEVER))
    cycles = await _check(dut, vectors, load, expected, NEVER)
    await feeding
    if cycles != len(expected) + _plusarg("latency"):
        raise stream.StreamError(f"{len(expected)} results took {cycles} cycles")
