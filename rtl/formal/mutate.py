"""`python -m rtl.formal.mutate`: how many single faults of a unit's netlist a random stimulus and `sim.reference` find.

This measures the stimulus and the comparison, not the cocotb tests in Icarus and Verilator. `rtl.formal.netlist`
simulates 100 mutants at once, one in each bit of a word, where Icarus and Verilator would run them one by one. The
stimulus (`rtl.formal.stimulus`) is like that of the cocotb tests: random tables with the whole range of coefficients,
every code, stalls, resets in mid-stream. Besides, it writes a table's words in any order, some where no word is.
`tests/sim/cosim/test_run.py` shows that the cocotb tests find faults too.

The unit is synthesised to gates. `mutate` of Yosys puts many faults (a stuck, inverted or swapped pin) into one
netlist, selected by an input; copy k of the simulation has fault k, copy 0 has no fault. Copy 0 must always equal
`sim.reference`. A fault is killed if its copy shows another handshake, or another result while the result is valid.

A survivor is handed to a proof (`rtl.formal.equivalence`), which gets `--timeout` seconds. It counts as equivalent only
if that proves that the fault changes no output and no next state of a running unit.
Inverted clock pins are left out: a word that the table stores half a cycle early gives the same results. Exit 1 if
fewer than 95 % of the faults that are not equivalent are killed, or if all are equivalent.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rtl.formal.equivalence import equivalence
from rtl.formal.netlist import Netlist, differ, of_copy_0
from rtl.formal.opened import opened
from rtl.formal.prove import yosys
from rtl.formal.stimulus import CODES, cycles
from rtl.pwl import Pwl, PwlConfig
from sim.common.command import Parser, print_json, run
from sim.common.errors import require_range
from sim.reference import InputError, LoweredTable

SYNTHESISE = """read_verilog unit.v
hierarchy -top unit
proc
setattr -unset init
flatten
synth -top unit -noabc
dffunmap
abc -g AND,XOR,MUX,OR,NAND
opt_clean -purge
splitnets
rename -enumerate
write_rtlil unit.il
mutate -list {candidates} -seed {seed} -o faults.txt
"""
GATES = """read_rtlil unit.il
script faults.ys
techmap
simplemap
clean
write_json unit.json
"""
TABLES = 24  # in the vectors, of 256 codes each; of narrower codes as many more
TIMEOUT = 120  # seconds of a proof
NEEDED = 0.95  # of the faults that are not proved equivalent


@dataclass(frozen=True)
class Fault:
    """One mutant: its copy, the `mutate` command, and the outcome "killed", "equivalent" or "survived".

    `proof` is the verdict of `rtl.formal.equivalence` on one that no vector found, else None.
    """

    copy: int
    command: str
    outcome: str
    proof: str | None = None


def mutate(
    config: PwlConfig, count: int = 100, seed: int = 1, tables: int = TABLES, timeout: int = TIMEOUT
) -> list[Fault]:
    """Judge `count` faults of the unit's netlist.

    Raises `InputError` if the netlist has fewer, and `RuntimeError` if the copy without a fault is wrong.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "unit.v").write_text(opened(Pwl(config)).text)
        (folder / "list.ys").write_text(SYNTHESISE.format(candidates=2 * count, seed=seed))
        yosys(folder, "list.ys")
        lines = (folder / "faults.txt").read_text().splitlines()
        commands = [line for line in lines if not (" -mode inv " in line and " -port C " in line)][:count]
        if len(commands) < count:
            raise InputError(f"--count must be at most {len(commands)} for this unit, not {count}")
        bits = count.bit_length()
        switched = [line.replace("mutate", f"mutate -ctrl fault {bits} {k}", 1) for k, line in enumerate(commands, 1)]
        (folder / "faults.ys").write_text("\n".join(switched) + "\n")
        (folder / "gates.ys").write_text(GATES)
        yosys(folder, "gates.ys")
        killed = _killed(Netlist((folder / "unit.json").read_text(), "unit", count + 1), config, seed, tables)
        faults = []
        for copy, command in enumerate(tqdm(commands, unit="fault", disable=not sys.stderr.isatty()), 1):
            proof = None if killed >> copy & 1 else equivalence(folder, config, command, timeout)
            fate = {None: "killed", "proved": "equivalent"}.get(proof, "survived")
            faults.append(Fault(copy, re.sub(r" -src \S+", "", command), fate, proof))
        return faults


def passed(faults: Sequence[Fault]) -> bool:
    """Whether some faults are not equivalent, and enough of those are killed."""
    real = [fault for fault in faults if fault.outcome != "equivalent"]
    return bool(real) and sum(fault.outcome == "killed" for fault in real) >= NEEDED * len(real)


def _killed(netlist: Netlist, config: PwlConfig, seed: int, tables: int) -> int:
    """A mask of the copies that differ from copy 0, which must equal the reference."""
    rng = np.random.default_rng(seed)
    width = len(netlist.ports["fault"])
    copies = range(netlist.all.bit_length())
    netlist.drive(fault=[sum((copy >> bit & 1) << copy for copy in copies) for bit in range(width)])
    netlist.stop_clocks()
    killed = 0
    waiting: list[int] = []
    lowered = None
    steps = cycles(rng, config, tables * max(CODES >> config.in_bits, 1))
    step = next(steps)
    while True:
        lowered = step.pop("lowered", lowered)
        netlist.drive(**step)
        netlist.settle()
        ready, valid, payload = (netlist.read(name) for name in ("i__ready", "o__valid", "o__payload"))
        killed |= differ([*ready, *valid], netlist.all) | (differ(payload, netlist.all) if valid[0] & 1 else 0)
        delivered = valid[0] & 1 and step["o__ready"]
        if delivered and (not waiting or waiting.pop(0) != of_copy_0(payload)):
            raise RuntimeError("the netlist without a fault differs from the reference")
        if ready[0] & 1 and step["i__valid"]:
            assert lowered is not None
            waiting.append(_expected(config, lowered, step["i__payload"]))
        if step["rst"]:
            waiting.clear()
        netlist.clock()
        try:
            step = steps.send(bool(ready[0] & 1 and step["i__valid"]))
        except StopIteration:
            break
    if waiting:
        raise RuntimeError(f"the netlist without a fault still holds {len(waiting)} beats")
    return killed


def _expected(config: PwlConfig, lowered: LoweredTable, payload: int) -> int:
    sign = config.in_signed and payload >> (config.in_bits - 1)
    code = np.array([payload - (1 << config.in_bits) if sign else payload])
    result = lowered.output(code) if config.output == "code" else lowered.accumulate(code)
    return int(result[0]) & ((1 << config.out_shape.width) - 1)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    config = PwlConfig(
        entries=arguments.entries,
        in_bits=arguments.width,
        coef_bits=arguments.width,
        out_bits=arguments.width,
        stages=arguments.stages,
    )
    require_range("--count", arguments.count, 1, 1000)
    require_range("--tables", arguments.tables, 1, 1000)
    require_range("--timeout", arguments.timeout, 1, 100_000)
    faults = mutate(config, arguments.count, arguments.seed, arguments.tables, arguments.timeout)
    fates = {
        fate: [fault for fault in faults if fault.outcome == fate] for fate in ("killed", "equivalent", "survived")
    }
    if arguments.json:
        print_json([asdict(fault) for fault in faults])
    else:
        print(", ".join(f"{len(found)} {fate}" for fate, found in fates.items()))
        for fault in fates["survived"] + fates["equivalent"]:
            print(f"{fault.outcome} ({fault.proof}): {fault.command}")
    if len(fates["equivalent"]) == len(faults):
        print("every fault is equivalent, so nothing was shown: another --seed or a larger --count", file=sys.stderr)
    return 0 if passed(faults) else 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m rtl.formal.mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m rtl.formal.mutate --count 100 --seed 2",
    )  # fmt: skip
    parser.add_argument("--entries", type=int, default=8, metavar="N", help="entries of the unit (8)")
    parser.add_argument("--width", type=int, default=8, metavar="BITS", help="its three widths (8)")
    parser.add_argument("--stages", type=int, default=3, metavar="N", help="its stages (3)")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="faults (100)")
    parser.add_argument("--tables", type=int, default=TABLES, metavar="N", help=f"tables in the vectors ({TABLES})")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults and the vectors (1)")
    parser.add_argument("--timeout", type=int, default=TIMEOUT, metavar="S", help=f"seconds of a proof ({TIMEOUT})")
    parser.add_argument("--json", action="store_true", help="one record per fault as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
