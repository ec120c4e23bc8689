"""A netlist against the vectors of its unit, and the toggles of its nets.

The netlist takes the unit's place in the wrapper of the regression (`sim.cosim.wrapper`). Every result is compared,
with and without stalls, before the netlist is measured. The simulator counts toggles while one set of vectors runs
without stalls, from the first beat offered to the last result taken; loading the table is left out.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cost_model.cache import CACHE, digest, remember, warn_damaged
from cost_model.netlist import memories
from cost_model.netlist.memories import Memory
from cost_model.netlist.netlist import Netlist
from sim.common.files import write_whole
from sim.cosim import simulators, wrapper
from sim.cosim.dut import Device
from sim.reference import InputError
from sim.vectors.vector_set import VectorSet

STALL_SEED = 1
SIMULATORS = simulators.SIMULATORS
GLITCHES = "glitches"  # an engine: Icarus, each cell with the library's delays at its load
_VERILATOR = (
    *("--binary", "--timing", "--trace-saif", "--trace-underscore", "-Wno-fatal", "-Wno-lint", "--x-initial", "0"),
    *("--output-split", "20000", "-MAKEFLAGS", "OPT_SLOW=-O0", "-MAKEFLAGS", "OPT_FAST=-O0"),
)
_COUNTERS = ("mismatches", "checked", "extra", "cycles", "stuck", "first_index")


class GateLevelError(RuntimeError):
    """A netlist's results differ from the unit's specification."""


@dataclass(frozen=True)
class Activity:
    """Toggles of each net of the netlist with this hash over `cycles` clock cycles; nets without any are left out."""

    netlist_sha256: str
    simulator: str
    vectors: str
    cycles: int
    toggles: Mapping[int, int]


@dataclass(frozen=True)
class Verified:
    """The netlist with this hash gave all `vectors` expected results, with and without stalls."""

    netlist_sha256: str
    simulator: str
    vectors: int


class GateLevel:
    """One netlist in the wrapper of its unit.

    `unit` is the unit that the netlist was synthesised from, `beside` the memories that were cut out of it. `simulator`
    is one of `SIMULATORS`, at zero delay, or `GLITCHES`, with delays.

    Raises `InputError` if the simulator is missing, or with `GLITCHES` if the library has no delays.
    """

    def __init__(
        self,
        netlist: Netlist,
        unit: Device,
        simulator: str = "verilator",
        cache: Path = CACHE,
        beside: Sequence[Memory] = (),
    ) -> None:
        delayed = simulator == GLITCHES
        if delayed and not netlist.library.has_delays:
            raise InputError(f"library {netlist.library.name}: glitches need a library with delays")
        self.netlist = replace(netlist, delayed=delayed)
        self.unit = replace(unit, verilog=memories.verilog(self.netlist, unit.module, beside))
        self.simulator = "icarus" if delayed else simulator
        self.version = simulators.version(self.simulator)
        self.engine = self.version + (", delays of the library's cells" if delayed else "")
        self.cache = cache
        top = _TOP.replace("bulk bench(", f"{wrapper.top(self.unit)} bench(")
        if delayed:
            top = f"`timescale 1us/1ps\n{top}"  # a clock so slow that every glitch ends within its half
        self.sources = {"power.v": top, "bulk.v": wrapper.wrapper(self.unit), "unit.v": self.unit.verilog}
        self._identity = [self.simulator, self.version, _VERILATOR, self.sources]

    def verify(self, sets: Sequence[VectorSet], stalls: bool = True) -> Verified:
        """Compare every result of every set, without stalls and, if `stalls`, with them.

        Raises `GateLevelError` if a result differs or is missing, or there are too many.
        """
        for vectors in sets:
            for chunk in wrapper.chunks(vectors, self.unit):
                for stall in (0, STALL_SEED) if stalls else (0,):
                    self._require_equal(vectors, chunk, self._run(vectors, chunk, stall, "none"))
        return Verified(self.netlist.sha256, self.engine, sum(vectors.size for vectors in sets))

    def activity(self, vectors: VectorSet) -> Activity:
        """The toggles during a set of one load without stalls. Raises `GateLevelError` if a result differs."""
        chunk, *more = wrapper.chunks(vectors, self.unit)
        assert not more and len(vectors.counts) == 1, "one load that fits the memory"
        result = self._run(vectors, chunk, 0, "saif" if self.simulator == "verilator" else "vcd")
        self._require_equal(vectors, chunk, result)
        toggles = {int(net): count for net, count in result["toggles"].items()}
        return Activity(self.netlist.sha256, self.engine, vectors.name, result["cycles"], toggles)

    def _require_equal(self, vectors: VectorSet, chunk: wrapper.Chunk, result: dict[str, Any]) -> None:
        count = chunk.last - chunk.first
        if result["mismatches"]:
            first = vectors.describe(chunk.first + result["first_index"], result["first_got"])
            raise GateLevelError(
                f"netlist of {vectors.name}: {result['mismatches']} of {count} results differ, the first: {first}"
            )
        if result["stuck"] or result["checked"] != count or result["extra"]:
            raise GateLevelError(f"netlist of {vectors.name}: {result['checked']} results instead of {count}")

    def _run(self, vectors: VectorSet, chunk: wrapper.Chunk, stall: int, trace: str) -> dict[str, Any]:
        texts = (chunk.vectors_hex(vectors, self.unit), chunk.program_hex())
        identity = [self._identity, *texts, stall, trace]
        return json.loads(remember(self.cache, "gates", identity, lambda: self._simulate(chunk, texts, stall, trace)))

    def _simulate(self, chunk: wrapper.Chunk, texts: tuple[str, str], stall: int, trace: str) -> str:
        program = self._build()
        with tempfile.TemporaryDirectory(prefix="gates-") as name, simulators.environment(self.simulator):
            folder = Path(name)
            for file, text in zip(("vectors.hex", "program.hex"), texts, strict=True):
                (folder / file).write_text(text)
            count, length = chunk.last - chunk.first, len(chunk.steps) + 1
            arguments = [
                "+vectors=vectors.hex", "+program=program.hex", f"+count={count}", f"+program_length={length}",
                f"+stall_seed={stall}", f"+trace={trace}",
            ]  # fmt: skip
            command = [str(program)] if self.simulator == "verilator" else ["vvp", "-n", str(program)]
            run = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
            found = re.search(r"^RESULT (.*)$", run.stdout, re.MULTILINE)
            if run.returncode or not found:
                raise simulators.SimulationError(f"{self.simulator} stopped: {(run.stdout + run.stderr)[-1500:]}")
            words = found[1].split()
            result: dict[str, Any] = dict(zip(_COUNTERS, map(int, words), strict=False))
            result["first_got"] = int(words[-1].translate(str.maketrans("xXzZ", "0000")), 16)
            if trace != "none":
                path = folder / f"trace.{trace}"
                result["toggles"] = saif_toggles(path) if trace == "saif" else vcd_toggles(path)
            return json.dumps(result)

    def _build(self) -> Path:
        """The simulator's program for this netlist, built if it does not exist."""
        target = self.cache.resolve() / f"{self.simulator}-{digest(self._identity)[:24]}"
        seal = target.with_suffix(".sha256")
        if target.exists():
            if seal.exists() and seal.read_text() == _file_sha256(target):
                return target
            warn_damaged(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gates-") as name, simulators.environment(self.simulator):
            folder = Path(name)
            for file, text in self.sources.items():
                (folder / file).write_text(text)
            runtime = target.with_name(f"runtime-{digest([self.version, _VERILATOR])[:24]}")
            if self.simulator == "verilator":
                (folder / "made").mkdir()
                simulators.take_runtime(runtime, folder / "made")
                command = ["verilator", *_VERILATOR, "--top-module", "power", "-Mdir", "made", "-o", "program"]
                made = folder / "made" / "program"
            else:
                made = folder / "program"
                command = ["iverilog", "-g2012", "-s", "power", "-o", str(made)]
            run = subprocess.run([*command, *self.sources], cwd=folder, capture_output=True, text=True, check=False)
            if run.returncode or not made.exists():
                raise simulators.SimulationError(f"{self.simulator} cannot build the netlist: {run.stderr[-1500:]}")
            if self.simulator == "verilator":
                simulators.keep_runtime(folder / "made", runtime)
            # under the seal's name: the next write of the seal removes what a killed run left
            aside = target.with_name(f".{seal.name}.program.{os.getpid()}.partial")
            shutil.copy(made, aside)
            write_whole(seal, _file_sha256(aside))
            aside.replace(target)
        return target


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saif_toggles(path: Path) -> dict[int, int]:
    """Toggles by net, n<number> in the file, of a SAIF file; nets that never change are left out.

    Verilator assumes that every net is 0 before the file begins, so a net that starts at 1 has one toggle too many.
    """
    return {int(net): int(count) for net, count in _SAIF_NET.findall(path.read_text()) if count != "0"}


_SAIF_NET = re.compile(r"^\s*\(n(\d+) .*\(TC (\d+)\)", re.MULTILINE)


def vcd_toggles(path: Path) -> dict[int, int]:
    """Toggles by net of a VCD file: changes between known values, from the first value of a net on."""
    nets: dict[str, int] = {}
    values: dict[str, str] = {}
    toggles: Counter[int] = Counter()
    with path.open() as lines:
        for line in lines:
            if line.startswith("$var"):
                words = line.split()
                if re.fullmatch(r"n\d+", words[4]):
                    nets[words[3]] = int(words[4][1:])
            elif line[0] in "01xz" and (code := line[1:].strip()) in nets:
                if line[0] in "01" and values.get(code, "x") in "01" and line[0] != values[code]:
                    toggles[nets[code]] += 1
                values[code] = line[0]
    return dict(toggles)


_TOP = """\
module power;
  reg rst = 1;
  wire done;
  reg tracing = 0;
  reg [63:0] trace;
  bulk bench(.rst(rst), .done(done));
  initial begin
    if (!$value$plusargs("trace=%s", trace)) trace = "none";
    #7 rst = 0;
  end
  always @(negedge bench.clk) begin
    if (trace != "none" && !rst && bench.streaming && !tracing) begin
      tracing = 1;
      $dumpfile(trace == "vcd" ? "trace.vcd" : "trace.saif");
      $dumpvars(0, bench.unit);
    end
    if (!rst && (tracing ? !bench.streaming : done)) begin
      $display("RESULT %0d %0d %0d %0d %0d %0d %h", bench.mismatches, bench.checked, bench.extra, bench.cycles,
        bench.stuck, bench.first_index, bench.first_got);
      $finish;
    end
  end
endmodule
"""
