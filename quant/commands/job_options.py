"""The options that every command shares which makes a packed folder of a checkpoint folder by a long job."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quant.zoo.packaged import MODELS, path_of
from sim.common.command import print_json
from sim.common.text_table import format_table


def add_job(parser: argparse.ArgumentParser, data: str) -> None:
    """Add checkpoint, data, execution and output; `data` is the help of `--data`."""
    parser.add_argument("checkpoint", metavar="MODEL", help=f"config.json and weights; or {', '.join(MODELS)}")
    parser.add_argument("--data", metavar="PATH", help=data)
    parser.add_argument("--samples", type=int, default=1024, help="how many samples (1024)")
    parser.add_argument("--sequence-length", type=int, default=128, help="cut to so many tokens (128)")
    parser.add_argument("--pack", action="store_true", help="join the samples and cut them into full sequences")
    parser.add_argument("--batch-size", type=int, default=32, help="samples of a step (32)")
    parser.add_argument("--seed", type=int, default=0, help="which samples, in which order (0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (cpu)")
    parser.add_argument("--threads", type=int, help="of the processor (torch's choice)")
    parser.add_argument("--skip", metavar="REGEX", help="names of layers to leave as they are")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run of the same options")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the packed folder")


def folder_job(arguments: argparse.Namespace, data: str | None) -> Any:
    """The `FolderJob` of these options."""
    from quant.quantize_folder import Execution, FolderJob

    execution = Execution(arguments.device, threads=arguments.threads)
    checkpoint = path_of(arguments.checkpoint)
    return FolderJob(checkpoint, arguments.output, data, sampling(arguments), execution, arguments.resume)


def sampling(arguments: argparse.Namespace) -> Any:
    """The `Sampling` of these options."""
    from quant.calibration import Sampling

    return Sampling(arguments.samples, arguments.sequence_length, arguments.batch_size, arguments.seed, arguments.pack)


def report(rows: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> int:
    """The layers on stdout, as JSON or as an aligned table."""
    if arguments.json:
        print_json(list(rows))
    else:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        print(format_table(columns, [[row.get(column) for column in columns] for row in rows]))
    print(f"the packed model is in {arguments.output}/", file=sys.stderr)
    return 0
