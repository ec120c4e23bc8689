"""`python -m quant zeroquant`."""

import argparse
from dataclasses import asdict
from typing import Any

from quant.commands.job_options import add_job, folder_job, report, sampling
from sim.common.errors import InputError

RANDOM = "random"


def add(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command to the parser of `python -m quant`."""
    parser = commands.add_parser(
        "zeroquant", help="grouped weights, token-wise activations, distillation block by block (2206.01861)"
    )
    parser.set_defaults(do=_zeroquant)
    add_job(parser, "calibration: text, .jsonl, .npz or a folder; random: tokens of the vocabulary")
    option = parser.add_argument
    option("--weights", default="4/8", metavar="B", help="8, 4/8, 4, 3/8 or 3: bits of feed-forward / attention (4/8)")
    option("--activations", type=int, default=8, metavar="B", help="8 or 4 (8)")
    option("--granularity", default="rows", metavar="G", help="of weight scales: tensor, rows, channel or group (rows)")
    option("--groups", type=int, metavar="N", help="blocks of rows of a matrix (48), or inputs in a group (64)")
    option("--static", action="store_true", help="one scale for all tokens, from the data, instead of one for each")
    option("--lkd", action="store_true", help="distil each block from its original")
    option("--preset", choices=("paper", "small"), help="learning rate 5e-6 or 1e-4 (paper)")
    option("--rates", type=float, nargs="+", metavar="R", help="others; of several the best on held-out data")
    option("--steps", type=int, metavar="N", help="of each block (100)")


def _zeroquant(arguments: argparse.Namespace) -> int:
    from quant.methods.blocks import find_runs
    from quant.methods.distillation import PRESETS, Distillation
    from quant.methods.layers import quantisable
    from quant.methods.zeroquant import Scheme, random_tokens, zeroquant
    from quant.quantize_folder import layer_units

    scheme = Scheme(
        arguments.weights, arguments.activations, arguments.granularity, arguments.groups, not arguments.static
    )
    distillation = None
    for name in ("rates", "steps", "preset"):
        if getattr(arguments, name) is not None and not arguments.lkd:
            raise InputError(f"--{name} needs --lkd")
    if arguments.lkd:
        rates = tuple(arguments.rates or [PRESETS[arguments.preset or "paper"]])
        distillation = Distillation(100 if arguments.steps is None else arguments.steps, rates, arguments.seed)
        if arguments.data is None:
            raise InputError("--lkd needs --data: text, or the word random")
    drawn = arguments.data == RANDOM
    options = {"method": "zeroquant", "scheme": asdict(scheme), "skip": arguments.skip,
               "random": asdict(sampling(arguments)) if drawn else None,
               "distillation": None if distillation is None else asdict(distillation)}  # fmt: skip

    def quantise(model: Any, data: Any, job: Any) -> Any:
        given = random_tokens(model, sampling(arguments)) if drawn else data
        return zeroquant(model, given, scheme, distillation, skip=arguments.skip, inplace=True, job=job)

    def units(model: Any, batches: int) -> int:
        batches = -(-arguments.samples // arguments.batch_size) if drawn else batches
        plan = scheme.plan(model, arguments.skip)
        if distillation is None:
            return layer_units(model, plan, batches)
        names = [name for name, settings in plan.resolve(quantisable(model)).items() if not settings.skip]
        return sum(map(len, find_runs(model, names))) + (batches if arguments.static else 0)

    job = folder_job(arguments, None if drawn else arguments.data)
    return report(job.run(quantise, options, units), arguments)
