"""`python -m sim {convert,run,evaluate}`: integer networks from the command line. torch is imported when they run."""

import argparse
import contextlib
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sim.common.cache import cache_folder
from sim.common.command import print_json
from sim.common.files import locked, write_whole
from sim.common.results import write_results
from sim.common.text_table import format_table
from sim.reference import InputError
from sim.reference.pwl import require_range

EXAMPLES = """  python -m sim convert checkpoint --tables tables --data sentences.txt -o network
  python -m sim run network --data sentences.txt -o codes.npz
  python -m sim evaluate sentence -o results
"""


def add_commands(commands: "argparse._SubParsersAction[Any]", add_output: Callable[..., None]) -> None:
    """Add the three subcommands; `add_output` adds `--seed` and `--json`."""
    convert = commands.add_parser("convert", help="a checkpoint folder to a network in integers")
    convert.set_defaults(do=_convert)
    convert.add_argument(
        "checkpoint",
        type=Path,
        metavar="FOLDER",
        help="config.json, weights and tokeniser; or from python -m quant quantize, whose codes are kept",
    )
    convert.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="where to write it")
    convert.add_argument(
        "--plan", type=Path, metavar="JSON", help="the plan for the modules (W8A8, activations per token)"
    )
    convert.add_argument("--tables", type=Path, metavar="DIR", help="take the tables from these files")
    convert.add_argument("--entries", type=int, metavar="N", help="fit tables with N entries instead (8)")
    _add_data(convert)
    convert.add_argument("--no-report", action="store_true", help="without each site's share of the error")
    add_output(convert)

    run = commands.add_parser("run", help="the integer forward pass of a converted network")
    run.set_defaults(do=_run)
    run.add_argument("folder", type=Path, metavar="DIR", help="from python -m sim convert")
    run.add_argument("-o", dest="output", type=Path, metavar="NPZ", help="the codes of each batch, and their scale")
    run.add_argument("--check", action="store_true", help="refuse any operation in floating point")
    _add_data(run)
    add_output(run)

    evaluate = commands.add_parser("evaluate", help="an integer network against floating point")
    evaluate.set_defaults(do=_evaluate)
    evaluate.add_argument("task", choices=("sentence",), help="similarity of sentence embeddings (all-MiniLM-L6-v2)")
    evaluate.add_argument("-o", dest="folder", type=Path, default=Path("results"), metavar="DIR", help="(results)")
    evaluate.add_argument("--model", type=Path, metavar="FOLDER", help="another checkpoint of BERT's family")
    evaluate.add_argument("--sentences", type=int, default=2000, metavar="N", help="how many are measured (2000)")
    evaluate.add_argument("--calibration", type=int, default=64, metavar="N", help="sentences of each seed (64)")
    evaluate.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(0 1 2)")
    evaluate.add_argument("--granularity", choices=("token", "tensor"), default="token", help="of activations (token)")
    evaluate.add_argument("--quick", action="store_true", help="all operations together only, not one at a time")
    evaluate.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that measure networks (1)")
    evaluate.add_argument("--resume", action="store_true", help="go on with an interrupted evaluation")
    evaluate.add_argument("--run", type=Path, default=cache_folder("sentence"), metavar="DIR", help="(%(default)s)")
    evaluate.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="text, .jsonl, .npz or a folder")
    parser.add_argument("--samples", type=int, default=128, help="how many samples (128)")
    parser.add_argument("--sequence-length", type=int, default=128, help="cut to N tokens (128)")
    parser.add_argument("--batch-size", type=int, default=8, help="samples at a time (8)")


def _load_data(arguments: argparse.Namespace, folder: Path) -> Any:
    from quant.calibration import Sampling, load, tokeniser_of

    sampling = Sampling(arguments.samples, arguments.sequence_length, arguments.batch_size, arguments.seed)
    tokeniser: Any = None
    if (folder / "tokenizer.json").exists() or (folder / "vocab.txt").exists():
        tokeniser = tokeniser_of(folder)
    return load(arguments.data, sampling, tokeniser)


def _convert(arguments: argparse.Namespace) -> int:
    with _needs("transformers"):
        from quant import Plan
        from quant.formats.checkpoint import load_model
        from quant.formats.packed_index import DESCRIPTION
        from quant.pretrained import COMPANIONS, from_pretrained
        from sim.network.convert import convert
        from sim.network.packed import save
        from sim.network.report import report
    plan = Plan.load(arguments.plan) if arguments.plan is not None else None
    if plan is not None and (arguments.tables is not None or arguments.entries is not None):
        raise InputError("--plan brings its tables; give --tables or --entries without it")
    if (arguments.checkpoint / DESCRIPTION).exists():
        model = from_pretrained(arguments.checkpoint)
    else:
        model, _ = load_model(arguments.checkpoint, base=True)
    data = _load_data(arguments, arguments.checkpoint)
    if plan is None:
        plan = Plan.uniform(activation_granularity="token", tables=_tables(arguments, model))
    with locked(arguments.folder):
        with tqdm(total=len(data), desc="calibrate", unit="batch", file=sys.stderr, disable=None) as bar:
            network = convert(model, plan, data, lambda: bar.update())
        rows = report(network, list(data)[:1], shares=not arguments.no_report)
        path = save(network, arguments.folder)
        for name in COMPANIONS:
            if (arguments.checkpoint / name).is_file():
                shutil.copyfile(arguments.checkpoint / name, arguments.folder / name)
        write_whole(arguments.folder / "sites.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    print(f"{path}: {len(rows)} operators in integers", file=sys.stderr)
    if arguments.json:
        print_json(rows)
    else:
        _print_rows(rows)
    return 0


def _tables(arguments: argparse.Namespace, model: Any) -> Any:
    """Tables for the functions that the model evaluates, from a folder or fitted now."""
    from sim.network.convert import functions
    from sim.network.converters.describe import describe, without_head
    from sim.network.table_sets import fitted_tables, folder_tables

    needed = functions(describe(without_head(model)))
    if arguments.tables is not None:
        return folder_tables(arguments.tables, needed)
    return fitted_tables("genetic", 8 if arguments.entries is None else arguments.entries, needed)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        scales = row["scale_exponents"] or {}
        cells.append(
            (
                row["site"],
                row["kind"],
                str(row["output_bits"]),
                " ".join(f"{s}x{n}" if n > 1 else s for s, n in scales.items()),
                " ".join(f"{f}: {label}" for f, label in row["tables"].items()),
                f"{row['clipped']:.2%}" if row["clipped"] is not None else "-",
                f"{row['share']:.1%}" if row["share"] is not None else "-",
            )
        )
    print(format_table(("site", "kind", "bits", "scale exponents", "tables", "clipped", "share"), cells))


def _run(arguments: argparse.Namespace) -> int:
    with _needs("torch"):
        import numpy as np
        import torch

        from sim.network.integer_only import require_integer
        from sim.network.packed import load
    if arguments.output is not None and arguments.output.suffix != ".npz":
        raise InputError(f"-o must end in .npz, not {arguments.output.name!r}")
    network = load(arguments.folder)
    data = _load_data(arguments, arguments.folder)
    arrays: dict[str, Any] = {"scale": np.asarray(network.last.outputs[0].scale)}
    digest, tokens = hashlib.sha256(), 0
    with torch.no_grad():
        for k, batch in enumerate(tqdm(data, unit="batch", file=sys.stderr, disable=None)):
            if arguments.check:
                require_integer(network, **batch)
            codes = network.codes(**batch).contiguous().numpy()
            arrays[f"codes.{k}"] = codes
            digest.update(codes.tobytes())
            tokens += codes.shape[0] * codes.shape[1]
    if arguments.output is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_whole(arguments.output, buffer.getvalue())
    row = {"samples": data.samples, "positions": tokens, "codes_sha256": digest.hexdigest(),
           "data_sha256": data.digest, "integer_only": bool(arguments.check)}  # fmt: skip
    if arguments.json:
        print_json(row)
    else:
        print("\n".join(f"{key}  {value}" for key, value in row.items()))
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    with _needs("transformers"):
        from quant.run_directory import RunDirectory, versions
        from sim.workloads import sentence
    for seed in arguments.seeds:
        require_range("--seeds", seed, 0, (1 << 31) - 1)
    require_range("--jobs", arguments.jobs, 1, 256)
    options = sentence.Options(
        arguments.sentences, arguments.calibration, tuple(arguments.seeds), arguments.granularity, not arguments.quick
    )
    folder = sentence.model_folder(arguments.model)
    configuration = {"model": str(folder), "sentences": options.count, "calibration": options.calibration,
                     "granularity": options.granularity}  # fmt: skip
    total = 1 + sum(len(sentence.variants(options.single and s == options.seeds[0])) for s in options.seeds)
    with (
        RunDirectory.open(arguments.run, configuration, arguments.resume) as run,
        tqdm(total=total, unit="network", file=sys.stderr, disable=None) as bar,
    ):
        result = sentence.evaluate(
            folder, run, options, lambda name: (bar.set_postfix_str(name), bar.update()), arguments.jobs
        )
    path = arguments.folder / "sentence.json"
    rows = result.pop("rows")
    result = write_results(path, "python -m sim evaluate sentence", rows, versions=versions(), **result)
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(result["rows"])
    else:
        print(sentence.table_text(result["rows"]))
    return 0


def sentence_sets(arguments: argparse.Namespace) -> list[Any]:
    """The vectors of `python -m sim vectors --from sentence`; tables from `--tables`, or fitted with 8 entries."""
    with _needs("transformers"):
        from sim.workloads.sentence_vectors import sentence_vectors
    return sentence_vectors(arguments.tables, arguments.seed, quick=arguments.quick)


@contextlib.contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Raise `InputError` if an optional package is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers", "safetensors"):
            raise
        raise InputError(f'this command needs {error.name}: pip install "bitwright[{extra}]"') from None
