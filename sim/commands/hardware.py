"""`python -m sim run DIR --on SIMULATOR`: a converted network on the Verilog of the engine."""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.commands.optional import needs
from sim.common.cache import cache_folder
from sim.common.command import print_json
from sim.common.results import write_results
from sim.cosim.simulators import SIMULATORS, SimulationError, version
from sim.reference import InputError


@dataclass(frozen=True, eq=False)
class Subject:
    """What runs: a network and its samples, one to a batch; what the command calls them, and what they are made of."""

    network: Any
    batches: Sequence[Mapping[str, Any]]
    name: str
    made_of: Mapping[str, str]


def add_hardware(parser: argparse.ArgumentParser) -> None:
    """The options of a run on the engine."""
    group = parser.add_argument_group("on the engine", "every operator's codes are compared with the integer network's")
    group.add_argument("--on", choices=SIMULATORS, help="run the layers on the engine's Verilog, one sample at a time")
    group.add_argument(
        "--from",
        dest="packaged",
        choices=("sentence", "language"),
        help="all-MiniLM-L6-v2 and sentences, or the first of SmolLM2's layers and Brown, in place of DIR and --data",
    )
    group.add_argument("--layers", metavar="N..M", help="these layers (everything behind the embedding)")
    group.add_argument("--lanes", type=int, default=16, metavar="N", help="rows and columns of the array (16)")
    group.add_argument("--row-units", type=int, default=4, metavar="N", help="units for softmax, norms and tokens (4)")
    group.add_argument("--stall-seed", type=int, default=0, metavar="N", help="stall the outer streams at random")
    build = cache_folder("layer")
    group.add_argument("--build", type=Path, default=build, metavar="DIR", help=f"where builds are kept ({build})")


def run_on_hardware(arguments: argparse.Namespace, load_data: Callable[..., Any]) -> int:
    """Run each sample; exit code 1 on the first difference, which is named. `-o` is a file of results, .json."""
    with needs("torch"):
        from sim.cosim.run_layer import Options, run_layer
        from sim.network.program import program_of, results_of
        from sim.network.program_check import first_difference, located
        from sim.network.program_cycles import cycles_by_kind
        from sim.network.program_engine import engine_for

    if arguments.check:
        raise InputError("--check must not be given with --on")
    if arguments.output is not None and arguments.output.suffix != ".json":
        raise InputError(f"-o must end in .json with --on, not {arguments.output.name!r}")
    layers = _layers(arguments.layers)
    subject = _subject(arguments, load_data, layers)
    network = subject.network
    lengths = [_tokens(batch) for batch in subject.batches]
    config = engine_for(network, max(tokens for tokens, _ in lengths), arguments.lanes, arguments.row_units, layers)
    rows = []
    options = Options(arguments.on, arguments.build, stall_seed=arguments.stall_seed)
    for number, (batch, (tokens, valid)) in enumerate(zip(subject.batches, lengths, strict=True)):
        expected = results_of(network, batch)
        program = program_of(network, config, tokens, valid, layers)
        program = program.with_inputs(expected)
        difference = first_difference(program, expected)
        if difference is not None:
            print(f"sample {number}: the program differs from the network: {difference}", file=sys.stderr)
            return 1
        began = time.perf_counter()
        try:
            run = run_layer(config, program.instructions, options)
        except SimulationError as error:  # as in a regression, of the hardware
            print(f"sample {number}: {error}", file=sys.stderr)
            return 1
        place = program.steps[-1].place
        same = _stored(run.stored, place, config.lanes, expected[program.output])
        row: dict[str, Any] = {
            "sample": number, "tokens": tokens, "valid": valid, "layers": arguments.layers or "all",
            "simulator": arguments.on, "lanes": config.lanes, "row_units": config.row_units,
            "memory_words": config.words, "instructions": len(program.steps), "operators": program.operators,
            "writes": run.writes, "mismatches": run.mismatches, "cycles": run.cycles,
            "array_cycles": config.schedule.products(program.instructions),
            "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        if run.mismatches or run.problem or not same:
            where = located(program, run) if run.first is not None else "the words that were stored"
            print(f"sample {number}: {run.problem or ''} {where}".replace(":  ", ": "), file=sys.stderr)
            return 1
        rows.append(row | {"kinds": cycles_by_kind(config, program.instructions, run.durations, run.cycles)})
        if not arguments.json:
            _print(rows[-1])
    if arguments.json:
        print_json(rows)
    if arguments.output is not None:
        kept = [{key: value for key, value in row.items() if key != "simulator"} for row in rows]
        tool = {"simulator": version(arguments.on)}
        command = _command(arguments, subject)
        write_results(arguments.output, command, kept, ("torch", "amaranth"), **subject.made_of, versions=tool)
    return 0


def _subject(arguments: argparse.Namespace, load_data: Callable[..., Any], layers: tuple[int, int] | None) -> Subject:
    if arguments.packaged is not None:
        if arguments.folder is not None or arguments.data is not None:
            raise InputError("--from must not be given with DIR or --data")
        with needs(arguments.packaged):
            from sim.workloads.language_layers import language_layers
            from sim.workloads.sentence_layers import sentence_layers
        size = arguments.samples, arguments.sequence_length
        if arguments.packaged == "sentence":
            network, batches, made_of = sentence_layers(*size, arguments.seed)
        else:
            network, batches, made_of = language_layers(*size, None if layers is None else layers[1] + 1)
        return Subject(network, batches, f"--from {arguments.packaged}", made_of)
    from quant.formats.packed_index import DESCRIPTION
    from sim.network.packed import load

    arguments.batch_size = 1
    data = load_data(arguments, arguments.folder)
    made_of = {
        "network_sha256": hashlib.sha256((arguments.folder / DESCRIPTION).read_bytes()).hexdigest(),
        "data": arguments.data.name,
        "data_sha256": data.digest,
    }
    return Subject(load(arguments.folder), list(data), "NETWORK --data DATA", made_of)


def _command(arguments: argparse.Namespace, subject: Subject) -> str:
    """The command that measured the rows, without the user's paths."""
    given = {
        "samples": arguments.samples, "sequence-length": arguments.sequence_length, "seed": arguments.seed,
        "on": arguments.on, "layers": arguments.layers, "lanes": arguments.lanes, "row-units": arguments.row_units,
        "stall-seed": arguments.stall_seed or None,
    }  # fmt: skip
    options = " ".join(f"--{name} {value}" for name, value in given.items() if value is not None)
    return f"python -m sim run {subject.name} {options}"


def _print(row: Mapping[str, Any]) -> None:
    """A sample's figures, and where its cycles go."""
    from sim.network.program_cycles import cycles_text

    print("\n".join(f"{key}  {value}" for key, value in row.items() if key != "kinds"))
    print(cycles_text(row["kinds"]))


def _layers(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    ends = text.split("..") if ".." in text else [text, text]
    if len(ends) != 2 or not all(re.fullmatch("[0-9]{1,9}", end) for end in ends):
        raise InputError(f"--layers must be a number or N..M, not {text!r}")
    return int(ends[0]), int(ends[1])


def _tokens(batch: Any) -> tuple[int, int]:
    """(tokens, those that count) of a sample. Raises InputError unless padding is at the end."""
    mask = batch.get("attention_mask")
    given = next(iter(batch.values()))
    if mask is None:
        return given.shape[1], given.shape[1]
    valid = int(mask.sum())
    if valid == 0 or not bool(mask[0, :valid].all()):
        raise InputError("attention_mask must be ones, then zeros for padding, for the engine")
    return mask.shape[1], valid


def _stored(words: np.ndarray, place: Any, lanes: int, expected: np.ndarray) -> bool:
    """Whether the words that came out are the network's output."""
    from sim.reference.engine import untiled

    whole = len(words) == place.tiles(lanes) * place.rows
    return whole and bool((untiled(words, place.rows, place.channels) == expected).all())
