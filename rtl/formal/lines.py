"""`python -m rtl.formal.lines`: each line of a unit matters to its proofs.

A line is one bit of a wire or register of the emitted Verilog, where it is driven. It is stuck at 0 and stuck at 1; a
proof must refute both. A line that takes only one value in the unit's shape survives one of the two: then the proofs
say nothing of what drives it, and another shape must. The few faults that survive in `SHAPE` are known, with the reason
for each; exit code 1 if they are others.

The faults of one proof are decided in one run of Yosys: the unit gets the input `stuck`, with a bit for each line, and
the input `value`. A line that no assertion depends on is left to the next proof.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from rtl.formal.opened import opened
from rtl.formal.prove import Proof, proofs, verdicts, yosys
from rtl.pwl import Pwl, PwlConfig
from sim.common.command import Parser, print_json, run

# the smallest unit whose adder passes a carry from its low to its high half
SHAPE = PwlConfig(4, in_bits=4, coef_bits=4, out_bits=4, max_intercept_shift=6)
BATCH = 64  # faults of one run of Yosys
_ONE = "an operand of its full adder is 1, so that x | ~x & z is x | z"
_CUT = "a carry out of the accumulator's top"
# (wire, bit, value) of each fault of `SHAPE` that the proofs show to change nothing, and why
HARMLESS = {
    **dict.fromkeys(
        [("row_1_1", bit, 0) for bit in (0, 1, 2, 3, 5, 7, 8, 9)], "its column has one row: it is constant 0"
    ),
    **dict.fromkeys([(r"\$303", 6, 0), (r"\$303", 6, 1)], _CUT),
    **dict.fromkeys([(r"\$304", bit, value) for bit in (6, 7) for value in (0, 1)], _CUT),
    **dict.fromkeys([(rf"\${net}", 0, 1) for net in (236, 248, 287, 293, 299)], _ONE),
    **dict.fromkeys([(rf"\$auto$rtlil.cc:2739:Not${net}", 0, 1) for net in (4, 10, 14, 18)], _ONE),
    (r"\$121", 0, 0): "where the digit is -2 a carry comes from below",
}

_DRIVEN = re.compile(r"^(  assign |  always @\(posedge clk\)\n    )(\\\S+ |\w+) ?(<?=) (.*);$", re.M)
_DECLARED = re.compile(r"^  (?:reg|wire) (?:signed )?(?:\[(\d+):0\] )?(\\\S+ |\w+)(?: ?= .*)?;$", re.M)


class Line(NamedTuple):
    """One bit of a wire."""

    wire: str
    bit: int


class Stuck(NamedTuple):
    """A fault: a line that always has one value."""

    line: Line
    value: int


@dataclass(frozen=True)
class Breakable:
    """A unit in which any line can be stuck: its text, and the line of each bit of the input `stuck`."""

    text: str
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, text: str) -> "Breakable":
        """From the text of a module `unit`."""
        widths = {found[2].strip(): int(found[1] or 0) + 1 for found in _DECLARED.finditer(text)}
        lines: list[Line] = []

        def broken(found: re.Match[str]) -> str:
            wire = found[2].strip()
            first, bits = len(lines), widths[wire]
            lines.extend(Line(wire, bit) for bit in range(bits))
            good, mask = f"good_{first}", f"stuck[{first + bits - 1}:{first}]"
            driver = f"  wire [{bits - 1}:0] {good} = {found[4]};\n"  # a wire of its own, so that its width stays
            return f"{driver}{found[1]}{found[2]} {found[3]} value ? {good} | {mask} : {good} & ~{mask};"

        text = _DRIVEN.sub(broken, text)
        inputs = f"\n  input [{len(lines) - 1}:0] stuck;\n  input value;"
        return cls(re.sub(r"^module unit\((.*)\);$", rf"module unit(stuck, value, \1);{inputs}", text, flags=re.M),
                   tuple(lines))  # fmt: skip


def refuted(proof: Proof, faults: Collection[Stuck] | None = None, timeout: int = 600) -> tuple[set[Stuck], set[Stuck]]:
    """The faults that the proof refutes, and those that it proves harmless although its assertions depend on the line.

    `faults` chooses some; by default all. `timeout` is for a batch, in seconds. Raises `RuntimeError` if one is
    undecided.
    """
    unit = Breakable.of(proof.unit)
    count = len(unit.lines)
    check = proof.check.replace("unit dut(", "unit dut(.stuck(stuck), .value(value), ", 1)
    check = check.replace("input clk,", f"input [{count - 1}:0] stuck, input value, input clk,", 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "unit.v").write_text(unit.text)
        (folder / "check.v").write_text(check)
        (folder / "prepare.ys").write_text("\n".join([*proof.prepare(), "write_json all.json", "write_rtlil all.il"]))
        yosys(folder, "prepare.ys", timeout)
        used = _used((folder / "all.json").read_text(), "check")
        chosen = [
            (k, value) for k in used for value in (0, 1) if faults is None or Stuck(unit.lines[k], value) in faults
        ]
        found: dict[str, set[Stuck]] = {"refuted": set(), "proved": set()}
        for first in range(0, len(chosen), BATCH):
            batch = chosen[first : first + BATCH]
            cases = [f"{proof.decide()} -set stuck {_one_hot(k, count)} -set value {v}" for k, v in batch]
            (folder / "run.ys").write_text("\n".join(["read_rtlil all.il", *cases]))
            for (k, value), verdict in zip(batch, verdicts(yosys(folder, "run.ys", timeout), len(batch)), strict=True):
                if verdict not in found:
                    raise RuntimeError(f"{proof.name}: {unit.lines[k]} stuck at {value} is {verdict}")
                found[verdict].add(Stuck(unit.lines[k], value))
        return found["refuted"], found["proved"]


def _one_hot(bit: int, count: int) -> str:
    return f"{count}'b{'0' * (count - 1 - bit)}1{'0' * bit}"


def _used(text: str, top: str) -> list[int]:
    """The bits of the input `stuck` of the module `top` that some cell reads."""
    module = json.loads(text)["modules"][top]
    read = {bit for cell in module["cells"].values() for bits in cell["connections"].values() for bit in bits}
    return [k for k, bit in enumerate(module["ports"]["stuck"]["bits"]) if bit in read]


def survivors(config: PwlConfig) -> tuple[set[Stuck], set[Stuck]]:
    """All faults of a unit with its table in flip-flops, and those that none of its proofs refutes.

    A wire that nothing reads is no part of the unit.
    """
    everything = faults(opened(Pwl(config)).text)
    left = set(everything)
    for claim in tqdm(proofs(config), unit="proof", disable=not sys.stderr.isatty()):
        left -= refuted(claim, left)[0]
    return everything, left


def faults(text: str) -> set[Stuck]:
    """Each line of the module `unit` that something reads, stuck at 0 and at 1."""
    unit = Breakable.of(text)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "unit.v").write_text(unit.text)
        (Path(name) / "clean.ys").write_text("read_verilog unit.v\nproc\nopt_clean -purge\nwrite_json unit.json\n")
        yosys(Path(name), "clean.ys")
        used = _used((Path(name) / "unit.json").read_text(), "unit")
    return {Stuck(unit.lines[k], value) for k in used for value in (0, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m rtl.formal.lines", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the faults that no proof refutes, as JSON")
    arguments = parser.parse_args(argv)
    everything, left = survivors(SHAPE)
    if arguments.json:
        print_json([{**fault.line._asdict(), "value": fault.value} for fault in sorted(left)])
    else:
        print(f"{len(everything)} faults, {len(everything) - len(left)} refuted, {len(left)} not:")
        for fault in sorted(left):
            print(f"{fault.line.wire}[{fault.line.bit}] stuck at {fault.value}: {HARMLESS.get(_key(fault), 'UNKNOWN')}")
    return 0 if {_key(fault) for fault in left} == set(HARMLESS) else 1


def _key(fault: Stuck) -> tuple[str, int, int]:
    return (*fault.line, fault.value)


if __name__ == "__main__":
    sys.exit(main())
