"""`python -m sim run DIR --on SIMULATOR`: a converted network on the Verilog of the engine."""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sim.common.cache import cache_folder
from sim.common.command import print_json
from sim.common.results import write_results
from sim.cosim.simulators import SIMULATORS, SimulationError, version
from sim.reference import InputError


def add_hardware(parser: argparse.ArgumentParser) -> None:
    """The options of a run on the engine."""
    group = parser.add_argument_group("on the engine", "every operator's codes are compared with the integer network's")
    group.add_argument("--on", choices=SIMULATORS, help="run the layers on the engine's Verilog, one sample at a time")
    group.add_argument("--layers", metavar="N..M", help="these layers (everything behind the embedding)")
    group.add_argument("--lanes", type=int, default=16, metavar="N", help="rows and columns of the array (16)")
    group.add_argument("--row-units", type=int, default=4, metavar="N", help="units for softmax, norms and tokens (4)")
    group.add_argument("--stall-seed", type=int, default=0, metavar="N", help="stall the outer streams at random")
    build = cache_folder("layer")
    group.add_argument("--build", type=Path, default=build, metavar="DIR", help=f"where builds are kept ({build})")


def run_on_hardware(arguments: argparse.Namespace, network: Any, load_data: Callable[..., Any]) -> int:
    """Run each sample; exit code 1 on the first difference, which is named. `-o` is a file of results, .json."""
    from quant.formats.packed_index import DESCRIPTION
    from sim.cosim.run_layer import Options, run_layer
    from sim.network.program import program_of, results_of
    from sim.network.program_check import first_difference, located
    from sim.network.program_engine import engine_for

    if arguments.check:
        raise InputError("--check must not be given with --on")
    if arguments.output is not None and arguments.output.suffix != ".json":
        raise InputError(f"-o must end in .json with --on, not {arguments.output.name!r}")
    layers = _layers(arguments.layers)
    arguments.batch_size = 1
    data = load_data(arguments, arguments.folder)
    batches = list(data)
    lengths = [_tokens(batch) for batch in batches]
    config = engine_for(network, max(tokens for tokens, _ in lengths), arguments.lanes, arguments.row_units, layers)
    rows = []
    options = Options(arguments.on, arguments.build, stall_seed=arguments.stall_seed)
    for number, (batch, (tokens, valid)) in enumerate(zip(batches, lengths, strict=True)):
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
        row = {
            "sample": number, "tokens": tokens, "valid": valid, "layers": arguments.layers or "all",
            "simulator": arguments.on, "lanes": config.lanes, "row_units": config.row_units,
            "memory_words": config.words, "instructions": len(program.steps), "operators": program.operators,
            "writes": run.writes, "mismatches": run.mismatches, "cycles": run.cycles,
            "array_cycles": config.schedule.products(program.instructions),
            "seconds": round(time.perf_counter() - began, 1),
        }  # fmt: skip
        rows.append(row)
        if run.mismatches or run.problem or not same:
            where = located(program, run) if run.first is not None else "the words that were stored"
            print(f"sample {number}: {run.problem or ''} {where}".replace(":  ", ": "), file=sys.stderr)
            return 1
        if not arguments.json:
            print("\n".join(f"{key}  {value}" for key, value in row.items()))
    if arguments.json:
        print_json(rows)
    if arguments.output is not None:
        layer = "" if arguments.layers is None else f" --layers {arguments.layers}"
        size = f"--lanes {config.lanes} --row-units {config.row_units}"
        command = f"python -m sim run NETWORK --on {arguments.on}{layer} {size}"
        kept = [{key: value for key, value in row.items() if key != "simulator"} for row in rows]
        made_of = {
            "network_sha256": hashlib.sha256((arguments.folder / DESCRIPTION).read_bytes()).hexdigest(),
            "data_sha256": data.digest,
        }
        tool = {"simulator": version(arguments.on)}
        write_results(arguments.output, command, kept, ("torch", "amaranth"), **made_of, versions=tool)
    return 0


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
