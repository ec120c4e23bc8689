"""The regression: every set of vectors, in every simulator, flowing freely and stalled, and the ports' protocol."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sim.cosim import run as runner
from sim.cosim import simulators
from sim.cosim.dut import Device, device
from sim.cosim.run_array import array_device, run_array
from sim.vectors.array import ArraySet
from sim.vectors.vector_set import VectorSet

Benches = dict[str, Callable[[], runner.Outcome]]
STALLED = 20_000  # vectors at most in the stalled bench; the flowing one has compared them all
# about so many vectors of a set in Icarus, which takes a millisecond for a floating-point sum, spread over all of the
# set's loads; Verilator compares them all
IN_ICARUS = {
    **dict.fromkeys(("fp-mul", "fp-add", "fp-compare"), 100_000),
    "fp-mac": 20_000,
    "fp-pwl": 5_000,
    **dict.fromkeys(("softmax", "layernorm", "rmsnorm"), 60_000),  # elements, half a minute
}
SHORT_ROW = 4  # sets whose rows are no longer on average are for Icarus in full: 100,000 rows a minute
ICARUS_STEPS = 200_000  # an array's cycles times its elements, ten seconds; a longer layer is left to Verilator


@dataclass(frozen=True)
class Job:
    """One set in one simulator. `protocol` adds the bench on the unit's own ports, which needs a build of its own.

    `unit` is the Verilog to check where it is not to be emitted for the set. `whole` is the size of the set of which
    `vectors` are a part, None where they are all of it.
    """

    vectors: VectorSet
    simulator: str
    protocol: bool
    unit: Device | None = None
    whole: int | None = None


def jobs(sets: Sequence[VectorSet], names: Sequence[str], quick: bool) -> list[Job]:
    """Every set in every simulator; the protocol once for each configuration, when `quick` once for each unit.

    Icarus gets a part of the slowest units' sets (`for_icarus`), and none of an array's layer that
    `too_long_for_icarus`.
    """
    for name in names:
        simulators.version(name)  # a missing one is said before anything is run
    seen = set()
    result = []
    for vectors in sets:
        key = vectors.unit if quick else (vectors.unit, repr(sorted(vectors.configuration.items())))
        for name in names:
            if name == "icarus" and too_long_for_icarus(vectors):
                continue
            part = for_icarus(vectors) if name == "icarus" else vectors
            result.append(Job(part, name, key not in seen, whole=vectors.size))
        seen.add(key)
    return result


def for_icarus(vectors: VectorSet) -> VectorSet:
    """The set, or of a slow unit's a part from all over it, about as large as `IN_ICARUS`."""
    most = IN_ICARUS.get(vectors.unit)
    if most is None or (vectors.in_rows and vectors.size <= SHORT_ROW * vectors.arrays["inputs.last"].sum()):
        return vectors
    return vectors.spread(most)


def too_long_for_icarus(vectors: VectorSet) -> bool:
    """Whether a set is a layer on an array that would keep it busy for more than some ten seconds."""
    if not isinstance(vectors, ArraySet):
        return False
    return vectors.cycles * vectors.config.rows * vectors.config.columns > ICARUS_STEPS


def run(
    work: Sequence[Job], seed: int = 0, folder: Path = runner.BUILD, waves: Path | None = None, processes: int = 1
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each job, in order, as they come; `waves` is a folder for waveforms."""
    call = partial(run_job, seed=seed, folder=folder, waves=waves)
    if processes == 1:
        yield from map(call, work)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(call, work)


def run_job(job: Job, seed: int, folder: Path, waves: Path | None) -> list[dict[str, Any]]:
    """A row for each bench: flowing, stalled, protocol. `seed` decides the stalls."""
    vectors, simulator = job.vectors, job.simulator

    def wave(bench: str) -> Path | None:
        return waves and waves.resolve() / f"{vectors.name}-{bench}-{simulator}.{WAVES[simulator]}"

    if waves:
        waves.mkdir(parents=True, exist_ok=True)
    make = _array_benches if isinstance(vectors, ArraySet) else _benches
    return [_row(job, bench, seed, _outcome(call)) for bench, call in make(job, seed, folder, wave).items()]


def _benches(job: Job, seed: int, folder: Path, wave: Callable[[str], Path | None]) -> Benches:
    """The benches of a unit with one input stream."""
    vectors, simulator = job.vectors, job.simulator
    unit = job.unit or device(vectors)
    benches: Benches = {
        "flow": lambda: runner.run_bulk(vectors, simulator, folder, waves=wave("flow"), unit=unit),
        "stall": lambda: runner.run_bulk(
            vectors.head(STALLED), simulator, folder, 1 + seed, waves=wave("stall"), unit=unit
        ),
    }
    if job.protocol:
        benches["protocol"] = lambda: runner.run_protocol(
            vectors, simulator, folder, seed, waves=wave("protocol"), unit=unit
        )
    return benches


def _array_benches(job: Job, seed: int, folder: Path, wave: Callable[[str], Path | None]) -> Benches:
    """The same three benches for a layer on the array."""
    vectors = job.vectors
    assert isinstance(vectors, ArraySet)
    run = partial(run_array, vectors, job.simulator, folder, unit=job.unit or array_device(vectors))
    benches: Benches = {
        "flow": lambda: run(jobs=2, waves=wave("flow")),
        "stall": lambda: run(stall_seed=1 + seed, waves=wave("stall")),
    }
    if job.protocol:
        benches["protocol"] = lambda: run(stall_seed=1 + seed, resets=4, waves=wave("protocol"))
    return benches


def _outcome(call: Callable[[], runner.Outcome]) -> runner.Outcome:
    """A build or simulation that breaks is a failed row like any other, and the rest goes on."""
    try:
        return call()
    except simulators.SimulationError as error:
        return runner.Outcome(0, 0, 0, 0.0, problem=str(error))


WAVES = {"icarus": "fst", "verilator": "vcd"}


def _row(job: Job, bench: str, seed: int, outcome: runner.Outcome) -> dict[str, Any]:
    configuration = {key: value for key, value in job.vectors.configuration.items() if key not in ("table", "tables")}
    return {
        "unit": job.vectors.unit,
        "set": job.vectors.name,
        "configuration": configuration,
        "simulator": job.simulator,
        "bench": bench,
        "vectors": outcome.vectors,
        "of": job.vectors.size if job.whole is None else job.whole,
        "rows": _rows(job.vectors, outcome.vectors) if bench != "protocol" else None,
        "mismatches": outcome.mismatches,
        "cycles": outcome.cycles,
        "utilisation": _utilisation(job.vectors, outcome.cycles) if bench == "flow" else None,
        "vectors_per_second": round(outcome.vectors / outcome.seconds) if outcome.seconds else 0,
        "seed": seed,
        "first": outcome.first,
        "problem": outcome.problem,
    }


def _rows(vectors: VectorSet | ArraySet, compared: int) -> int | None:
    """How many rows the first `compared` vectors are; None where vectors are no elements of rows."""
    if not isinstance(vectors, VectorSet) or not vectors.in_rows:
        return None
    return int(vectors.arrays["inputs.last"][:compared].sum())


def _utilisation(vectors: VectorSet, cycles: int) -> float | None:
    """The share of an array's multipliers' cycles that did useful work, both passes of an activation counted."""
    if not isinstance(vectors, ArraySet) or not cycles:
        return None
    work = vectors.passes * len(vectors.arrays["inputs"]) * vectors.layer.weights.size
    return round(work / (vectors.config.rows * vectors.config.columns * cycles), 6)


def passed(row: dict[str, Any]) -> bool:
    """No wrong result, no fault of the stream, and something was compared."""
    return row["mismatches"] == 0 and row["problem"] is None and row["vectors"] > 0
