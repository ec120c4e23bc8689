"""`python -m sim methods`: methods of quantisation against each other. torch is imported when it runs."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sim.common.cache import cache_folder
from sim.common.command import print_json
from sim.common.errors import InputError, require_range
from sim.common.results import write_results

USUAL = {"windows": 192, "sentences": 96}  # how many items are measured
SUBJECTS = ("char_lm", "minilm", "smollm2")
EXAMPLES = "  python -m sim methods zeroquant -o results --resume\n"


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser("methods", help="methods of quantisation against each other, with standard errors")
    parser.set_defaults(do=_methods)
    parser.add_argument("task", choices=("zeroquant", "efficientqat"), help="which methods beside others")
    parser.add_argument("-o", dest="folder", type=Path, default=Path("results"), metavar="DIR", help="(results)")
    parser.add_argument(
        "--windows", type=int, default=USUAL["windows"], metavar="N", help="of 128 bytes, to measure on (192)"
    )
    parser.add_argument(
        "--sentences", type=int, default=USUAL["sentences"], metavar="N", help="to measure MiniLM on (96)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="of the data (0 1 2)")
    parser.add_argument(
        "--quick", action="store_true", help="without 4-bit weights and other data on the language model"
    )
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only those whose rows have these names (all)")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=SUBJECTS, help="(all)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--finished", action="store_true", help="only rows of trials that an earlier run finished")
    parser.add_argument("--run", type=Path, metavar="DIR", help="(the task's folder in the cache)")
    parser.add_argument("--json", action="store_true", help="rows as JSON on stdout")


def _methods(arguments: argparse.Namespace) -> int:
    from quant.run_directory import RunDirectory, versions
    from sim.workloads import efficientqat, zeroquant
    from sim.workloads.method_subjects import CharLm, MiniLm, SmolLm2, Subject
    from sim.workloads.method_trials import Work, measure, table_text

    require_range("--windows", arguments.windows, 2, 4096)
    require_range("--sentences", arguments.sentences, 2, 10_000)
    for seed in arguments.seeds:
        require_range("--seeds", seed, 0, (1 << 31) - 1)
    every: tuple[Subject, ...] = (CharLm(arguments.windows), MiniLm(arguments.sentences), SmolLm2())
    subjects = [subject for subject in every if subject.name in arguments.models]
    if arguments.task == "zeroquant":
        trials = [zeroquant.trials(subject, arguments.quick) for subject in subjects]
    else:
        subjects = [subject for subject in subjects if subject.unit == "nats"]
        if not subjects:
            raise InputError("--models must hold a language model, char_lm or smollm2, for efficientqat")
        trials = [efficientqat.trials(subject, arguments.quick) for subject in subjects]
    if arguments.methods is not None:
        names = {trial.name for part in trials for trial in part}
        for name in arguments.methods:
            if name not in names:
                raise InputError(f"--methods must be of {', '.join(sorted(names))}, not {name!r}")
        trials = [[trial for trial in part if trial.name in arguments.methods] for part in trials]
    options: dict[str, Any] = {"windows": arguments.windows, "sentences": arguments.sentences}
    total = sum(1 + len(arguments.seeds) * len(part) for part in trials)
    rows: list[dict[str, Any]] = []
    folder = arguments.run or cache_folder(f"methods_{arguments.task}")
    with (
        RunDirectory.open(folder, options, arguments.resume or arguments.finished) as run,
        tqdm(total=total, unit="trial", file=sys.stderr, disable=None) as bar,
    ):

        def progress(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        for subject, part in zip(subjects, trials, strict=True):
            rows += measure(subject, part, arguments.seeds, Work(run, progress, arguments.finished))
    flags = [f" --{name}" for name in ("quick", "finished") if getattr(arguments, name)]
    flags += [f" --{name} {options[name]}" for name, usual in USUAL.items() if options[name] != usual]
    if arguments.methods is not None:
        flags.append(f" --methods {shlex.join(arguments.methods)}")
    command = f"python -m sim methods {arguments.task}{''.join(flags)}"
    options |= {"seeds": arguments.seeds, "models": [subject.name for subject in subjects]}
    path = arguments.folder / f"{arguments.task}.json"
    result = write_results(path, command, rows, versions=versions(), options=options)
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(result["rows"])
    else:
        print(table_text(result["rows"]))
    return 0
