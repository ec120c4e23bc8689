"""`python -m quant evaluate`: how well a model in floating point, or a quantised one, predicts text."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from quant.plan import Plan
from quant.zoo.corpora import brown
from quant.zoo.packaged import MODELS, path_of
from sim.common.command import print_json
from sim.common.errors import InputError
from sim.common.files import read_text
from sim.common.text_table import format_table

TASKS = ("perplexity",)
CORPUS = "brown"
LENGTH = 256


def add(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command to the parser of `python -m quant`."""
    evaluate = commands.add_parser("evaluate", help="how well a language model predicts text")
    evaluate.set_defaults(do=_evaluate)
    option = evaluate.add_argument
    option("model", metavar="MODEL", help=f"a checkpoint or packed folder, a GGUF file, or {', '.join(MODELS)}")
    option(
        "--data", required=True, metavar="TEXT", help=f"a file of text, or {CORPUS}: the Brown corpus, held-out part"
    )
    option("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(perplexity)")
    option("--plan", type=Path, metavar="JSON", help="quantise a checkpoint so before it is measured")
    option("--samples", type=int, default=64, help="how many windows of the text; 0: all (64)")
    option("--sequence-length", type=int, help="tokens in a window (256, or what the model has room for)")
    option("--stride", type=int, help="tokens from a window to the next (half a window)")
    option("--batch-size", type=int, default=8, help="windows at a time (8)")
    option("--seed", type=int, default=0, help="which windows (0)")
    option("--device", default="cpu", help="cpu, cuda, cuda:1 (cpu)")
    option("--json", action="store_true", help="rows as JSON on stdout")


def _evaluate(arguments: argparse.Namespace) -> int:
    from quant.calibration import transformers_tokeniser
    from quant.formats.gguf_file import KEY, origin_line
    from quant.methods.perplexity import Windows
    from quant.quantize_folder import device_of

    length = LENGTH if arguments.sequence_length is None else arguments.sequence_length
    windows = Windows(length, arguments.stride, arguments.samples or None, arguments.batch_size, arguments.seed)
    path, device = path_of(arguments.model), device_of(arguments.device)
    plan = None if arguments.plan is None else Plan.load(arguments.plan)
    text = held_out(arguments.data)
    tokeniser = transformers_tokeniser(path)
    model, kind = _model(path, plan, device)
    if arguments.sequence_length is None:
        windows = replace(windows, sequence_length=fitting_length(model, tokeniser))
    found = predicted(model, tokeniser, text, windows, arguments.data)
    origin = getattr(model.config, KEY, None)
    name = path.stem if path.is_file() else path.resolve().name
    how = {"sequence_length": windows.sequence_length, "stride": windows.step, "seed": windows.seed}
    result = {"model": name, "weights": kind, "task": "perplexity", **found, **how}
    if arguments.json:
        print_json([result | {KEY: origin}])
    else:
        print(format_table(list(result), [list(result.values())]))
    if line := origin_line(model.config):
        print(line, file=sys.stderr)
    return 0


def held_out(data: str) -> str:
    """The text of a file, or the part of the Brown corpus that nothing is trained or chosen on."""
    return brown("test") if data == CORPUS and not Path(CORPUS).exists() else read_text(data)


def fitting_length(model: Any, tokeniser: Any) -> int:
    """Tokens of a window: `LENGTH`, or what the model has room for."""
    room = getattr(model.config, "max_position_embeddings", None) or LENGTH
    return min(LENGTH, room - len(_beginning(tokeniser)))


def predicted(model: Any, tokeniser: Any, text: str, windows: Any, source: str) -> dict[str, Any]:
    """`perplexity` of a model on the windows of a text, with a progress bar; `source` names the text in errors."""
    import torch
    from tqdm import tqdm

    from quant.calibration import CalibrationData, Sampling, require_fitting
    from quant.methods.perplexity import perplexity

    ids = tokeniser(text, add_special_tokens=False, verbose=False)["input_ids"]
    begin = _beginning(tokeniser)
    row = [*begin, *ids[: windows.sequence_length - 1], max(ids, default=0)]  # the longest, with the largest token
    require_fitting(model, CalibrationData(({"input_ids": torch.tensor([row])},), Sampling()), source)
    device = next(model.parameters()).device
    with tqdm(total=len(windows.places(len(ids))), unit="window", file=sys.stderr, disable=None) as bar:
        return perplexity(
            lambda rows: model(input_ids=rows.to(device)).logits, ids, len(text.encode()), windows, begin, bar.update
        )


def _beginning(tokeniser: Any) -> list[int]:
    """The token for the beginning of a text, if the tokeniser puts it there."""
    return [i for i in tokeniser("")["input_ids"] if i == tokeniser.bos_token_id]


def _model(path: Path, plan: Plan | None, device: Any) -> tuple[Any, str]:
    """The model in a folder or file, quantised by a plan if one is given, and what its weights are."""
    from quant.formats.checkpoint import load_model
    from quant.methods.perplexity import is_causal
    from quant.methods.post_training import quantize
    from quant.pretrained import from_pretrained

    if (path / "packed.json").exists():
        if plan is not None:
            raise InputError(f"{path}: is quantised already; --plan needs a checkpoint in floating point")
        model, kind = from_pretrained(path, device=device), "packed"
    else:
        model, kind = load_model(path, device=device)[0], "floating point"
    if not is_causal(model):
        raise InputError(f"{path}: must be a causal language model, not {type(model).__name__}")
    return (model, kind) if plan is None else (quantize(model, plan, inplace=True), "quantised")
