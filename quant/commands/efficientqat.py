"""`python -m quant efficientqat`."""

import argparse
import shutil
from dataclasses import asdict
from typing import Any

from quant.commands.job_options import add_job, folder_job, report
from sim.common.errors import InputError


def add(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command to the parser of `python -m quant`."""
    parser = commands.add_parser(
        "efficientqat", help="2 to 4 bits with trained steps, block by block and end to end (2407.11062)"
    )
    parser.set_defaults(do=_efficientqat)
    add_job(parser, "what it trains on: text, .jsonl, .npz or a folder")
    option = parser.add_argument
    option("--bits", type=int, default=2, metavar="B", help="2, 3 or 4 (2)")
    option("--group", type=int, default=64, metavar="G", help="inputs that share a step and a zero point (64)")
    option("--multiplier-bits", type=int, default=8, metavar="B", help="of a group's multiplier, 1..16 (8)")
    option("--block-ap", action="store_true", help="the first phase: all parameters, block by block")
    option("--e2e-qp", action="store_true", help="the second phase: step sizes, end to end; without either, both")
    option("--distill", action="store_true", help="the second phase learns the original's distribution")
    option("--searched", action="store_true", help="begin with the steps of least squared error")
    option("--preset", choices=("paper", "small"), default="paper", help="learning rates (paper)")
    option("--checkpointing", action="store_true", help="less memory but more time in the second phase")
    option("--epochs", type=int, nargs=2, default=(2, 1), metavar="N", help="of the two phases (2 1)")


def _efficientqat(arguments: argparse.Namespace) -> int:
    from quant.methods.blocks import find_runs
    from quant.methods.efficientqat import block_ap, e2e_qp
    from quant.methods.efficientqat.processes import joined, own_device, rank
    from quant.methods.efficientqat.quantise import BITS, Options, efficientqat
    from quant.methods.layers import quantisable

    if arguments.data is None:
        raise InputError("--data must be given")
    if arguments.bits not in BITS:
        raise InputError(f"--bits must be one of {', '.join(map(str, BITS))}, not {arguments.bits}")
    both = not (arguments.block_ap or arguments.e2e_qp)
    if arguments.searched and not (both or arguments.block_ap):
        raise InputError("--searched needs --block-ap")
    if arguments.distill and not (both or arguments.e2e_qp):
        raise InputError("--distill needs --e2e-qp")
    first = second = None
    if both or arguments.block_ap:
        rates = block_ap.PRESETS[arguments.preset][arguments.bits]
        first = block_ap.BlockAp(rates, arguments.epochs[0], arguments.searched, arguments.seed)
    if both or arguments.e2e_qp:
        rate = e2e_qp.PRESETS[arguments.preset][arguments.bits]
        second = e2e_qp.E2eQp(rate, arguments.epochs[1], arguments.distill, arguments.seed, arguments.checkpointing)
    options = Options(
        arguments.bits, arguments.group, first, second, multiplier_bits=arguments.multiplier_bits, skip=arguments.skip
    )

    def quantise(model: Any, data: Any, job: Any) -> Any:
        return efficientqat(model, data, options, job=job)

    def units(model: Any, _batches: int) -> int:
        settings = options.plan(model).resolve(quantisable(model))
        names = [name for name, chosen in settings.items() if not chosen.skip]
        return sum(map(len, find_runs(model, names))) + (second is not None)

    if own := rank():  # the others' results are the same: they are kept only while they are needed to resume
        arguments.output = arguments.output.with_name(f"{arguments.output.name}.rank{own}")
    arguments.device = own_device(arguments.device)
    job = folder_job(arguments, arguments.data)
    with joined(arguments.device):
        rows = job.run(quantise, {"method": "efficientqat", **asdict(options)}, units)
    if own:
        shutil.rmtree(arguments.output)
        return 0
    return report(rows, arguments)
