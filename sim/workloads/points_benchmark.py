"""`python -m sim.workloads.points_benchmark -o results`: what a front of configurations of a network costs.

Weights of 8, 4, 3 and 2 bits in groups of 64 and of 32, on all-MiniLM-L6-v2: eight points of one calibration, each
measured on the same sentences, in one process and in `--jobs` processes.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from quant import Plan
from quant.formats.checkpoint import load_model
from quant.run_directory import versions
from quant.zoo.packaged import find
from sim.common.command import Parser, print_json, run
from sim.common.errors import require_range
from sim.common.results import write_results
from sim.network.convert import calibrate
from sim.network.table_sets import Tables, fitted_tables
from sim.workloads.points import measure_points
from sim.workloads.sentence import Options, Sentences, embed, figures

FRONT = 200  # points


def plans(tables: Tables) -> dict[str, Plan]:
    """The configurations by name; 8-bit weights have narrower multipliers, so that accumulators fit."""
    common: dict[str, Any] = dict(activation_granularity="token", tables=tables, weight_granularity="group")
    return {
        f"w{bits}g{group}": Plan.uniform(
            **common, weight_bits=bits, group_size=group, multiplier_bits=6 if bits == 8 else 8
        )
        for bits in (8, 4, 3, 2)
        for group in (64, 32)
    }


def measure(folder: Path, options: Options, every: Mapping[str, Plan], jobs: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each number of processes.

    `seconds_per_point` is the whole time over the points, the start of the processes included; `front_hours` is that
    time for `FRONT` points and the calibration. The cosines show that each point is a network of its own.
    """
    texts, (model, _) = Sentences(folder, options), load_model(folder)
    started = time.perf_counter()
    calibration = calibrate(model, next(iter(every.values())), texts.calibration(0))
    calibrated = time.perf_counter() - started
    real, rows = texts.embed(model), []
    embedding = partial(embed, batches=texts.batches, order=texts.order)
    for count in jobs:
        started, found = time.perf_counter(), {}
        for name, point in tqdm(measure_points(calibration, every, embedding, count), total=len(every), disable=None):
            found[name] = point
        seconds = (time.perf_counter() - started) / len(every)
        cosines = {name: figures(real, real, found[name].value)["cosine"] for name in every}
        rows.append(
            {
                "jobs": count,
                "points": len(every),
                "sentences": options.count,
                "calibration_seconds": calibrated,
                "seconds_per_point": seconds,
                "slowest_point_seconds": max(point.seconds for point in found.values()),
                "front_hours": (calibrated + FRONT * seconds) / 3600,
                "cosine": cosines,
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python -m sim.workloads.points_benchmark",
        description=__doc__,
        epilog="example: python -m sim.workloads.points_benchmark -o results",
    )
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="for points.json")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="(1 2)")
    parser.add_argument("--sentences", type=int, default=96, metavar="N", help="measured for each point (96)")
    parser.add_argument("--json", action="store_true", help="print the rows too")
    arguments = parser.parse_args(argv)
    for count in arguments.jobs:
        require_range("--jobs", count, 1, 256)
    options = Options(count=arguments.sentences)
    load = os.getloadavg()[0]
    rows = measure(find("minilm"), options, plans(fitted_tables("genetic", 8)), arguments.jobs)
    path = arguments.folder / "points.json"
    used = {key: value for key, value in versions().items() if key != "threads"}
    write_results(path, "python -m sim.workloads.points_benchmark", rows, versions=used, load_before=load)
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(rows)
    else:
        for row in rows:
            print(f"{row['jobs']} processes: {row['seconds_per_point']:.2f} s a point, "
                  f"{FRONT} points in {row['front_hours']:.2f} hours")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
