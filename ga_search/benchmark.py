"""`python -m ga_search.benchmark`: fit time and error per row and method, with the machine and the versions.

Each row is fitted `--repeats` times in this process, one after another; the median counts. `optimal-6-6` is one
optimal fit at fixed λ = μ = 6, the yardstick of the genetic fit's time. `default_fits.json` holds the rows that
`python -m ga_search` prints.
"""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.functions import PAPER
from ga_search.problem import prepare
from sim.common.command import Parser, print_json, run
from sim.common.results import write_results

METHODS = ("genetic", "optimal", "optimal-6-6", "gqa-lut", "nn-lut", "uniform")


def bench(repeats: int, seeds: int) -> list[dict[str, Any]]:
    """A row per function, table size and method: median seconds, and over `seeds` seeds the errors."""
    rows = []
    cases = [(f, n, m) for f in PAPER for n in (8, 16) for m in METHODS]
    for function, entries, method in tqdm(cases, unit="row", file=sys.stderr):
        fixed = 6 if method == "optimal-6-6" else None
        name = "optimal" if fixed else method
        seconds, errors, inside = [], [], []
        random = name in ("genetic", "gqa-lut", "nn-lut")
        for i in range(max(repeats, seeds if random else 1)):
            seed = i % seeds if random else 0
            config = FitConfig(
                function, entries, name, slope_frac_bits=fixed, intercept_frac_bits=fixed, seed=seed, certificate=False
            )
            _, row = fit(prepare(config))
            seconds.append(row["seconds"])
            errors.append(row["mse"])
            inside.append(row["mse_inside"])
        rows.append(
            {
                "function": function,
                "entries": entries,
                "method": method,
                "seconds": statistics.median(seconds),
                "mse_median": statistics.median(errors),
                "mse_worst": max(errors),
                "mse_inside_median": statistics.median(inside),
                "seeds": seeds if random else 1,
            }
        )
    _add_ratios(rows)
    return rows


def defaults() -> list[dict[str, Any]]:
    """The rows of `python -m ga_search` without options, each with its certificate."""
    cases = [(function, entries) for function in PAPER for entries in (8, 16)]
    return [fit(prepare(FitConfig(*case)))[1] for case in tqdm(cases, unit="fit", file=sys.stderr)]


def _add_ratios(rows: list[dict[str, Any]]) -> None:
    """Time against the optimal fit at fixed λ = μ = 6, and error against the optimum over all λ and μ."""
    by_case = {(r["function"], r["entries"], r["method"]): r for r in rows}
    for row in rows:
        case = row["function"], row["entries"]
        row["time_ratio"] = row["seconds"] / by_case[(*case, "optimal-6-6")]["seconds"]
        row["worst_gap"] = row["mse_worst"] / by_case[(*case, "optimal")]["mse_median"]


def _text(rows: list[dict[str, Any]]) -> str:
    head = f"{'function':8} {'N':>3} {'method':12} {'seconds':>9} {'time ratio':>10}"
    lines = [f"{head} {'MSE full':>9} {'inside':>9} {'worst gap':>9}"]
    for r in rows:
        lines.append(
            f"{r['function']:8} {r['entries']:>3} {r['method']:12} {r['seconds']:9.4f} {r['time_ratio']:10.2f} "
            f"{r['mse_median']:9.2e} {r['mse_inside_median']:9.2e} {r['worst_gap']:9.3g}"
        )
    return "\n".join(lines)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m ga_search.benchmark", description="Fit time and error per row and method.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("-o", "--output", type=Path, default=Path("results"), metavar="DIR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    rows = bench(max(1, options.repeats), max(1, options.seeds))
    path = options.output / "fit.json"
    fits = defaults()
    write_results(path, "python -m ga_search.benchmark", rows, ("numpy", "torch"))
    write_results(options.output / "default_fits.json", "python -m ga_search", fits, ("numpy",))
    if options.json:
        print_json(rows)
    else:
        print(_text(rows))
        print(f"\nwritten to {path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    return run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
