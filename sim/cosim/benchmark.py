"""`python -m sim.cosim.benchmark -o results`: how many vectors a second each simulator compares, bulk and beat by beat.

Exit 1 if Verilator's bulk run is slower than `TARGET` on the reference unit.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sim.common.command import Parser, print_json, run
from sim.common.results import write_results
from sim.cosim import simulators
from sim.cosim.options import BUILD, BenchOptions
from sim.cosim.run import Outcome, run_bulk, run_protocol
from sim.vectors.pwl import random_set
from sim.vectors.requant import requant_set

TARGET = 500_000  # vectors per second, bulk, Verilator
RUNS = 3  # the fastest counts, because only the machine slows a run down
REPEATS = {"verilator": 40, "icarus": 1}  # so that each run lasts a second or more


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python -m sim.cosim.benchmark",
        description=__doc__,
        epilog="example: python -m sim.cosim.benchmark -o results",
    )
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="for simulation.json")
    parser.add_argument("--simulator", nargs="+", choices=simulators.SIMULATORS, default=list(simulators.SIMULATORS))
    parser.add_argument("--build", type=Path, default=BUILD, metavar="DIR", help=f"for builds ({BUILD})")
    parser.add_argument("--json", action="store_true", help="print the result too")
    arguments = parser.parse_args(argv)
    path = arguments.folder / "simulation.json"
    result = write_results(
        path,
        "python -m sim.cosim.benchmark",
        measure(arguments.simulator, arguments.build),
        ("cocotb",),
        versions={name: simulators.version(name) for name in arguments.simulator},
        target={"simulator": "verilator", "bench": "flow", "vectors_per_second": TARGET},
        runs=RUNS,
        kept="the fastest of the runs",
    )
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(result)
    bulk = [row for row in result["rows"] if row["simulator"] == "verilator" and row["bench"] == "flow"]
    slow = [row for row in bulk if row["vectors_per_second"] < TARGET]
    for row in slow:
        print(f"{row['set']}: {row['vectors_per_second']} vectors/s, must be at least {TARGET}", file=sys.stderr)
    return 1 if slow else 0


def measure(names: Sequence[str], build: Path) -> list[dict[str, Any]]:
    """A record for each simulator, unit and kind of run: vectors, seconds of simulation and vectors per second.

    The vectors are sent `repeats` times, which `vectors`, `cycles` and `seconds` include.
    """
    sets = [random_set("int8-8", 0, 50, 8), requant_set("requant", 0, 100_000)]
    rows = []
    for vectors in sets:
        for name in names:
            for bench in tqdm(("flow", "stall", "protocol"), desc=f"{vectors.name} {name}", disable=None):
                fastest = min((_run(vectors, name, bench, build) for _ in range(RUNS)), key=lambda o: o.seconds)
                if not fastest.passed:
                    raise RuntimeError(f"{vectors.name} {name} {bench}: {fastest}")
                rows.append(
                    {
                        "unit": vectors.unit,
                        "set": vectors.name,
                        "simulator": name,
                        "bench": bench,
                        "repeats": 1 if bench == "protocol" else REPEATS[name],
                        "vectors": fastest.vectors,
                        "cycles": fastest.cycles,
                        "seconds": fastest.seconds,
                        "vectors_per_second": round(fastest.vectors / fastest.seconds),
                    }
                )
    return rows


def _run(vectors: Any, name: str, bench: str, build: Path) -> Outcome:
    if bench == "protocol":
        return run_protocol(vectors, BenchOptions(name, build))
    return run_bulk(vectors, BenchOptions(name, build, stall_seed=int(bench == "stall"), repeats=REPEATS[name]))


if __name__ == "__main__":
    sys.exit(main())
