"""`python -m quant`: a thin shell over the functions of the package. Larger commands are in `quant/commands`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quant.commands import efficientqat, evaluate, scaling_law, zeroquant
from quant.plan import ACTIVATION_OBSERVERS, WEIGHT_OBSERVERS, Plan, Settings
from quant.zoo.packaged import MODELS, path_of
from sim.common.command import Parser, print_json, run
from sim.common.files import locked, read_json
from sim.common.text_table import format_table
from sim.reference import InputError

COMPRESSED = "compressed-tensors"  # a format of checkpoints
EXAMPLES = """examples:
  python -m quant quantize checkpoint --weight-bits 8 --data sentences.txt -o packed
  python -m quant quantize checkpoint --weight-bits 4 --group-size 128 --no-activations --skip lm_head -o packed
  python -m quant plan --weight-bits 4 --group-size 64 -o plan.json
  python -m quant quantize checkpoint --plan plan.json --data calibration.jsonl -o packed --json
  python -m quant show packed
  python -m quant export packed --format gptq_v2 -o gptq
  python -m quant scaling-law predict --scheme w4a4 -N 595e6 -D 100e9 -G 32
  python -m quant zeroquant checkpoint --weights 4/8 --lkd --data sentences.txt -o packed
  python -m quant efficientqat checkpoint --bits 2 --group 64 --data train.txt --distill -o packed
  python -m quant import smollm2 -o checkpoint
  python -m quant evaluate packed --data brown
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return arguments.do(arguments)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors", "tqdm"):
            raise
        raise InputError(f'{error.name} is not installed: pip install "bitwright[quant]"') from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m quant", description="Quantise PyTorch models to integers, and pack them.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    quantise = commands.add_parser("quantize", help="a checkpoint folder to a packed one, rounding to nearest")
    quantise.set_defaults(do=_quantize)
    quantise.add_argument(
        "checkpoint",
        metavar="FOLDER",
        help=f"config.json and safetensors or PyTorch files; a GGUF file; or {', '.join(MODELS)}",
    )
    quantise.add_argument("--plan", type=Path, metavar="JSON", help="which layer how; else the options below, for all")
    _add_settings(quantise)
    quantise.add_argument(
        "--data", type=Path, metavar="PATH", help="calibration: text, .jsonl, .npz or a folder of them"
    )
    quantise.add_argument("--samples", type=int, default=128, help="how many samples (128)")
    quantise.add_argument("--sequence-length", type=int, default=128, help="cut to so many tokens (128)")
    quantise.add_argument("--pack", action="store_true", help="join the samples and cut them into full sequences")
    quantise.add_argument("--batch-size", type=int, default=8, help="samples at a time (8)")
    quantise.add_argument("--seed", type=int, default=0, help="which samples (0)")
    quantise.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (cpu)")
    quantise.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16", "auto"),
                          help="of what stays floating point; auto: the files' (float32)")  # fmt: skip
    quantise.add_argument("--threads", type=int, help="of the processor (torch's choice)")
    quantise.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run of the same plan and data"
    )
    _add_output(quantise, "DIR", "the packed folder; what a run needs to resume is in its run folder")

    plan = commands.add_parser("plan", help="write the plan that the options stand for, to edit")
    plan.set_defaults(do=_plan)
    _add_settings(plan)
    plan.add_argument("-o", "--output", type=Path, required=True, metavar="JSON")

    show = commands.add_parser("show", help="the layers of a packed folder; every file is checked by its hash")
    show.set_defaults(do=_show)
    show.add_argument("folder", type=Path, metavar="DIR")
    show.add_argument("--json", action="store_true", help="rows as JSON on stdout")

    export = commands.add_parser("export", help="a packed folder as a GPTQ or compressed-tensors checkpoint")
    export.set_defaults(do=_export)
    export.add_argument("folder", type=Path, metavar="DIR")
    export.add_argument(
        "--format", default="gptq_v2", choices=("gptq", "gptq_v2", COMPRESSED),
        help=f"gptq: zero points less one; {COMPRESSED}: pack-quantized (gptq_v2)",
    )  # fmt: skip
    export.add_argument(
        "--scales", default="float16", choices=("float16", "float32"), help="float32 is exact (float16)"
    )
    _add_output(export, "FOLDER", "the checkpoint")

    imported = commands.add_parser("import", help="a GPTQ checkpoint as a packed folder; a GGUF file as a checkpoint")
    imported.set_defaults(do=_import)
    imported.add_argument("source", metavar="PATH", help="a GPTQ folder, a GGUF file, or smollm2")
    _add_output(imported, "DIR", "the packed folder, or the checkpoint in floating point")
    evaluate.add(commands)
    scaling_law.add(commands)
    zeroquant.add(commands)
    efficientqat.add(commands)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--weight-bits", type=int, metavar="B", help="2..8 (8)")
    add("--group-size", type=int, metavar="G", help="inputs that share a scale (one scale per output channel)")
    add("--multiplier-bits", type=int, metavar="B", help="of a group's multiplier, 1..16 (8)")
    add("--asymmetric", action="store_true", help="unsigned weights with a zero point")
    add(
        "--weight-observer",
        choices=WEIGHT_OBSERVERS,
        help="mse: least squared error; minmax: no weight saturates (mse)",
    )
    add("--activation-bits", type=int, metavar="B", help="2..16 (8)")
    add("--no-activations", action="store_true", help="leave the inputs of layers floating point; needs no --data")
    add("--per-token", action="store_true", help="a scale for each token, found when it is seen; needs no --data")
    add("--activation-observer", choices=ACTIVATION_OBSERVERS, help="(minmax)")
    add("--percentile", type=float, metavar="P", help="of the magnitudes, for that observer (99.99)")
    add("--hadamard", action="store_true", help="transform the inputs, so that outliers spread over a block")
    add("--skip", metavar="REGEX", help="names of layers to leave as they are")


def _add_output(parser: argparse.ArgumentParser, metavar: str, what: str) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=what)
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given of the settings, by the names that a plan has."""
    if arguments.no_activations and (arguments.activation_bits is not None or arguments.per_token):
        raise InputError("--no-activations and --activation-bits or --per-token contradict each other")
    given: dict[str, Any] = {}
    for name in (
        "weight_bits",
        "multiplier_bits",
        "weight_observer",
        "activation_bits",
        "activation_observer",
        "percentile",
    ):
        if getattr(arguments, name) is not None:
            given[name] = getattr(arguments, name)
    if arguments.group_size is not None:
        given |= {"weight_granularity": "group", "group_size": arguments.group_size}
    if arguments.asymmetric:
        given["weight_symmetric"] = False
    if arguments.no_activations:
        given["activation_bits"] = None
    if arguments.per_token:
        given["activation_granularity"] = "token"
    if arguments.hadamard:
        given["hadamard"] = True
    Settings(**given)  # a mistake shows before anything is loaded
    return given


def _plan_of(arguments: argparse.Namespace) -> Plan:
    given = _settings(arguments)
    if getattr(arguments, "plan", None) is None:
        return Plan.uniform(arguments.skip, **given)
    if given or arguments.skip is not None:
        name = next(iter(given), "skip").replace("_", "-")
        raise InputError(f"--plan says it all; --{name} contradicts it")
    return Plan.load(arguments.plan)


def _plan(arguments: argparse.Namespace) -> int:
    plan = _plan_of(arguments)
    with locked(arguments.output.parent):
        print(plan.save(arguments.output))
    return 0


def _quantize(arguments: argparse.Namespace) -> int:
    from quant.calibration import Sampling

    plan = _plan_of(arguments)
    sampling = Sampling(
        arguments.samples, arguments.sequence_length, arguments.batch_size, arguments.seed, arguments.pack
    )
    from quant.quantize_folder import Execution, quantize_folder

    execution = Execution(arguments.device, arguments.dtype, arguments.threads)
    rows = quantize_folder(
        path_of(arguments.checkpoint), arguments.output, plan, arguments.data, sampling, execution=execution,
        resume=arguments.resume,
    )  # fmt: skip
    return _report(rows, arguments, f"the packed model is in {arguments.output}/")


def _show(arguments: argparse.Namespace) -> int:
    from quant.formats.gguf_file import origin_line
    from quant.formats.packed import PackedModel, weight_tensors
    from quant.methods.coverage import coverage_line, size_line
    from quant.pretrained import MAKER, require_own_details

    packed = PackedModel.load(arguments.folder)
    if packed.details.get("maker") == MAKER:
        require_own_details(packed, arguments.folder)
    known = {row["module"]: row for row in packed.details.get("rows", [])}
    rows = []
    for name, weight in packed.weights.items():
        module = name.removesuffix(".weight")
        outputs, inputs = weight.codes.shape
        stored = sum(tensor.nbytes for tensor in weight_tensors(weight).values())
        row = {"module": module, "inputs": inputs, "outputs": outputs, "weight_bits": weight.bits,
               "group_size": weight.group_size, "symmetric": weight.signed,
               "stored_bits_per_weight": 8 * stored / (inputs * outputs)}  # fmt: skip
        rows.append(known.get(module, {}) | row)
    text = "; ".join(f"{where}: {what}" for where, what in packed.boundary.items())
    note = f"plan {packed.plan.digest[:12]}, data {(packed.data_sha256 or 'none')[:12]}; {text}"
    coverage = packed.details.get("coverage") if packed.details.get("maker") == MAKER else None
    if coverage:
        note += f"\n{coverage_line(coverage)}\n{size_line(coverage)}"
    config = arguments.folder / "config.json"
    if config.exists() and (line := origin_line(read_json(config))):
        note += f"\n{line}"
    return _report(rows, arguments, note)


def _export(arguments: argparse.Namespace) -> int:
    import torch

    from quant.exchange import export_compressed_tensors, export_gptq

    dtype = torch.float16 if arguments.scales == "float16" else torch.float32
    if arguments.format == COMPRESSED:
        rows = export_compressed_tensors(arguments.folder, arguments.output, dtype)
    else:
        rows = export_gptq(arguments.folder, arguments.output, arguments.format, dtype)
    scales = (
        "scales of its activations are found when it runs"
        if arguments.format == COMPRESSED
        else "it holds no activation scales"
    )
    return _report(rows, arguments, f"the checkpoint is in {arguments.output}/; {scales}")


def _import(arguments: argparse.Namespace) -> int:
    source = path_of(arguments.source)
    if source.suffix == ".gguf":
        from quant.gguf_folder import import_gguf

        rows = import_gguf(source, arguments.output)
        return _report(rows, arguments, f"the checkpoint, in float32, is in {arguments.output}/")
    from quant.exchange import import_gptq

    rows = import_gptq(source, arguments.output)
    return _report(rows, arguments, f"the packed model is in {arguments.output}/")


def _report(rows: Sequence[Mapping[str, Any]], arguments: argparse.Namespace, note: str) -> int:
    """Rows on stdout, as JSON or as an aligned table; the note on stderr."""
    if arguments.json:
        print_json(list(rows))
    elif rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        print(format_table(columns, [[row.get(column) for column in columns] for row in rows]))
    print(note, file=sys.stderr)
    return 0
