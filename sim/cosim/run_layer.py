"""A program on the engine's Verilog in one simulator: every write to the memory is the specification's."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rtl import emit
from rtl.layer.config import EngineConfig
from rtl.layer.encoding import Encoded, encode
from rtl.layer.engine import Engine
from sim.common.files import write_together, write_whole
from sim.cosim import run_layer_bench as text
from sim.cosim import simulators
from sim.reference.engine import ELEMENT_BITS, NARROW_BITS, Instruction, Written
from sim.reference.engine import Engine as Specification

VERILATOR = ("--binary", "--timing", "-O3", "--x-assign", "fast", "--x-initial", "fast", *simulators.VERILATOR_FLAGS)

# Least depths of the bench's memories, so that programs share a build, which takes minutes; Icarus takes a second
DEPTHS = {"program": 1 << 16, "i": 1 << 14, "w": 1 << 20, "c": 1 << 14, "expected": 1 << 20, "stored": 1 << 14}


@dataclass(frozen=True)
class Run:
    """What a run counted.

    `durations` are the cycles of each instruction of the program, without the writes of tables before it. `first` is
    the number of the first instruction that wrote something else, `place` that of the write in it, and `found` what it
    wrote, (address, word). `problem` is what else is wrong.
    """

    cycles: int
    writes: int
    mismatches: int
    resets: int
    durations: tuple[int, ...]
    stored: np.ndarray
    first: int | None = None
    place: int | None = None
    found: tuple[int, np.ndarray] | None = None
    problem: str | None = None


def engine_verilog(config: EngineConfig, folder: Path) -> str:
    """The engine as Verilog, module `engine`; kept in `folder` with its hash, because a large one takes a minute.

    One that is damaged or was edited there is made anew, with a warning on stderr.
    """
    sources = (path.read_bytes() for path in sorted(Path(emit.__file__).parent.rglob("*.py")))
    digest = hashlib.sha256(b"\0".join([repr(config).encode(), *sources])).hexdigest()[:16]
    kept = folder / f"engine-{digest}.v"
    seal = kept.with_suffix(".sha256")
    if kept.exists():
        found = kept.read_bytes()
        if seal.exists() and seal.read_bytes() == _hash(found):
            return found.decode()
        print(f"warning: {kept}: damaged or altered, and made anew", file=sys.stderr)
    made = emit.render(Engine(config), "engine", "layer")[0]
    write_together({kept: made, seal: _hash(made.encode())})
    return made


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


@dataclass(frozen=True)
class Options:
    """The simulator, the folder of builds, and how the outer streams stall and when a reset comes; 0 for never."""

    simulator: str
    folder: Path
    stall_seed: int = 0
    reset_after: int = 0


def run_layer(
    config: EngineConfig,
    program: Sequence[Instruction],
    options: Options,
    specified: Sequence[Instruction] | None = None,
) -> Run:
    """Run a program; the expected writes are those of `sim.reference.engine` for it, or for the program `specified`.

    Raises `SimulationError` if the simulator fails.
    """
    encoded = encode(config, program)
    specified = program if specified is None else specified
    written = Specification(config.words, config.lanes).run(specified)
    files = _files(config, encoded, specified, written)
    sizes = {name: len(lines) for name, lines in files.items()} | {"stored": encoded.stored}
    least = DEPTHS if options.simulator == "verilator" else {}
    depths = {name: max(least.get(name, 1), 1 << size.bit_length()) for name, size in sizes.items()}
    layouts = {"program": config.instruction, "i": config.word, "w": config.weights, "c": config.channels}
    widths = {name: layout.size for name, layout in layouts.items()}
    bench = text.bench(widths, depths, config.word.size, config.address_bits, config.lanes)
    program_file = _build(options, engine_verilog(config, options.folder), bench)
    with simulators.scratch("layer-") as place:
        for name, lines in files.items():
            (place / f"{name}.hex").write_text("".join(f"{line:x}\n" for line in lines))
        plus = [f"+{name}={len(lines)}" for name, lines in files.items()]
        plus += [f"+stall_seed={options.stall_seed}", f"+reset_after={options.reset_after}", "+trace"]
        command = ["vvp", str(program_file)] if options.simulator == "icarus" else [str(program_file)]
        done = subprocess.run([*command, *plus], cwd=place, capture_output=True, text=True, check=False)
        lines = [line.split() for line in done.stdout.splitlines()]
        counts = next((list(map(int, line[1:])) for line in lines if line[:1] == ["counts"]), None)
        if counts is None:
            raise simulators.SimulationError(f"{options.simulator} stopped: {(done.stdout + done.stderr)[-2000:]}")
        first = next((line[1:] for line in lines if line[:1] == ["first"]), None)
        starts = list(map(int, (place / "starts.txt").read_text().split()))[-len(encoded.program) :]
        durations = np.diff([*starts, counts[0]])
        stored = _read(place / "stored.hex", config.lanes)
    places = encoded.place if len(starts) == len(encoded.program) else []
    judged = _judge(counts, first, durations[places].tolist(), stored, encoded, written, config)
    if judged.problem is None and judged.first is None and not options.stall_seed and not options.reset_after:
        return replace(judged, problem=_off_schedule(config, program, encoded, durations))
    return judged


def _off_schedule(
    config: EngineConfig, program: Sequence[Instruction], encoded: Encoded, durations: np.ndarray
) -> str | None:
    """The first instruction that took other cycles than its schedule says."""
    want = np.ones(len(encoded.program), dtype=np.int64)
    want[encoded.place] = [config.schedule.cycles(instruction) for instruction in program]
    off = np.flatnonzero(durations != want)
    if not len(off):
        return None
    which = int(np.searchsorted(encoded.place, off[0]))
    name = type(program[min(which, len(program) - 1)]).__name__
    return f"instruction {which}, {name}: {durations[off[0]]} cycles, not the schedule's {want[off[0]]}"


def _files(
    config: EngineConfig, encoded: Encoded, program: Sequence[Instruction], written: Sequence[Written]
) -> dict[str, list[int]]:
    expected = []
    for each in written:
        bits = 1 << np.arange(config.lanes, dtype=object)
        counted = (each.counted.astype(object) * bits).sum(1)
        for address, word, lanes in zip(each.addresses, packed(each.elements, ELEMENT_BITS), counted, strict=True):
            expected.append((int(address), word, int(lanes)))
    masks = _masks(config, program, written)
    size, address_bits, lanes = config.word.size, config.address_bits, config.lanes
    return {
        "program": encoded.program,
        "i": [word for words in encoded.i for word in packed(words, ELEMENT_BITS)],
        "w": [word for words in encoded.w for word in packed(words, NARROW_BITS)],
        "c": encoded.c,
        "expected": [
            ((counted << lanes | mask) << address_bits | address) << size | word
            for (address, word, counted), mask in zip(expected, masks, strict=True)
        ],
    }


def _masks(config: EngineConfig, program: Sequence[Instruction], written: Sequence[Written]) -> list[int]:
    """The lanes that each write has to write: all but those that "map" leaves alone."""
    every = (1 << config.lanes) - 1
    found = []
    for instruction, each in zip(program, written, strict=True):
        mask = getattr(instruction, "mask", None)
        lanes = every if mask is None else sum(1 << int(k) for k in np.flatnonzero(mask))
        found += [lanes] * len(each.addresses)
    return found


def packed(words: np.ndarray, bits: int) -> list[int]:
    """Words (W, lanes) of `bits`-bit elements as integers, lane 0 lowest."""
    kind = {8: "<i1", 16: "<i2"}[bits]
    return [int.from_bytes(word.tobytes(), "little") for word in np.asarray(words).astype(kind)]


def _read(path: Path, lanes: int) -> np.ndarray:
    lines = path.read_text().splitlines() if path.exists() else []
    words = [line for line in lines if not line.startswith("//")]  # Icarus writes each sixteenth address as a comment
    data = b"".join(int(word, 16).to_bytes(2 * lanes, "little") for word in words)
    return np.frombuffer(data, "<i2").reshape(-1, lanes).astype(np.int64)


def _build(options: Options, verilog: str, bench: str) -> Path:
    """The simulation's program in a folder that is named after its content."""
    version = simulators.version(options.simulator)
    digest = hashlib.sha256("\0".join([version, verilog, bench, *VERILATOR]).encode()).hexdigest()[:16]
    target = options.folder.resolve() / f"layer-{options.simulator}-{digest}"
    made = target / ("bench.vvp" if options.simulator == "icarus" else "bench")
    if made.exists():
        return made
    simulators.require_folder(options.simulator, options.folder)
    simulators.clean(options.folder)
    if options.simulator == "icarus":
        # with SystemVerilog, Icarus does not evaluate the generated logic before the first clock edge
        command = ["iverilog", "-g2005", "-o", made.name, "-s", text.TOP, "engine.v", "bench.v"]
    else:
        command = ["verilator", *VERILATOR, "--top-module", text.TOP, "--Mdir", "obj", "-o", f"../{made.name}"]
        command += ["engine.v", "bench.v"]
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        for name, content in (("engine.v", verilog), ("bench.v", bench)):
            write_whole(aside / name, content)
        with simulators.environment(options.simulator):
            done = subprocess.run(command, cwd=aside, capture_output=True, text=True, check=False)
        if done.returncode:
            simulators.require_room(options.folder)
            said = (done.stdout + done.stderr)[-2000:]
            raise simulators.BuildError(f"{options.simulator} cannot build the engine: {said}")
        with contextlib.suppress(OSError):  # another process was first: its build is the same
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return made


def _judge(
    counts: list[int], first: list[str] | None, durations: Sequence[int], stored: np.ndarray, encoded: Encoded,
    written: Sequence[Written], config: EngineConfig,
) -> Run:  # fmt: skip
    cycles, checked, taken, wrong, resets, done, left = counts
    want = sum(len(each.addresses) for each in written)
    problem = None
    if not done:
        problem = f"stuck after {checked} of {want} writes"
    elif checked != want:
        problem = f"{checked} writes, not {want}"
    elif taken != encoded.stored:
        problem = f"{taken} words were stored, not {encoded.stored}"
    elif left:
        problem = f"{left} beats of i, w and c were not taken"
    own = tuple(durations)
    if first is None:
        return Run(cycles, checked, wrong, resets, own, stored, problem=problem)
    number, address = int(first[0]), int(first[1], 16)
    ends = np.cumsum([len(each.addresses) for each in written])
    word = np.frombuffer(int(first[2], 16).to_bytes(2 * config.lanes, "little"), "<i2").astype(np.int64)
    which = int(np.searchsorted(ends, number, side="right"))
    place = number - int(ends[which - 1] if which else 0)
    return Run(cycles, checked, wrong, resets, own, stored, which, place, (address, word), problem)
