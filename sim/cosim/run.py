"""One set of vectors in one simulator: emit the unit, build it, run a cocotb test, evaluate its counters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sim.cosim import simulators, wrapper
from sim.cosim.dut import Device, device
from sim.cosim.options import BenchOptions
from sim.cosim.simulators import Build, Simulation
from sim.vectors.vector_set import VectorSet

MUST_STALL = 32  # so many beats cannot all pass a random stall by chance
PROTOCOL_TESTS = 3  # in `sim.cosim.cocotb_tests.protocol`


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    `vectors` results were compared in `cycles` clock cycles and `seconds` of simulation, without building and starting.
    `mismatches` is the number of wrong results, `first` describes the first one. `problem` is a line about a fault of
    the stream, else None.
    """

    vectors: int
    mismatches: int
    cycles: int
    seconds: float
    first: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no result is wrong and the stream is sound."""
        return self.mismatches == 0 and self.problem is None


def run_bulk(vectors: VectorSet, options: BenchOptions) -> Outcome:
    """Every vector of the set through the bulk wrapper, `options.repeats` times over.

    Without stalls one result per cycle is required.
    """
    unit = options.dut or device(vectors)
    sources = {"bulk.v": wrapper.wrapper(unit), "unit.v": unit.verilog}
    build = Build(options.simulator, sources, wrapper.top(unit), wrapper.VISIBLE, options.waves is not None)
    place = simulators.build(build, options.folder)
    total = Outcome(0, 0, 0, 0.0)
    for chunk in wrapper.chunks(vectors, unit):
        if not total.passed:  # the waveform is that of the first chunk that fails
            options = replace(options, waves=None)
        counted = _run_chunk(vectors, chunk, unit, place, options)
        total = _add(total, _judge(vectors, chunk, unit, counted, options))
    return total


def _run_chunk(
    vectors: VectorSet, chunk: wrapper.Chunk, unit: Device, place: Path, options: BenchOptions
) -> dict[str, Any]:
    with simulators.scratch("bulk-") as folder:
        (folder / "vectors.hex").write_text(chunk.vectors_hex(vectors, unit))
        (folder / "program.hex").write_text(chunk.program_hex())
        plusargs = {
            "vectors": folder / "vectors.hex",
            "program": folder / "program.hex",
            "count": chunk.last - chunk.first,
            "program_length": len(chunk.steps) + 1,
            "stall_seed": options.stall_seed,
            "repeats": options.repeats,
        }
        return counted_by_wrapper(place, wrapper.top(unit), folder, plusargs, options)


def counted_by_wrapper(
    place: Path, top: str, folder: Path, plusargs: Mapping[str, Any], options: BenchOptions
) -> dict[str, Any]:
    """The counters of a wrapper, run in `folder` from the build in `place` until it stops."""
    result = folder / "result.json"
    simulation = Simulation(
        options.simulator,
        place,
        top,
        "sim.cosim.cocotb_tests.bulk",
        plusargs={**plusargs, "result": result},
        seed=1,
        waves=options.waves,
    )
    simulators.simulate(simulation, folder)
    return json.loads(result.read_text())


def _judge(
    vectors: VectorSet, chunk: wrapper.Chunk, unit: Device, counted: dict[str, Any], options: BenchOptions
) -> Outcome:
    count = chunk.last - chunk.first
    parts = [step.value for step in chunk.steps if step.operation == wrapper.STREAM]
    streams = len(parts)
    problem = first = None
    if counted["mismatches"]:
        first = vectors.describe(chunk.first + counted["first_index"], counted["first_got"])
    places = [*accumulate(parts, initial=chunk.first)]
    cycles = options.repeats * sum(unit.cycles(vectors, *ends) for ends in pairwise(places))
    if counted["stuck"]:
        problem = f"stuck after {counted['checked']} of {count} results"
    elif counted["checked"] != count:
        problem = f"{counted['checked']} results compared, not {count}"
    elif counted["extra"]:
        problem = f"{counted['extra']} results too many"
    elif not options.stall_seed and counted["cycles"] != cycles:
        problem = f"{count} results in {streams} streams took {counted['cycles']} cycles, not {cycles}"
    elif options.stall_seed and count >= MUST_STALL and counted["cycles"] <= cycles:
        problem = f"{count} results took {counted['cycles']} cycles, so nothing stalled"
    compared = counted["checked"] + (options.repeats - 1) * count if not counted["stuck"] else counted["checked"]
    return Outcome(compared, counted["mismatches"], counted["cycles"], counted["seconds"], first, problem)


def _add(a: Outcome, b: Outcome) -> Outcome:
    return Outcome(
        a.vectors + b.vectors,
        a.mismatches + b.mismatches,
        a.cycles + b.cycles,
        a.seconds + b.seconds,
        a.first or b.first,
        a.problem or b.problem,
    )


def run_protocol(vectors: VectorSet, options: BenchOptions, seed: int = 0, loads: int = 2, limit: int = 256) -> Outcome:
    """Stalls, resets in mid-stream and throughput on the unit's own ports, with about `limit` vectors of each load.

    `seed` decides the stalls. The counts are those of the stalled streams. The first fault ends a test and becomes
    `problem`; a wrong payload is reported as the only mismatch, with its vector.
    """
    unit = options.dut or device(vectors)
    chosen, sample = np.concatenate(vectors.sampled(loads, limit)), vectors.sample(loads, limit)
    first = int(sample.counts[0])
    build = Build(options.simulator, {"unit.v": unit.verilog}, unit.module, unit.ports, options.waves is not None)
    place = simulators.build(build, options.folder)
    with simulators.scratch("protocol-") as folder:
        result, mismatch = folder / "result.json", folder / "mismatch.json"
        plusargs = {
            "vectors": replace(sample, name="sample").save(folder),
            "result": result,
            "mismatch": mismatch,
            "latency": unit.cycles(sample, 0, first) - first,
            "lists": ",".join(unit.lists),
            "seed": seed,
        }
        simulation = Simulation(
            options.simulator,
            place,
            unit.module,
            "sim.cosim.cocotb_tests.protocol",
            plusargs=plusargs,
            seed=seed,
            waves=options.waves,
            tests=PROTOCOL_TESTS,
        )
        problem = None
        try:
            simulators.simulate(simulation, folder)
        except simulators.SimulationError as error:
            problem = str(error)
        counted = json.loads(result.read_text()) if result.exists() else {"vectors": 0, "cycles": 0, "seconds": 0.0}
        wrong = None
        if mismatch.exists():
            found = json.loads(mismatch.read_text())
            wrong = vectors.describe(int(chosen[found["vector"]]), found["got"])
        return Outcome(counted["vectors"], int(bool(wrong)), counted["cycles"], counted["seconds"], wrong, problem)
