"""One set of vectors through one simulator: emit the unit, build, run a bench, judge what it counted."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sim.cosim import simulators
from sim.cosim import wrapper as harness
from sim.cosim.dut import Device, device
from sim.vectors.vector_set import VectorSet

BUILD = Path("build/sim")  # builds by content; safe to delete
MUST_STALL = 32  # so many beats cannot all pass a random stall by chance


@dataclass(frozen=True)
class Outcome:
    """What a bench found.

    `vectors` results were compared in `cycles` clock cycles and `seconds` of simulation (building and starting not
    counted). `mismatches` are wrong results, `first` the first of them in full. `problem` is a line where the stream
    itself is at fault, else None.
    """

    vectors: int
    mismatches: int
    cycles: int
    seconds: float
    first: dict[str, Any] | None = None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.mismatches == 0 and self.problem is None


def run_bulk(
    vectors: VectorSet,
    simulator: str,
    folder: Path = BUILD,
    stall_seed: int = 0,
    repeats: int = 1,
    waves: Path | None = None,
    unit: Device | None = None,
) -> Outcome:
    """Every vector of the set through the bulk harness, `repeats` times over.

    `stall_seed` 0 stalls nothing, and then one result per cycle is required; another seed stalls both streams at
    random. `unit` replaces the emitted unit, for a bench that must fail. `waves` is a waveform file to write.
    """
    unit = unit or device(vectors)
    sources = {"bulk.v": harness.wrapper(unit), "unit.v": unit.verilog}
    place = simulators.build(simulator, sources, harness.top(unit), harness.VISIBLE, folder, waves is not None)
    total = Outcome(0, 0, 0, 0.0)
    for chunk in harness.chunks(vectors, unit):
        counted = _run_chunk(vectors, chunk, unit, simulator, place, (stall_seed, repeats), waves)
        total = _add(total, _judge(vectors, chunk, unit, counted, stall_seed, repeats))
    return total


def _run_chunk(
    vectors: VectorSet,
    chunk: harness.Chunk,
    unit: Device,
    simulator: str,
    place: Path,
    options: tuple[int, int],
    waves: Path | None,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bulk-") as run:
        folder = Path(run)
        (folder / "vectors.hex").write_text(chunk.vectors_hex(vectors, unit))
        (folder / "program.hex").write_text(chunk.program_hex())
        plusargs = {
            "vectors": folder / "vectors.hex",
            "program": folder / "program.hex",
            "count": chunk.last - chunk.first,
            "program_length": len(chunk.steps) + 1,
            "stall_seed": options[0],
            "repeats": options[1],
        }
        return counted_by_bulk(simulator, place, harness.top(unit), folder, plusargs, waves)


def counted_by_bulk(
    simulator: str, place: Path, top: str, folder: Path, plusargs: Mapping[str, Any], waves: Path | None
) -> dict[str, Any]:
    """What a wrapper counted that stops by itself, run in `folder` from the build in `place`."""
    result = folder / "result.json"
    arguments = [f"+{key}={value}" for key, value in {**plusargs, "result": result}.items()]
    simulators.simulate(simulator, place, top, "sim.cosim.cocotb_tests.bulk", folder, arguments, 1, waves)
    return json.loads(result.read_text())


def _judge(
    vectors: VectorSet, chunk: harness.Chunk, unit: Device, counted: dict[str, Any], stall_seed: int, repeats: int
) -> Outcome:
    count = chunk.last - chunk.first
    parts = [step.value for step in chunk.steps if step.operation == harness.STREAM]
    streams = len(parts)
    problem = first = None
    if counted["mismatches"]:
        first = vectors.describe(chunk.first + counted["first_index"], counted["first_got"])
    places = [*accumulate(parts, initial=chunk.first)]
    cycles = repeats * sum(unit.cycles(vectors, *ends) for ends in pairwise(places))
    if counted["stuck"]:
        problem = f"stuck after {counted['checked']} of {count} results"
    elif counted["checked"] != count:
        problem = f"{counted['checked']} results compared, not {count}"
    elif counted["extra"]:
        problem = f"{counted['extra']} results too many"
    elif not stall_seed and counted["cycles"] != cycles:
        problem = f"{count} results in {streams} streams took {counted['cycles']} cycles, not {cycles}"
    elif stall_seed and count >= MUST_STALL and counted["cycles"] <= cycles:
        problem = f"{count} results took {counted['cycles']} cycles, so nothing stalled"
    compared = counted["checked"] + (repeats - 1) * count if not counted["stuck"] else counted["checked"]
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


def run_protocol(
    vectors: VectorSet,
    simulator: str,
    folder: Path = BUILD,
    seed: int = 0,
    loads: int = 2,
    limit: int = 256,
    waves: Path | None = None,
    unit: Device | None = None,
) -> Outcome:
    """Stalls, resets in mid-stream and throughput on the unit's own ports, with about `limit` vectors of each load.

    The counts are those of the stalled streams. The first thing that is wrong ends a test and becomes `problem`; where
    it is a beat's payload it is the one mismatch, with its vector in full.
    """
    unit = unit or device(vectors)
    chosen, sample = np.concatenate(vectors.sampled(loads, limit)), vectors.sample(loads, limit)
    first = int(sample.counts[0])
    place = simulators.build(simulator, {"unit.v": unit.verilog}, unit.module, unit.ports, folder, waves is not None)
    with tempfile.TemporaryDirectory(prefix="protocol-") as run:
        result, mismatch = Path(run) / "result.json", Path(run) / "mismatch.json"
        plusargs = {
            "vectors": sample.save(run),
            "result": result,
            "mismatch": mismatch,
            "latency": unit.cycles(sample, 0, first) - first,
            "lists": ",".join(unit.lists),
            "seed": seed,
        }
        arguments = [f"+{k}={v}" for k, v in plusargs.items()]
        problem = None
        try:
            simulators.simulate(
                simulator,
                place,
                unit.module,
                "sim.cosim.cocotb_tests.protocol",
                Path(run),
                arguments,
                seed,
                waves,
                tests=3,
            )
        except simulators.SimulationError as error:
            problem = str(error)
        counted = json.loads(result.read_text()) if result.exists() else {"vectors": 0, "cycles": 0, "seconds": 0.0}
        wrong = None
        if mismatch.exists():
            found = json.loads(mismatch.read_text())
            wrong = vectors.describe(int(chosen[found["vector"]]), found["got"])
        return Outcome(counted["vectors"], int(bool(wrong)), counted["cycles"], counted["seconds"], wrong, problem)
