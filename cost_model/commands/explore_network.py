"""`python -m cost_model explore network`: number formats, tables and a machine for a network, and reports."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cost_model.explore.network_report import network_report
from cost_model.explore.points_file import read_points
from sim.common.cache import cache_folder
from sim.common.command import print_json
from sim.common.errors import require_range
from sim.common.parallel import Pool
from sim.common.results import write_results
from sim.common.text_table import format_table
from sim.reference import InputError

SUFFIXES = (".json", ".parquet", ".html", ".png")


def add(kinds: Any) -> None:
    """Add the kinds `network`, `order` and `report`."""
    _add_network(kinds)
    _add_order(kinds)
    _add_report(kinds)


def _add_network(kinds: Any) -> None:
    parser = kinds.add_parser("network", help="number formats, tables and a machine for a whole network")
    parser.set_defaults(do=_network)
    parser.add_argument("model", help="minilm, char_lm or smollm2")
    parser.add_argument("--texts", type=int, metavar="N", help="that each point is measured on (the model's usual)")
    parser.add_argument(
        "--space", default="full", metavar="NAME", help="full or small, or a JSON file of choices by field (full)"
    )
    parser.add_argument("--method", choices=("exhaustive", "nsga2"), default="nsga2", help="(nsga2)")
    parser.add_argument("--points", type=int, default=256, metavar="N", help="to evaluate, at least (256)")
    parser.add_argument("--population", type=int, default=32, metavar="N", help="of a generation (32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of NSGA-II (0)")
    parser.add_argument(
        "--first", choices=("layer-error", "random"), default="layer-error",
        help="NSGA-II's first generation: ordered by a cheap guess of the error, or not (layer-error)",
    )  # fmt: skip
    parser.add_argument(
        "--objectives", nargs="+", default=["error", "energy", "area", "latency", "memory"],
        metavar="NAME", help="of error, energy, area, latency, memory (all)",
    )  # fmt: skip
    parser.add_argument("--backend", choices=("joblib", "dask"), default="joblib", help="who measures (joblib)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, each with one thread (1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, for --backend dask")
    parser.add_argument("--run", type=Path, metavar="DIR", help="where finished points are kept (in the cache)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted search")
    parser.add_argument(
        "-o", dest="outputs", type=Path, action="append", default=[], metavar="FILE",
        help="rows as .json or .parquet, a report as .html, a plot as .png; may be repeated",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _network(arguments: argparse.Namespace) -> int:
    for path in arguments.outputs:
        if path.suffix not in SUFFIXES:
            raise InputError(f"-o must end in {', '.join(SUFFIXES)}, not {path}")
    if (arguments.backend == "dask") != (arguments.scheduler is not None):
        raise InputError("--backend dask and --scheduler ADDRESS must be given together")
    if arguments.texts is not None:
        require_range("--texts", arguments.texts, 2, 10_000)
    rows, origin = _searched(arguments)
    for path in arguments.outputs:
        _write(path, rows, origin)
        print(path, file=sys.stderr)
    if arguments.json:
        print_json(rows)
    else:
        _print_network(rows)
    return 0


def _searched(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the search, and what they come from."""
    from cost_model.explore.network_search import SearchOptions, configuration, search
    from cost_model.explore.network_space import SPACES, NetworkSpace
    from cost_model.explore.network_subjects import subject_of
    from cost_model.network.memory import sources
    from quant.run_directory import RunDirectory, versions

    space = SPACES.get(arguments.space) or NetworkSpace.load(arguments.space)
    chosen = SearchOptions(
        arguments.method, arguments.points, arguments.population, arguments.seed, arguments.first,
        tuple(arguments.objectives),
    )  # fmt: skip
    subject = subject_of(arguments.model, arguments.texts)
    said = configuration(subject, space, chosen)
    folder = arguments.run or cache_folder(f"explore_{subject.name}")
    with RunDirectory.open(folder, said, arguments.resume) as run:
        rows = search(subject, space, chosen, run, Pool(arguments.jobs, arguments.scheduler))
    origin = {
        "command": _command(arguments),
        "objectives": chosen.columns(subject.unit),
        "file": next((path.name for path in arguments.outputs if path.suffix == ".json"), "points.json"),
        "versions": versions(),
        "memories": sources(),
        "search": said,
    }
    return rows, origin


def _command(arguments: argparse.Namespace) -> str:
    """The command without the user's paths and workers, which change no row."""
    space = arguments.space if "." not in arguments.space else "FILE.json"
    said = [f"--space {space}", f"--method {arguments.method}", f"--points {arguments.points}"]
    if arguments.method == "nsga2":
        said.append(f"--population {arguments.population} --seed {arguments.seed} --first {arguments.first}")
    said += [] if arguments.texts is None else [f"--texts {arguments.texts}"]
    said.append(f"--objectives {' '.join(arguments.objectives)}")
    return f"python -m cost_model explore network {arguments.model} {' '.join(said)}"


def _write(path: Path, rows: list[dict[str, Any]], origin: dict[str, Any]) -> None:
    """Rows as the file's suffix says."""
    from cost_model.explore.network_search import COLUMNS

    if path.suffix == ".json":
        details = {key: origin[key] for key in ("objectives", "versions", "memories", "search")}
        write_results(path, origin["command"], rows, **details)
    elif path.suffix == ".parquet":
        from sim.common.frames import write_parquet

        write_parquet(path, rows)
    elif path.suffix == ".png":
        from cost_model.reports.plot import front

        y, x, *_ = (*origin["objectives"], *COLUMNS.values())
        front(rows, x, y, path)
    else:
        network_report(rows[0]["model"], origin).write(path, rows)


def _print_network(rows: list[dict[str, Any]]) -> None:
    error = next(key for key in rows[0] if key.startswith("error_"))
    chosen = sorted((row for row in rows if row["on_front"] or row["label"]), key=lambda row: row[error] or 0.0)
    headings = (
        "point", "attention", "fc1", "fc2", "array", "weights in", error, "MB", "mm2", "uJ", "ms", "front", "label",
    )  # fmt: skip
    cells = [
        (
            row["point"], row["attention"], row["fc1"], row["fc2"], f"{row['rows']}x{row['columns']}",
            row["weights_in"], *_scaled(row, error), "yes" if row["on_front"] else "no", row["label"] or "",
        )
        for row in chosen
    ]  # fmt: skip
    print(format_table(headings, cells))
    print(f"{len(rows)} points, {sum(row['on_front'] for row in rows)} of them on the front.")


def _scaled(row: dict[str, Any], error: str) -> tuple[float | None, ...]:
    size = None if row["model_bytes"] is None else row["model_bytes"] / 1e6
    return row[error], size, row["area_mm2"], row["energy_uj"], row["latency_ms"]


def _add_order(kinds: Any) -> None:
    parser = kinds.add_parser("order", help="how the guess that orders candidates agrees with measured errors")
    parser.set_defaults(do=_order)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="from ... explore network")
    parser.add_argument("-o", dest="output_file", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _order(arguments: argparse.Namespace) -> int:
    from cost_model.explore.layer_error import agreement
    from cost_model.explore.network_subjects import subject_from

    contents = [read_points(path) for path in arguments.files]
    rows = [
        agreement(subject_from(content["search"]["subject"]), content["rows"]) | {"points_sha256": content["sha256"]}
        for content in contents
    ]
    if arguments.output_file is not None:
        names = " ".join(path.name for path in arguments.files)
        write_results(arguments.output_file, f"python -m cost_model explore order {names}", rows, ("torch",))
    if arguments.json:
        print_json(rows)
    else:
        names = ("model", "networks", "rank_correlation")
        print(format_table(names, [[row[name] for name in names] for row in rows]))
    return 0


def _add_report(kinds: Any) -> None:
    parser = kinds.add_parser("report", help="a page or plot of points that were explored before")
    parser.set_defaults(do=_report)
    parser.add_argument("file", type=Path, metavar="FILE.json", help="from python -m cost_model explore network")
    parser.add_argument(
        "-o", dest="output_file", type=Path, required=True, metavar="FILE", help=".html, .png, .parquet"
    )


def _report(arguments: argparse.Namespace) -> int:
    if arguments.output_file.suffix not in SUFFIXES[1:]:
        raise InputError(f"-o must end in {', '.join(SUFFIXES[1:])}, not {arguments.output_file}")
    content = read_points(arguments.file)
    _write(arguments.output_file, content["rows"], {**content, "file": arguments.file.name})
    return 0
