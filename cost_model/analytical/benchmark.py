"""`python -m cost_model.analytical.benchmark -o results`: time of the analytical model for a million design points.

Exit 1 if it is longer than `LIMIT_S`.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cost_model.analytical.estimate import estimate
from sim.common.command import Parser, print_json, run
from sim.common.results import write_results

POINTS = 1_000_000
LIMIT_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m cost_model.analytical.benchmark", description=__doc__)
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="for analytical.json")
    parser.add_argument("--json", action="store_true", help="print the result too")
    arguments = parser.parse_args(argv)
    seconds = sweep()
    rows = [{"points": POINTS, "cpu_seconds": round(seconds, 3)}]
    result = write_results(
        arguments.folder / "analytical.json",
        "python -m cost_model.analytical.benchmark",
        rows,
        ("numpy",),
        limit_s=LIMIT_S,
    )
    if arguments.json:
        print_json(result)
    print(f"{POINTS} points in {seconds:.2f} s of one core, limit {LIMIT_S:g} s", file=sys.stderr)
    return 0 if seconds <= LIMIT_S else 1


def sweep(points: int = POINTS) -> float:
    """CPU seconds for `points` random piecewise-linear units in one call."""
    rng = np.random.default_rng(0)
    entries, in_bits, coef_bits, out_bits, stages = (
        rng.integers(low, high, points) for low, high in ((2, 17), (4, 17), (4, 17), (4, 17), (1, 7))
    )
    start = time.process_time()
    estimate("pwl", entries=entries, in_bits=in_bits, coef_bits=coef_bits, out_bits=out_bits, stages=stages)
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
