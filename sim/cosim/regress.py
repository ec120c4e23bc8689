"""The regression: every set of vectors, in every simulator, flowing freely and stalled, and the ports' protocol.

A run that fails is repeated once with a waveform.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sim.cosim import simulators
from sim.cosim.dut import Device, device
from sim.cosim.names import require_file_name
from sim.cosim.options import BUILD, BenchOptions
from sim.cosim.run import Outcome, run_bulk, run_protocol
from sim.cosim.run_array import array_device, run_array
from sim.cosim.workers import workers
from sim.vectors.array import ArraySet
from sim.vectors.vector_set import VectorSet

Runs = dict[str, Callable[[BenchOptions], Outcome]]
STALLED = 20_000  # vectors at most in the stalled run; the flowing one has compared them all
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
    """One set in one simulator. `protocol` adds the run on the unit's own ports, which needs a build of its own.

    `unit` is the Verilog to check, None to emit it for the set. `whole` is the size of the set of which `vectors` are a
    part, None if they are all of it. Raises `InputError` if the set's name is no plain file name.
    """

    vectors: VectorSet
    simulator: str
    protocol: bool
    unit: Device | None = None
    whole: int | None = None

    def __post_init__(self) -> None:
        require_file_name("a set of vectors", self.vectors.name)


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
    """Whether a set is a layer on an array that would keep Icarus busy for more than some ten seconds."""
    if not isinstance(vectors, ArraySet):
        return False
    return vectors.cycles * vectors.config.rows * vectors.config.columns > ICARUS_STEPS


def run(
    work: Sequence[Job], seed: int = 0, folder: Path = BUILD, waves: Path | None = None, processes: int = 1
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each job, in order, as they come.

    Parameters
    ----------
    work : Sequence[Job]
        The jobs.
    seed : int
        Decides the stalls.
    folder : Path
        For builds, and for the waveforms of runs that fail. What killed runs left half-made there is removed.
    waves : Path or None
        A folder for the waveform of every run.
    processes : int
        Jobs at once. They end with this process, however it ends.
    """
    simulators.clean(folder)
    call = partial(run_job, seed=seed, folder=folder, waves=waves)
    if processes == 1:
        yield from map(call, work)
        return
    with workers(call, work, processes) as results:
        yield from results


def run_job(job: Job, seed: int, folder: Path, waves: Path | None) -> list[dict[str, Any]]:
    """A row for each run: flowing, stalled, protocol. `seed` decides the stalls."""
    if isinstance(job.vectors, ArraySet):
        dut, runs = job.unit or array_device(job.vectors), _array_runs(job.vectors, job.protocol, seed)
    else:
        dut, runs = job.unit or device(job.vectors), _unit_runs(job.vectors, job.protocol, seed)
    options = BenchOptions(job.simulator, folder, dut=dut)
    rows = []
    for name, call in runs.items():
        stem = (waves or folder / "waves").resolve() / f"{job.vectors.name}-{name}-{job.simulator}"
        outcome, waveform = _outcome(call, options, stem, waves is not None)
        rows.append(_row(job, name, seed, outcome) | {"waves": waveform and str(waveform)})
    return rows


def _unit_runs(vectors: VectorSet, protocol: bool, seed: int) -> Runs:
    """The runs of a unit with one input stream."""
    runs: Runs = {
        "flow": lambda options: run_bulk(vectors, options),
        "stall": lambda options: run_bulk(vectors.head(STALLED), replace(options, stall_seed=1 + seed)),
    }
    if protocol:
        runs["protocol"] = lambda options: run_protocol(vectors, options, seed)
    return runs


def _array_runs(vectors: ArraySet, protocol: bool, seed: int) -> Runs:
    """The same three runs for a layer on the array."""
    runs: Runs = {
        "flow": lambda options: run_array(vectors, replace(options, repeats=2)),
        "stall": lambda options: run_array(vectors, replace(options, stall_seed=1 + seed)),
    }
    if protocol:
        runs["protocol"] = lambda options: run_array(vectors, replace(options, stall_seed=1 + seed, resets=4))
    return runs


def _outcome(
    call: Callable[[BenchOptions], Outcome], options: BenchOptions, stem: Path, always: bool
) -> tuple[Outcome, Path | None]:
    """The outcome of one run, and its waveform, `stem` and its format: of a second run if the first fails, or `always`.

    A build or simulation that breaks is a failed row like any other, and the rest goes on.
    """
    if always:
        options = _traced(options, stem)
    try:
        outcome = call(options)
    except simulators.BuildError as error:
        return Outcome(0, 0, 0, 0.0, problem=str(error)), None
    except simulators.SimulationError as error:
        outcome = Outcome(0, 0, 0, 0.0, problem=str(error))
    if not outcome.passed and not always:
        options = _traced(options, stem)
        try:
            call(options)
        except simulators.BuildError as error:
            outcome = replace(outcome, problem="; ".join(filter(None, (outcome.problem, f"no waveform: {error}"))))
        except simulators.SimulationError:  # as the first time
            pass
    return outcome, options.waves if options.waves is not None and options.waves.exists() else None


def _traced(options: BenchOptions, stem: Path) -> BenchOptions:
    """The same run with a waveform."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    return replace(options, waves=stem.with_name(f"{stem.name}.{simulators.wave_format(options.simulator)}"))


def _row(job: Job, bench: str, seed: int, outcome: Outcome) -> dict[str, Any]:
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
        "edited": job.unit is not None and job.unit.edited,
        "first": outcome.first,
        "problem": outcome.problem,
    }


def _rows(vectors: VectorSet | ArraySet, compared: int) -> int | None:
    """How many rows the first `compared` vectors are; None if the unit does not work on rows."""
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
