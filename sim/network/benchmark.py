"""`python -m sim.network.benchmark -o results`: the speed of the integer modules against PyTorch's floating point.

The piecewise-linear module, int8 to int8, against `torch.nn.functional.gelu` in FP32, both allocating their output; and
a network of all-MiniLM-L6-v2's shape, W8A8 and W4 in groups of 64, against the same in FP32. Beside them run PyTorch's
dynamic INT8 and, if onnx and onnxruntime are installed, ONNX Runtime's. All take turns, round by round, so that what
slows the machine slows all of them; a speed is the median, over the rounds, of FP32's time over the other's. Beside our
networks' times is the least that they could be, and a profile of a pass by kind of operator
(`sim.network.benchmark_limit`). Last comes a language model of SmolLM2-135M's shape
(`sim.network.benchmark_decoder`). Exit 1 if a target is missed.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ga_search import fit_table
from quant import Plan
from quant.run_directory import versions
from sim.common.command import Parser, print_json, run
from sim.common.results import write_results
from sim.network.benchmark_decoder import batches, calls, prompt, smollm2
from sim.network.benchmark_limit import Batches, Rates, limit, profile, profile_lines
from sim.network.benchmark_peers import PACKAGES, onnx_runtime, torch_dynamic
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.operators.tables import Gather
from sim.network.peak_memory import peak_bytes
from sim.network.table_sets import control_tables

CODES = 10_000_000
ROUNDS = {(16, 128): 9, (1, 32): 40}  # by sequences and tokens
PWL_ROUNDS = 9
DECODER_ROUNDS = {"prompt": 5, "token": 15}
PROFILED = 7  # passes
FORMATS: Mapping[str, dict[str, Any]] = {
    "W8A8": {},
    "W4 g64": dict(weight_bits=4, weight_granularity="group", group_size=64),
    # a weight times its group's multiplier fits 8 bits, and takes one product instead of two
    "W4 g64 m4": dict(weight_bits=4, weight_granularity="group", group_size=64, multiplier_bits=4),
}
TARGETS = {"pwl": 1.0, "W8A8": 1.0}  # least speed relative to FP32
Call = Callable[[], Any]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="python -m sim.network.benchmark",
        description=__doc__,
        epilog="example: python -m sim.network.benchmark -o results",
    )
    parser.add_argument("-o", dest="folder", type=Path, required=True, metavar="DIR", help="for network.json")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="(1 2)")
    parser.add_argument("--no-peers", action="store_true", help="without the dynamic INT8 of PyTorch and ONNX Runtime")
    parser.add_argument("--json", action="store_true", help="print the result too")
    arguments = parser.parse_args(argv)
    before = os.getloadavg()
    rows = measure(arguments.threads, not arguments.no_peers)
    used = {key: value for key, value in versions().items() if key != "threads"}
    path = arguments.folder / "network.json"
    result = write_results(
        path,
        "python -m sim.network.benchmark",
        rows,
        PACKAGES,
        versions=used,
        targets=TARGETS,
        load_before=before[0],
        load_averages={"before": before, "after": os.getloadavg()},
    )
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(result)
    for row in rows:
        print(
            f"{row['what']:<26} {row['size']:>8} {row['threads']} threads {row['seconds'] * 1e3:8.2f} ms, CPU "
            f"{row['cpu_seconds'] * 1e3:8.2f} ms: {row['speed']:.2f} times FP32's speed, CPU {row['cpu_speed']:.2f}",
            *profile_lines(row.get("profile", [])),
            sep="\n",
            file=sys.stderr,
        )
    print(f"load of the machine before: {before[0]:.2f}", file=sys.stderr)
    return 1 if any(row["target"] is not None and row["speed"] < row["target"] for row in rows) else 0


def measure(threads: Sequence[int], peers: bool) -> list[dict[str, Any]]:
    """The rows of every number of threads."""
    usual = torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    model, networks = minilm()
    decoder_model, decoder_network = smollm2()
    try:
        for count in tqdm(threads, unit="threads", disable=None):
            torch.set_num_threads(count)
            rows += [{"threads": count, **row} for row in pwl()]
            rows += [{"threads": count, **row} for row in encoder(model, networks, count if peers else None)]
            rows += [{"threads": count, **row} for row in decoder(decoder_model, decoder_network)]
    finally:
        torch.set_num_threads(usual)
    return rows


@dataclass(frozen=True)
class Times:
    """The wall clock's and the processor's seconds of a call in each round."""

    wall: list[float]
    cpu: list[float]


def in_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, Times]:
    """The times of the calls, one of each in every round, after one that is not counted."""
    times = {name: Times([], []) for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = _timed(call)
            times[name].wall.append(wall)
            times[name].cpu.append(cpu)
    return times


def _timed(call: Call) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def pwl() -> list[dict[str, Any]]:
    """The module on `CODES` random codes; it is checked on every code first."""
    table = fit_table("gelu")
    lowered = table.lower(5, 5)
    module = Gather([lowered.output(lowered.codes())])
    every = torch.arange(-128, 128, dtype=torch.int8)
    assert module(every).tolist() == lowered.output(lowered.codes()).tolist()
    codes = torch.randint(-128, 128, (CODES,), dtype=torch.int8)
    real = codes.float() / 32
    times = in_turns({"FP32": lambda: nn.functional.gelu(real), "pwl": lambda: module(codes)}, PWL_ROUNDS)
    return [_row("pwl", f"{CODES:.0e}", times, TARGETS["pwl"])]


def minilm() -> tuple[nn.Module, dict[str, Network]]:
    """The shape of all-MiniLM-L6-v2 with random weights, on which its speed does not depend, and its networks."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=1000
    )
    model = BertModel(BertConfig(**shape), add_pooling_layer=False).eval()
    common: dict[str, Any] = dict(activation_granularity="token", weight_observer="minmax", tables=control_tables())
    plans = {name: Plan.uniform(**common, **settings) for name, settings in FORMATS.items()}
    return model, {name: convert(model, plan, [batch(2, 32)]) for name, plan in plans.items()}


def batch(rows: int, tokens: int) -> dict[str, Tensor]:
    """Random indices without padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 1000, (rows, tokens), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def encoder(model: nn.Module, networks: Mapping[str, Network], peer_threads: int | None) -> list[dict[str, Any]]:
    """The network's formats and, with that many threads, the peers, at every size.

    `first_seconds` is the time of the first pass, of two tokens. In the first number of threads of a process it lays
    out weights, and compiles kernels or loads them from numba's folder; afterwards neither is left to do.
    `peak_bytes` is what a pass of a size needs at most beside what the process holds before it.
    """
    runs: dict[str, Callable[..., Any]] = {"FP32": model}
    runs |= {name: network.codes for name, network in networks.items()}
    if peer_threads is not None:
        runs["torch dynamic INT8"] = torch_dynamic(model)
        runs |= onnx_runtime(model, batch(2, 16), peer_threads)
    first = {name: _timed(partial(call, **batch(1, 2)))[0] for name, call in runs.items()}
    rates = Rates.measured()
    rows: list[dict[str, Any]] = []
    for size, rounds in ROUNDS.items():
        inputs = batch(*size)
        calls: dict[str, Call] = {name: partial(call, **inputs) for name, call in runs.items()}
        peaks = {name: peak_bytes(call) for name, call in calls.items()}
        times = in_turns(calls, rounds)
        for name in runs:
            row = _row(name, "{} x {}".format(*size), times, TARGETS.get(name))
            row |= {"first_seconds": first[name], "peak_bytes": peaks[name]}
            rows.append(row | _explained(networks[name], lambda x=inputs: x, rates) if name in networks else row)
    return rows


@torch.no_grad()
def decoder(model: Any, network: Network) -> list[dict[str, Any]]:
    """The language model: a prompt, and a token after it. What its profile lacks of a row's seconds is the head."""
    rows: list[dict[str, Any]] = []
    ids, rates = prompt(), Rates.measured()
    given = batches(network, ids)
    for kind, runs in calls(model, network, ids).items():
        tokens = ids.shape[1] if kind == "prompt" else 1
        peaks = {name: peak_bytes(call) for name, call in runs.items()}
        times = in_turns(runs, DECODER_ROUNDS[kind])
        for name in runs:
            row: dict[str, Any] = _row(name, kind, times, None) | {"what": f"language model, {name}"}
            row |= {"tokens_per_second": tokens / row["seconds"], "peak_bytes": peaks[name]}
            rows.append(row | _explained(network, given[kind], rates) if name != "FP32" else row)
    return rows


def _explained(network: Network, batches: Batches, rates: Rates) -> dict[str, Any]:
    """The least that a pass could take, and its profile."""
    return {**limit(network, batches(), rates), "profile": profile(network, batches, rates, PROFILED)}


def _row(what: str, size: str, times: Mapping[str, Times], target: float | None) -> dict[str, Any]:
    """The medians of one call; speeds are relative to FP32 in the same round."""
    own, real = times[what], times["FP32"]
    return {
        "what": what,
        "size": size,
        "seconds": median(own.wall),
        "cpu_seconds": median(own.cpu),
        "speed": median(a / b for a, b in zip(real.wall, own.wall, strict=True)),
        "cpu_speed": median(a / b for a, b in zip(real.cpu, own.cpu, strict=True)),
        "target": target,
    }


if __name__ == "__main__":
    sys.exit(main())
