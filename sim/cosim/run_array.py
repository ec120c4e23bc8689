"""One layer in one simulator: without stalls, in exactly the formula's cycles, or with stalls and resets."""

from pathlib import Path
from typing import Any

import numpy as np

from rtl.array.fetch import FETCH_CYCLES, MemoryGemm
from rtl.array.gemm import Gemm
from rtl.array.operands import images, job, pack, reading_order
from sim.cosim import array_wrapper, simulators
from sim.cosim.dut import Device, emitted
from sim.cosim.options import BenchOptions
from sim.cosim.run import MUST_STALL, Outcome, counted_by_wrapper
from sim.cosim.simulators import Build
from sim.reference import InputError
from sim.vectors.array import ArraySet


def array_device(vectors: ArraySet) -> Device:
    """The array that a set is for, as Verilog."""
    return emitted(array_component(vectors), "array")


def array_component(vectors: ArraySet) -> Any:
    """The array of a set as an Amaranth component."""
    return (MemoryGemm if vectors.configuration["operands"] == "memory" else Gemm)(vectors.config)


def run_array(vectors: ArraySet, options: BenchOptions) -> Outcome:
    """The layer through the array's wrapper, `options.repeats` times without waiting for results.

    The outcome's counts are those of the first job; the cycles of all jobs must also be the formula's.
    """
    unit = options.dut or array_device(vectors)
    memory = vectors.configuration["operands"] == "memory"
    sources = {"bench.v": array_wrapper.wrapper(vectors.config, unit, memory), "unit.v": unit.verilog}
    build = Build(options.simulator, sources, array_wrapper.TOP, array_wrapper.VISIBLE, options.waves is not None)
    place = simulators.build(build, options.folder)
    with simulators.scratch("array-") as folder:
        plusargs = write_operands(vectors, folder, options.repeats) | {
            "stall_seed": options.stall_seed,
            "resets": options.resets,
            "jobs": options.repeats,
            "reset_after": max(vectors.cycles // (options.resets + 1), 1),
        }
        counted = counted_by_wrapper(place, array_wrapper.TOP, folder, plusargs, options)
    return _judge(vectors, counted, options)


def write_operands(vectors: ArraySet, path: Path, jobs: int = 1) -> dict[str, Any]:
    """Write the memories' files of the wrapper into a folder; returns the plusargs that name them, and its settings."""
    config, layer, inputs = vectors.config, vectors.layer, vectors.arrays["inputs"]
    memory = vectors.configuration["operands"] == "memory"
    plusargs: dict[str, Any] = {}
    orders = reading_order(config, layer, len(inputs))
    for name, words in images(config, layer, inputs)._asdict().items():
        if words is None:
            continue
        if not memory:
            plusargs[f"{name}_total"] = jobs * len(orders[name])
            # every output tile takes the same activations: the wrapper goes through them again
            length = len(orders[name]) // config.schedule.output_tiles(layer.outputs) if name == "a" else None
            words = words[orders[name][:length]]
        plusargs |= {name: _hex(path / f"{name}.hex", words), f"{name}_length": len(words)}
        if len(words) > array_wrapper.DEPTH:
            raise InputError(f"{vectors.name}: {name} must be at most {array_wrapper.DEPTH} words, not {len(words)}")
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


def _judge(vectors: ArraySet, counted: dict[str, Any], options: BenchOptions) -> Outcome:
    stall_seed, resets, jobs = options.stall_seed, options.resets, options.repeats
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
