"""One layer through one simulator: flowing, where the cycles must be the formula's, stalled, reset in mid-stream."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rtl.array.fetch import FETCH_CYCLES, MemoryGemm
from rtl.array.gemm import Gemm
from rtl.array.operands import images, job, pack, reading_order
from sim.cosim import array_wrapper as harness
from sim.cosim import simulators
from sim.cosim.dut import Device, emitted
from sim.cosim.run import BUILD, MUST_STALL, Outcome, counted_by_bulk
from sim.reference import InputError
from sim.vectors.array import ArraySet


def array_device(vectors: ArraySet) -> Device:
    """The array that a set is for, as Verilog."""
    component = (MemoryGemm if vectors.configuration["operands"] == "memory" else Gemm)(vectors.config)
    return emitted(component, "array")


def run_array(
    vectors: ArraySet,
    simulator: str,
    folder: Path = BUILD,
    stall_seed: int = 0,
    resets: int = 0,
    jobs: int = 1,
    waves: Path | None = None,
    unit: Device | None = None,
) -> Outcome:
    """The layer through the bench.

    With `stall_seed` 0 nothing stalls and the closed formula's cycles are required; another seed stalls every stream at
    random. `resets` resets come in mid-stream before the layer is run to its end. `jobs` is how often the layer is run,
    each time without waiting for the results before; the outcome's counts are those of the first, and the cycles of all
    must be the formula's too. `unit` replaces the emitted array, for a bench that must fail.
    """
    unit = unit or array_device(vectors)
    memory = vectors.configuration["operands"] == "memory"
    sources = {"bench.v": harness.wrapper(vectors.config, unit, memory), "unit.v": unit.verilog}
    place = simulators.build(simulator, sources, harness.TOP, harness.VISIBLE, folder, waves is not None)
    with tempfile.TemporaryDirectory(prefix="array-") as run:
        path = Path(run)
        plusargs = _write(vectors, path, memory, jobs) | {
            "stall_seed": stall_seed,
            "resets": resets,
            "jobs": jobs,
            "reset_after": max(vectors.cycles // (resets + 1), 1),
        }
        counted = counted_by_bulk(simulator, place, harness.TOP, path, plusargs, waves)
    return _judge(vectors, counted, stall_seed, resets, jobs)


def _write(vectors: ArraySet, path: Path, memory: bool, jobs: int) -> dict[str, Any]:
    """The memories' files and the settings; returns the plusargs that name them."""
    config, layer, inputs = vectors.config, vectors.layer, vectors.arrays["inputs"]
    plusargs: dict[str, Any] = {}
    orders = reading_order(config, layer, len(inputs))
    for name, words in images(config, layer, inputs)._asdict().items():
        if words is None:
            continue
        if not memory:
            plusargs[f"{name}_total"] = jobs * len(orders[name])
            # every output tile takes the same activations: the bench goes through them again
            length = len(orders[name]) // config.schedule.output_tiles(layer.outputs) if name == "a" else None
            words = words[orders[name][:length]]
        plusargs |= {name: _hex(path / f"{name}.hex", words), f"{name}_length": len(words)}
        if len(words) > harness.DEPTH:
            raise InputError(f"{vectors.name}: {name} must be at most {harness.DEPTH} words, not {len(words)}")
    beats = vectors.beats
    expected = pack([(beats, config.out_layout.size // config.columns)])
    payload = config.job_layout.const(job(config, layer, len(inputs)).payload(config)).as_value().value
    plusargs |= {
        "expected": _hex(path / "expected.hex", expected),
        "count": len(beats),
        "job": f"{payload:x}",
        "zero_point": layer.zero_point & ((1 << config.out_bits) - 1),
    }
    if config.pwl is not None and vectors.table is not None:
        plusargs |= {name: getattr(vectors.table, name) for name in config.pwl.shift_ports}
        if config.pwl.storage != "constants":
            loads = [w.select << 48 | w.address << 32 | w.data for w in config.pwl.words(vectors.table)]
            (path / "table.hex").write_text("".join(f"{load:016x}\n" for load in loads))
            plusargs |= {"table": path / "table.hex", "words": len(loads)}
    return plusargs


def _hex(path: Path, words: np.ndarray) -> Path:
    path.write_text("".join(f"{word.tobytes().hex()}\n" for word in words[:, ::-1]))
    return path


def _judge(vectors: ArraySet, counted: dict[str, Any], stall_seed: int, resets: int, jobs: int) -> Outcome:
    count = len(vectors.beats)
    cycles = vectors.cycles + (FETCH_CYCLES if vectors.configuration["operands"] == "memory" else 0)
    all_cycles = cycles + (jobs - 1) * vectors.interval
    problem = None
    if counted["stuck"]:
        problem = f"stuck after {counted['checked']} of {jobs * count} beats"
    elif counted["in_flight"] != resets:
        problem = f"{counted['in_flight']} of {resets} resets came in mid-stream"
    elif counted["extra"]:
        problem = f"{counted['extra']} beats too many"
    elif counted["left"]:
        problem = f"{counted['left']} beats of operands were not taken"
    elif counted["unstable"]:
        problem = f"{counted['unstable']} results changed or were withdrawn before they were taken"
    elif counted["wrong_again"]:
        problem = f"{counted['wrong_again']} codes wrong in the jobs after the first"
    elif not stall_seed and counted["cycles"] != cycles:
        problem = f"{counted['cycles']} cycles, not the formula's {cycles}"
    elif not stall_seed and counted["all_cycles"] != all_cycles:
        problem = f"{counted['all_cycles']} cycles for {jobs} jobs, not the formula's {all_cycles}"
    elif stall_seed and count >= MUST_STALL and counted["cycles"] <= cycles:
        problem = f"{counted['cycles']} cycles, so nothing stalled"
    first = vectors.describe(counted["first_index"], counted["first_got"]) if counted["mismatches"] else None
    vectors_compared = vectors.size if counted["checked"] >= count else counted["checked"] * vectors.config.columns
    return Outcome(vectors_compared, counted["mismatches"], counted["cycles"], counted["seconds"], first, problem)
