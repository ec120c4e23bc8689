"""`python -m sim {convert,run,evaluate}`: integer networks from the command line. torch is imported when they run."""

import argparse
import contextlib
import hashlib
import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sim.commands.evaluate import add_evaluations
from sim.commands.hardware import add_hardware, run_on_hardware
from sim.commands.optional import needs
from sim.common.command import print_json
from sim.common.files import locked, require_other, write_whole
from sim.common.text_table import format_table
from sim.reference import InputError

EXAMPLES = """  python -m sim convert checkpoint --tables tables --data sentences.txt -o network
  python -m sim run network --data sentences.txt -o codes.npz
  python -m sim evaluate sentence -o results
  python -m sim evaluate language --quick
  python -m sim evaluate segment --quick
"""
HEAD = "head.safetensors"  # of a rotated language model, in floating point
SETS = ("sentence", "language", "four-bits", "vision", "segment", "lightweight")  # of `python -m sim vectors --from`


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
    convert.add_argument("--rotate", action="store_true", help="rotate a language model's stream; writes its head too")
    convert.add_argument("--entries", type=int, metavar="N", help="fit tables with N entries instead (8)")
    _add_data(convert)
    convert.add_argument("--no-report", action="store_true", help="without each site's share of the error")
    add_output(convert)

    run = commands.add_parser("run", help="the integer forward pass of a converted network")
    run.set_defaults(do=_run)
    run.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="from python -m sim convert")
    run.add_argument("-o", dest="output", type=Path, metavar="NPZ", help="the codes of each batch, and their scale")
    run.add_argument("--check", action="store_true", help="refuse any operation in floating point")
    add_hardware(run)
    _add_data(run, required=False)
    add_output(run)

    add_evaluations(commands)


def _add_data(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--data", type=Path, required=required, metavar="PATH", help="text, .jsonl, .npz or a folder")
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
    with needs("transformers"):
        from safetensors.torch import save as safetensors

        from quant import Plan
        from quant.formats.checkpoint import load_model, read_config
        from quant.formats.packed_index import DESCRIPTION
        from quant.methods.coverage import coverage_line
        from quant.pretrained import COMPANIONS, from_pretrained
        from sim.network.convert import convert
        from sim.network.converters.describe import converts_whole
        from sim.network.coverage import coverage
        from sim.network.packed import save
        from sim.network.report import report
        from sim.network.rotation import rotated
    require_other(arguments.checkpoint, arguments.folder)
    plan = Plan.load(arguments.plan) if arguments.plan is not None else None
    if plan is not None and (arguments.tables is not None or arguments.entries is not None):
        raise InputError("--plan brings its tables; give --tables or --entries without it")
    if (arguments.checkpoint / DESCRIPTION).exists():
        model = from_pretrained(arguments.checkpoint)
    else:
        whole = arguments.rotate or converts_whole(read_config(arguments.checkpoint))
        model, _ = load_model(arguments.checkpoint, base=not whole)
    head: Any = None
    if arguments.rotate:
        model = rotated(model, arguments.seed)
        head = model.lm_head
    data = _load_data(arguments, arguments.checkpoint)
    if plan is None:
        plan = Plan.uniform(activation_granularity="token", tables=_tables(arguments, model))
    with locked(arguments.folder):
        with (
            _plain_warnings(),
            tqdm(total=len(data), desc="calibrate", unit="batch", file=sys.stderr, disable=None) as bar,
        ):
            network = convert(model, plan, data, lambda: bar.update())
        rows = report(network, list(data)[:1], shares=not arguments.no_report)
        path = save(network, arguments.folder)
        for name in COMPANIONS:
            if (arguments.checkpoint / name).is_file():
                write_whole(arguments.folder / name, (arguments.checkpoint / name).read_bytes())
        if head is not None:
            write_whole(arguments.folder / HEAD, safetensors({"lm_head.weight": head.weight.detach()}))
        write_whole(arguments.folder / "sites.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    print(f"{path}: {len(rows)} operators in integers", file=sys.stderr)
    print(coverage_line(coverage(model, network)), file=sys.stderr)
    wide = sum(row["kind"] == "softmax" and row["output_bits"] == 16 for row in rows)
    if wide:
        print(f"{wide} softmax sites have probabilities of 16 bits, for rows of more than 128 scores", file=sys.stderr)
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
    if arguments.packaged is None and (arguments.folder is None or arguments.data is None):
        raise InputError("DIR and --data must be given, or --from with --on")
    with needs("torch"):
        import numpy as np
        import torch

        from sim.network.integer_only import require_integer
        from sim.network.packed import load
    if arguments.on is not None:
        return run_on_hardware(arguments, _load_data)
    for option, given in (("--layers", arguments.layers), ("--from", arguments.packaged)):
        if given is not None:
            raise InputError(f"{option} must be given with --on")
    if arguments.output is not None and arguments.output.suffix != ".npz":
        raise InputError(f"-o must end in .npz, not {arguments.output.name!r}")
    network = load(arguments.folder)
    data = _load_data(arguments, arguments.folder)
    arrays: dict[str, Any] = {"scale": np.asarray(network.last.outputs[0].scale)}
    digest, positions = hashlib.sha256(), 0
    with torch.no_grad():
        for k, batch in enumerate(tqdm(data, unit="batch", file=sys.stderr, disable=None)):
            if arguments.check:
                require_integer(network, **batch)
            codes = network.codes(**batch).contiguous().numpy()
            arrays[f"codes.{k}"] = codes
            digest.update(codes.tobytes())
            positions += _positions(codes.shape)
    if arguments.output is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_whole(arguments.output, buffer.getvalue())
    row = {"samples": data.samples, "positions": positions, "codes_sha256": digest.hexdigest(),
           "data_sha256": data.digest, "integer_only": bool(arguments.check)}  # fmt: skip
    if arguments.json:
        print_json(row)
    else:
        print("\n".join(f"{key}  {value}" for key, value in row.items()))
    return 0


def _positions(shape: Sequence[int]) -> int:
    """How many positions codes (..., C), or (B, C, H, W) of images, have."""
    return math.prod(shape) // shape[1 if len(shape) == 4 else -1]


def network_sets(arguments: argparse.Namespace) -> list[Any]:
    """The vectors of `python -m sim vectors --from NETWORK`; tables from `--tables`, or fitted with 8 entries."""
    if arguments.network == "sentence":
        with needs("transformers"):
            from sim.workloads.sentence_vectors import sentence_vectors as vectors
    elif arguments.network == "language":
        with needs("language"):
            from sim.workloads.language_vectors import language_vectors as vectors
    elif arguments.network == "four-bits":
        with needs("language"):
            from sim.workloads.four_bits_vectors import four_bits_vectors as vectors
    else:
        with needs("vision"):
            from sim.workloads import image_vectors
        vectors = getattr(image_vectors, f"{arguments.network}_vectors")
    with needs("vision" if arguments.network == "vision" else "digits"):
        return vectors(arguments.tables, arguments.seed, quick=arguments.quick)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Python's warnings as single lines on stderr."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        yield
