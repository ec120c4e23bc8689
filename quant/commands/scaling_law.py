"""`python -m quant scaling-law {predict,fit,run,diagnose}`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from quant.methods.scaling_law.law import PUBLISHED, Question, effective_parameters, parameters_in, scheme
from quant.zoo.packaged import MODELS, path_of
from sim.common.command import print_json
from sim.common.errors import InputError, require_range
from sim.common.files import write_whole
from sim.common.results import write_results
from sim.common.text_table import format_table

EXAMPLES = """examples:
  python -m quant scaling-law predict --scheme w4a4 w4a16 -N 595e6 -D 100e9 -G 32 256
  python -m quant scaling-law predict --scheme w4a4 -D 100e9 -G 32 --loss 2.5
  python -m quant scaling-law predict --scheme w4a4 --memory 1e9 -D 100e9 -G 32 128
  python -m quant scaling-law run --grid tiny -o sweep
  python -m quant scaling-law diagnose smollm2 --data text.txt --eight-bit 1 -o plan.json
  python -m quant scaling-law fit sweep/runs.csv --scheme w4a4 --plot fit.png
"""
AXES = ("sizes", "tokens", "schemes", "groups", "seeds")  # of a grid
DIAGNOSED = ("samples", "sequence_length", "seed", "bits", "eight_bit", "evaluate", "windows")  # options of a diagnosis
WEIGHT_BITS = 4  # of every published scheme that quantises weights


def add(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command to the parser of `python -m quant`."""
    law = commands.add_parser(
        "scaling-law", help="the loss that quantisation-aware training costs, for sizes, tokens and groups",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parts = law.add_subparsers(required=True, metavar="COMMAND")

    predict = parts.add_parser("predict", help="by the published coefficients; what is left out is solved for --loss")
    predict.set_defaults(do=_predict)
    option = predict.add_argument
    option("--scheme", nargs="+", default=list(PUBLISHED), metavar="S", help=f"{', '.join(PUBLISHED)} (all)")
    option("-N", "--parameters", type=float, nargs="+", metavar="N", help="parameters of the model")
    option("-D", "--tokens", type=float, nargs="+", metavar="D", help="training tokens")
    option("-G", "--group", type=float, nargs="+", metavar="G", help="weights that share a scale")
    option("--loss", type=float, metavar="NATS", help="solve for the one of -N, -D, -G that is not given")
    option("--memory", type=float, metavar="BYTES", help="instead of -N: as many parameters as fit with their scales")
    option("--json", action="store_true", help="rows as JSON on stdout")

    fit = parts.add_parser("fit", help="coefficients of measured runs, with intervals and smaller laws beside them")
    fit.set_defaults(do=_fit)
    option = fit.add_argument
    option("runs", type=Path, metavar="CSV", help="columns parameters, tokens, group, delta (nats) and maybe scheme")
    option("--scheme", metavar="S", help="only rows of this scheme")
    option(
        "--replicates", type=int, default=1000, metavar="R", help="bootstrap replicates of the 95 %% intervals (1000)"
    )
    option("--seed", type=int, default=0)
    option("--plot", type=Path, metavar="PNG", help="parity and residuals")
    option("--json", action="store_true", help="rows as JSON on stdout")

    train = parts.add_parser("run", help="train a grid of small models with quantised linears; a killed sweep goes on")
    train.set_defaults(do=_run)
    option = train.add_argument
    option("--grid", default="tiny", metavar="NAME", help="tiny (a minute), small (hours), medium (days) or gpu")
    option("--sizes", nargs="+", metavar="WxL", help="widths and layers of the grid, such as 128x2 (all)")
    option("--tokens", type=int, nargs="+", metavar="N", help="of the grid (all)")
    option("--schemes", nargs="+", metavar="S", help="of the grid (all)")
    option("--groups", type=int, nargs="+", metavar="G", help="of the grid, 0 for a row (all)")
    option("--seeds", type=int, nargs="+", metavar="N", help="of the grid (all)")
    option("--jobs", type=int, default=1, metavar="N", help="processes, one thread each (1)")
    option("--backend", default="processes", choices=("processes", "dask"), help="(processes)")
    option("--scheduler", metavar="ADDRESS", help="of the Dask scheduler, such as tcp://host:8786")
    option("--device", default="cpu", help="cpu or cuda (cpu)")
    option("-o", "--output", type=Path, required=True, metavar="DIR", help="finished runs, and runs.csv for `fit`")
    option("--results", type=Path, metavar="JSON", help="keep the rows as a file of results too")
    option("--json", action="store_true", help="rows as JSON on stdout")

    diagnose = parts.add_parser("diagnose", help="which layers of a model 4-bit inputs hurt, and a mixed plan")
    diagnose.set_defaults(do=_diagnose)
    option = diagnose.add_argument
    option("model", metavar="MODEL", help=f"config.json and weights, a GGUF file; or {', '.join(MODELS)}")
    option("--data", required=True, metavar="PATH", help="text, .jsonl, .npz or a folder of them; or brown")
    option("--samples", type=int, default=16, help="how many (16)")
    option("--sequence-length", type=int, default=128, help="cut to so many tokens (128)")
    option("--seed", type=int, default=0, help="which samples (0)")
    option("-G", "--group", type=int, nargs="+", default=[0, 128, 32], metavar="G",
           help="group sizes, 0 for a row; the plan has the first (0 128 32)")  # fmt: skip
    option("--bits", type=int, default=4, metavar="B", help="of weights and inputs (4)")
    option("--eight-bit", type=int, default=1, metavar="K", help="kinds of layers whose inputs keep 8 bits (1)")
    option("-o", "--output", type=Path, metavar="JSON", help="write the mixed plan")
    option("--evaluate", metavar="TEXT",
           help="measure the plan on a text beside 4-bit and 8-bit inputs; brown: its held-out part")  # fmt: skip
    option("--windows", type=int, default=64, metavar="N", help="of that text (64)")
    option("--results", type=Path, metavar="JSON", help="keep the rows as a file of results too")
    option("--json", action="store_true", help="rows as JSON on stdout")


def _predict(arguments: argparse.Namespace) -> int:
    laws = {name: scheme(name) for name in arguments.scheme}
    rows = [row for name, law in laws.items() for row in _rows(name, Question(law), arguments)]
    return _report(rows, arguments.json)


def _rows(name: str, question: Question, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each combination of what was given; what was not is solved for the wanted loss."""
    if arguments.memory is not None and arguments.parameters is not None:
        raise InputError("--memory and -N contradict each other")
    given = {key: getattr(arguments, key) for key in ("parameters", "tokens", "group")}
    if arguments.memory is not None:
        given["parameters"] = [None]  # follows from the group
    missing = [key for key, values in given.items() if values is None]
    if len(missing) != (0 if arguments.loss is None else 1):
        raise InputError(
            "give -N (or --memory), -D and -G" if arguments.loss is None else "--loss needs two of -N, -D and -G"
        )
    if arguments.memory is not None and missing == ["group"]:
        raise InputError("--memory needs -G: the scales of the groups take their part of it")
    rows = []
    for n in given["parameters"] or [None]:
        for d in given["tokens"] or [None]:
            for g in given["group"] or [None]:
                size = n
                if arguments.memory is not None and g is not None:
                    size = parameters_in(arguments.memory, 16 if name.startswith("w16") else WEIGHT_BITS, g)
                rows.append(_row(name, question, {"parameters": size, "tokens": d, "group": g}, arguments.loss))
    return rows


def _row(name: str, question: Question, point: dict[str, Any], loss: float | None) -> dict[str, Any]:
    missing = next((key for key, value in point.items() if value is None), None)
    if missing is not None and loss is not None:
        solve = getattr(question, missing)
        point[missing] = solve(loss, **{key: value for key, value in point.items() if key != missing})
    n, d, g = point["parameters"], point["tokens"], point["group"]
    if g == float("inf"):
        raise InputError(f"{name}: every group size reaches a loss of {loss}")
    return {"scheme": name, "parameters": n, "tokens": d, "group": g,
            "delta_nats": float(question.law.delta(n, d, g)), "loss_nats": float(question.loss(n, d, g)),
            "effective_parameters": float(effective_parameters(question.law, n, d, g))}  # fmt: skip


def _fit(arguments: argparse.Namespace) -> int:
    from quant.methods.scaling_law.fit import Runs, bootstrap, compare, fit, intervals

    if arguments.replicates < 20:
        raise InputError(f"replicates must be at least 20, not {arguments.replicates}")
    runs = Runs.load(arguments.runs, arguments.scheme)
    fitted = fit(runs, seed=arguments.seed)
    ends = intervals(bootstrap(runs, arguments.replicates, arguments.seed))
    if arguments.plot is not None:
        from quant.methods.scaling_law.plot import save_fit

        save_fit(runs, fitted, arguments.plot)
    comparison = compare(runs, arguments.seed)
    coefficients = [
        {"coefficient": name, "value": value, "low_95": ends[name][0], "high_95": ends[name][1]}
        for name, value in asdict(fitted.law).items()
    ]
    censored = int(runs.censored.sum())
    note = f"{len(runs)} runs, of which {censored} with delta <= 0 count as below the smallest positive one"
    if arguments.json:
        print_json({"runs": len(runs), "censored": censored, "huber_loss": fitted.loss,
                    "coefficients": coefficients, "laws": comparison})  # fmt: skip
    else:
        _report(coefficients, as_json=False)
        print()
        _report(comparison, as_json=False)
    print(note, file=sys.stderr)
    return 0


def _size(text: str) -> Any:
    """The size that WIDTHxLAYERS means."""
    from quant.methods.scaling_law.training import Size

    try:
        width, layers = map(int, text.split("x"))
    except ValueError:
        raise InputError(f"--sizes must be of the form 128x2, not {text!r}") from None
    return Size(width, layers)


def _run(arguments: argparse.Namespace) -> int:
    from quant.methods.scaling_law.sweep import GRIDS, Workers, sweep, texts_of
    from quant.quantize_folder import device_of

    if arguments.grid not in GRIDS:
        raise InputError(f"grid must be one of {', '.join(GRIDS)}, not {arguments.grid!r}")
    if (arguments.backend == "dask") != (arguments.scheduler is not None):
        raise InputError("--backend dask and --scheduler ADDRESS go together")
    device_of(arguments.device)
    workers = Workers(arguments.jobs, arguments.scheduler, arguments.device)
    part: dict[str, Any] = {}
    for name in AXES:
        given = getattr(arguments, name)
        if given is not None:
            part[name] = tuple(map(_size, given)) if name == "sizes" else tuple(given)
    grid = replace(GRIDS[arguments.grid], **part)
    rows = sweep(grid, texts_of(arguments.grid), arguments.output, workers)
    if arguments.results is not None:
        from quant.run_directory import versions

        flags = "".join(f" --{name} {' '.join(map(str, values))}" for name, values in part.items())
        command = f"python -m quant scaling-law run --grid {arguments.grid}{flags}"
        write_results(arguments.results, command, rows, versions=versions())
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    write_whole(arguments.output / "runs.csv", "\n".join(lines) + "\n")
    return _report(rows, arguments.json)


def _diagnose(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from quant import calibration
    from quant.formats.checkpoint import load_model
    from quant.methods.layers import quantisable, unfold
    from quant.methods.scaling_law.diagnose import Diagnosis, kind_of, kind_rows, layer_rows, mixed_plan
    from quant.quantize_folder import LateTokeniser
    from quant.run_directory import versions
    from quant.zoo import corpora

    require_range("eight-bit", arguments.eight_bit, 0, 1000)
    require_range("windows", arguments.windows, 1, 1 << 20)
    diagnosis = Diagnosis(tuple(arguments.group), arguments.bits)
    path = path_of(arguments.model)
    sampling = calibration.Sampling(arguments.samples, arguments.sequence_length, 4, arguments.seed)
    tokeniser = LateTokeniser(path, arguments.sequence_length)
    data = calibration.load(corpora.path_of(arguments.data, "validation"), sampling, tokeniser)
    model, _ = load_model(path)
    model = unfold(model)
    calibration.require_fitting(model, data, arguments.data)
    layers = layer_rows(model, data.batches, diagnosis)
    different = {kind_of(name) for name in quantisable(model)}
    with tqdm(total=len(different), unit="kind", file=sys.stderr, disable=None) as bar:

        def progress(kind: str) -> None:
            bar.set_postfix_str(kind, refresh=False)
            bar.update()

        kinds = kind_rows(model, data.batches, arguments.group[0], arguments.bits, progress)
    kept = [row["kind"] for row in kinds[: arguments.eight_bit]]
    if arguments.output is not None:
        mixed_plan(kept, arguments.bits, arguments.group[0]).save(arguments.output)
    tables = {"kinds": kinds, "layers": layers}
    if arguments.evaluate is not None:
        tables["plans"] = _plan_rows(model, path, kept, arguments)
    if arguments.results is not None:
        options = {name: getattr(arguments, name) for name in DIAGNOSED}
        rows = [row | {"table": name} for name, table in tables.items() for row in table]
        given = "".join(f" --{name.replace('_', '-')} {value}" for name, value in options.items() if value is not None)
        groups = " ".join(map(str, arguments.group))
        command = f"python -m quant scaling-law diagnose {arguments.model} --data {arguments.data} -G {groups}{given}"
        write_results(arguments.results, command, rows, versions=versions(), options=options)
    if arguments.json:
        print_json({**tables, "eight_bit": kept})
    else:
        for rows in tables.values():
            _report(rows, as_json=False)
            print()
    print(f"8-bit inputs in the mixed plan: {', '.join(kept) or 'no layer'}", file=sys.stderr)
    return 0


def _plan_rows(model: Any, path: Path, kept: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """How well the model predicts held-out text, in floating point and by each plan."""
    from quant.calibration import transformers_tokeniser
    from quant.commands.evaluate import fitting_length, held_out, predicted
    from quant.methods.perplexity import Windows
    from quant.methods.post_training import quantize
    from quant.methods.scaling_law.diagnose import mixed_plan
    from quant.plan import Plan, Rule

    bits, group = arguments.bits, arguments.group[0]
    narrow = mixed_plan((), bits, group)
    wide = Plan((*narrow.rules, Rule(".*", activation_bits=8)))
    plans = {f"W{bits}A{bits}": narrow, "mixed": mixed_plan(kept, bits, group), f"W{bits}A8": wide}
    tokeniser, text = transformers_tokeniser(path), held_out(arguments.evaluate)
    length = min(arguments.sequence_length, fitting_length(model, tokeniser))
    windows = Windows(length, None, arguments.windows, 8, arguments.seed)
    models = {"floating point": lambda: model} | {
        name: lambda plan=plan: quantize(model, plan) for name, plan in plans.items()
    }
    return [{"plan": name, "group": group, **predicted(make(), tokeniser, text, windows, arguments.evaluate)}
            for name, make in models.items()]  # fmt: skip


def _report(rows: Sequence[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        print_json(list(rows))
    else:
        print(format_table(list(rows[0]), [list(row.values()) for row in rows]))
    return 0
