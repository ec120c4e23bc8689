"""`python -m sim evaluate {sentence,language,segment,lightweight,vision,four-bits}`: integer networks against FP32."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sim.commands.optional import needs
from sim.common.cache import cache_folder
from sim.common.command import print_json
from sim.common.errors import require_range
from sim.common.files import content_sha256
from sim.common.results import write_results
from sim.reference import InputError

Rows = Sequence[dict[str, Any]]
UNSAID = ("do", "task", "default", "folder", "run", "resume", "json", "jobs")  # no part of what is measured


def add_evaluations(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the subcommand, with a parser for each task."""
    evaluate = commands.add_parser("evaluate", help="an integer network against floating point")
    tasks = evaluate.add_subparsers(required=True, metavar="TASK")

    sentence = _add(tasks, "sentence", "similarity of sentence embeddings (all-MiniLM-L6-v2)", _sentence)
    sentence.add_argument("--model", default="minilm", metavar="FOLDER", help="another checkpoint of BERT's family")
    sentence.add_argument("--sentences", type=int, default=2000, metavar="N", help="how many are measured (2000)")
    sentence.add_argument("--calibration", type=int, default=64, metavar="N", help="sentences of each seed (64)")
    sentence.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that measure networks (1)")

    language = _add(tasks, "language", "perplexity of a language model on Brown text (SmolLM2-135M)", _language)
    language.add_argument("--model", default="smollm2", metavar="FOLDER", help="another checkpoint, of Llama or GPT-2")
    language.add_argument("--windows", type=int, default=8, metavar="N", help="of the text, to measure (8)")
    language.add_argument("--calibration", type=int, default=8, metavar="N", help="windows to choose scales by (8)")
    language.add_argument("--length", type=int, default=256, metavar="N", help="tokens of a window (256)")
    language.add_argument("--group", type=int, default=64, metavar="N", help="weights that share a multiplier (64)")
    language.add_argument("--head", action="store_true", help="measure a head in integers too")
    language.add_argument("--no-rotation", action="store_true", help="leave the outliers of the residual stream")

    segment = _add(tasks, "segment", "mIoU of a SegFormer trained here on scenes of digits", _segment)
    segment.add_argument("--model", type=Path, metavar="FOLDER", help="a SegFormer checkpoint instead; with --data")
    segment.add_argument("--data", type=Path, metavar="CITYSCAPES", help="a Cityscapes folder to measure it on")
    lightweight = _add(tasks, "lightweight", "mIoU of a linear-attention network on the same scenes", _lightweight)
    vision = _add(tasks, "vision", "masks of photographs by a ViT segmenter against its own in FP32", _vision)
    vision.add_argument("--images", type=int, default=16, metavar="N", help="crops that are measured (16)")
    vision.add_argument("--calibration", type=int, default=8, metavar="N", help="crops of each seed (8)")
    four_bits = _add(tasks, "four-bits", "W4A4 networks with and without Hadamard transforms", _four_bits)
    four_bits.add_argument("--models", nargs="+", metavar="NAME", help="minilm char_lm smollm2 (all)")
    four_bits.add_argument("--sentences", type=int, default=1000, metavar="N", help="for MiniLM (1000)")
    four_bits.add_argument("--windows", type=int, default=8, metavar="N", help="of text, for language models (8)")
    for parser in (sentence, segment, lightweight, vision):
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="(0 1 2)")
        parser.add_argument(
            "--granularity", choices=("token", "tensor"), default="token", help="of activations (token)"
        )
    for parser in (language, vision):
        parser.add_argument("--wide", action="store_true", help="measure folded tables, and wider coefficients, too")
    for parser in (segment, lightweight):
        parser.add_argument("--images", type=int, default=1000, metavar="N", help="how many are measured (1000)")
        parser.add_argument("--calibration", type=int, default=64, metavar="N", help="images of each seed (64)")


def _add(
    tasks: "argparse._SubParsersAction[Any]", name: str, help: str, do: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = tasks.add_parser(name, help=help)
    parser.set_defaults(do=do, task=name, default=parser.get_default)
    parser.add_argument("-o", dest="folder", type=Path, default=Path("results"), metavar="DIR", help="(results)")
    parser.add_argument("--quick", action="store_true", help="all operations together only, not one at a time")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted evaluation")
    parser.add_argument("--run", type=Path, default=cache_folder(name), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")
    return parser


def _seeds(arguments: argparse.Namespace) -> tuple[int, ...]:
    for seed in arguments.seeds:
        require_range("--seeds", seed, 0, (1 << 31) - 1)
    return tuple(arguments.seeds)


def _sentence(arguments: argparse.Namespace) -> int:
    with needs("transformers"):
        from quant.zoo.packaged import path_of
        from sim.workloads import sentence
    require_range("--jobs", arguments.jobs, 1, 256)
    options = sentence.Options(
        arguments.sentences, arguments.calibration, _seeds(arguments), arguments.granularity, not arguments.quick
    )
    folder = path_of(arguments.model)
    configuration = {
        "model": str(folder),
        "weights_sha256": content_sha256(folder),
        "sentences": options.count,
        "calibration": options.calibration,
        "granularity": options.granularity,
    }
    total = 1 + sum(len(sentence.chosen(options, seed)) for seed in options.seeds)

    def measure(run: Any, progress: Callable[[str], object]) -> dict[str, Any]:
        return sentence.evaluate(folder, run, options, progress, arguments.jobs)

    return _report(arguments, configuration, total, measure, sentence.table_text)


def _language(arguments: argparse.Namespace) -> int:
    with needs("language"):
        from quant.zoo.packaged import path_of
        from sim.workloads import language
    options = language.Options(
        arguments.windows,
        arguments.length,
        arguments.calibration,
        arguments.group,
        rotate=not arguments.no_rotation,
        single=not arguments.quick,
        wide=arguments.wide,
        head=arguments.head,
    )
    settings = asdict(options)
    weights = content_sha256(path_of(arguments.model))
    configuration = {
        "model": arguments.model,
        "weights_sha256": weights,
        **{key: settings[key] for key in settings if key not in ("single", "wide", "head")},
    }

    def measure(run: Any, progress: Callable[[str], object]) -> dict[str, Any]:
        return language.evaluate(arguments.model, run, options, progress)

    return _report(arguments, configuration, language.networks(options), measure, language.table_text)


def _segment(arguments: argparse.Namespace) -> int:
    with needs("transformers"):
        from quant.formats.checkpoint import load_model
        from sim.workloads.cityscapes import Cityscapes
        from sim.workloads.segment import SceneData, scene_model
    if (arguments.model is None) != (arguments.data is None):
        raise InputError("--model and --data must be given together, or neither for the scenes")
    options = _options(arguments)
    if arguments.data is not None:
        data = Cityscapes(arguments.data, arguments.model, options)
        model: Any = load_model(arguments.model)[0]
        if model.config.num_labels != data.classes:
            raise InputError(f"{arguments.model}: must have {data.classes} classes, not {model.config.num_labels}")
    else:
        model, data = _trained(scene_model), SceneData(options)
    return _segmentation(arguments, model, data, options)


def _lightweight(arguments: argparse.Namespace) -> int:
    with needs("digits"):
        from sim.workloads.lightweight import lightweight_model
        from sim.workloads.segment import SceneData
    options = _options(arguments)
    return _segmentation(arguments, _trained(lightweight_model), SceneData(options), options)


def _vision(arguments: argparse.Namespace) -> int:
    with needs("vision"):
        from quant.zoo.focus import focus_segmenter
        from sim.workloads import vision
        from sim.workloads.segmentation import weights_sha256
    from sim.network.convert import functions
    from sim.network.converters.describe import describe

    options = _options(arguments)
    with needs("vision"):
        model = focus_segmenter()
    configuration = {key: getattr(options, key) for key in ("images", "calibration", "granularity")}
    configuration["weights_sha256"] = weights_sha256(model)
    operations = functions(describe(model.encoder))
    total = 1 + len(options.pairs(operations))

    def measure(run: Any, progress: Callable[[str], object]) -> dict[str, Any]:
        return vision.evaluate(model, run, options, progress)

    return _report(arguments, configuration, total, measure, vision.table_text)


def _four_bits(arguments: argparse.Namespace) -> int:
    with needs("language"), needs("sentence"):
        from sim.workloads import four_bits
    models = four_bits.MODELS if arguments.models is None else tuple(arguments.models)
    options = four_bits.Options(models, arguments.sentences, arguments.windows)
    configuration = {key: value for key, value in asdict(options).items() if key != "models"}

    def measure(run: Any, progress: Callable[[str], object]) -> dict[str, Any]:
        return four_bits.evaluate(run, options, progress)

    total = len(models) * (1 + len(four_bits.VARIANTS))
    return _report(arguments, configuration, total, measure, four_bits.table_text)


def _options(arguments: argparse.Namespace) -> Any:
    from sim.workloads.variants import Options

    return Options(
        arguments.images,
        arguments.calibration,
        _seeds(arguments),
        arguments.granularity,
        single=not arguments.quick,
        wide=getattr(arguments, "wide", False),
    )


def _trained(make: Callable[[Callable[[], object]], Any]) -> Any:
    with tqdm(desc="train", unit="step", file=sys.stderr, disable=None) as bar:
        return make(lambda: bar.update())


def _segmentation(arguments: argparse.Namespace, model: Any, data: Any, options: Any) -> int:
    from sim.network.convert import functions
    from sim.network.converters.describe import describe
    from sim.workloads import segmentation

    settings = asdict(options)
    configuration = {key: settings[key] for key in ("images", "calibration", "granularity")}
    configuration |= {
        "weights_sha256": segmentation.weights_sha256(model),
        "data": str(getattr(arguments, "data", None)),
    }
    operations = functions(describe(model))
    total = 1 + len(options.pairs(operations))

    def measure(run: Any, progress: Callable[[str], object]) -> dict[str, Any]:
        found = segmentation.evaluate(model, data, run, options, progress)
        return {"options": settings, "weights_sha256": configuration["weights_sha256"], **found}

    return _report(arguments, configuration, total, measure, segmentation.table_text)


def _report(
    arguments: argparse.Namespace,
    configuration: dict[str, Any],
    total: int,
    measure: Callable[[Any, Callable[[str], object]], dict[str, Any]],
    table_text: Callable[[Rows], str],
) -> int:
    """Measure in a run directory, write the results, and print them."""
    from quant.run_directory import RunDirectory, versions

    with (
        RunDirectory.open(arguments.run, configuration, arguments.resume) as run,
        tqdm(total=total, unit="network", file=sys.stderr, disable=None) as bar,
    ):
        result = measure(run, lambda name: (bar.set_postfix_str(name), bar.update()))
    path = arguments.folder / f"{arguments.task}.json"
    rows = result.pop("rows")
    result = write_results(path, command(arguments), rows, versions=versions(), **result)
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(result["rows"])
    else:
        print(table_text(result["rows"]))
    return 0


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same anywhere: of a path the last part."""
    words = ["python -m sim evaluate", arguments.task]
    for name, value in vars(arguments).items():
        if name not in UNSAID and value != arguments.default(name):
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *(Path(str(one)).name for one in values)]
    return " ".join(words)
