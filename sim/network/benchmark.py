"""`python -m sim.network.benchmark -o results`: the speed of the integer modules against PyTorch's floating point.

The piecewise-linear module, int8 to int8, against `torch.nn.functional.gelu` in FP32, both allocating their output; and
a network of all-MiniLM-L6-v2's shape against the same in FP32. Exit 1 if a target is missed.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ga_search import fit_table
from quant import Plan
from quant.run_directory import versions
from sim.common.command import Parser, print_json, run
from sim.common.results import write_results
from sim.network.convert import convert
from sim.network.graph import Network
from sim.network.operators.tables import Gather
from sim.network.table_sets import control_tables

CODES = 10_000_000
RUNS = 5  # the fastest counts, because only the machine slows a run down
SHAPES = ((16, 128), (1, 32))  # sequences and tokens; the target is for the first
TARGETS = {"pwl": 1.0, "network": 0.5}  # least speed relative to FP32


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
    parser.add_argument("--json", action="store_true", help="print the result too")
    arguments = parser.parse_args(argv)
    usual = torch.get_num_threads()
    rows: list[dict[str, Any]] = []
    model, network = minilm()
    try:
        for threads in tqdm(arguments.threads, unit="threads", disable=None):
            torch.set_num_threads(threads)
            rows.append({"threads": threads, **pwl()})
            rows += [{"threads": threads, **encoder(model, network, *shape)} for shape in SHAPES]
    finally:
        torch.set_num_threads(usual)
    used = {key: value for key, value in versions().items() if key != "threads"}
    path = arguments.folder / "network.json"
    result = write_results(path, "python -m sim.network.benchmark", rows, versions=used, targets=TARGETS)
    print(path, file=sys.stderr)
    if arguments.json:
        print_json(result)
    for row in rows:
        print(
            f"{row['what']:<8} {row['size']:>9}  {row['threads']} threads  FP32 {row['fp32_seconds'] * 1e3:8.2f} ms  "
            f"integer {row['integer_seconds'] * 1e3:8.2f} ms  {row['speed']:.2f} times FP32's speed",
            file=sys.stderr,
        )
    return 1 if any(row["target"] is not None and row["speed"] < row["target"] for row in rows) else 0


def pwl() -> dict[str, Any]:
    """The module on `CODES` random codes; it is checked on every code first."""
    table = fit_table("gelu")
    lowered = table.lower(5, 5)
    module = Gather([lowered.output(lowered.codes())])
    every = torch.arange(-128, 128, dtype=torch.int8)
    assert module(every).tolist() == lowered.output(lowered.codes()).tolist()
    codes = torch.randint(-128, 128, (CODES,), dtype=torch.int8)
    real = codes.float() / 32
    return _row("pwl", f"{CODES:.0e}", lambda: nn.functional.gelu(real), lambda: module(codes), TARGETS["pwl"])


def minilm() -> tuple[nn.Module, Network]:
    """The shape of all-MiniLM-L6-v2 with random weights: its speed does not depend on them."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=1000
    )
    model = BertModel(BertConfig(**shape), add_pooling_layer=False).eval()
    plan = Plan.uniform(activation_granularity="token", weight_observer="minmax", tables=control_tables())
    return model, convert(model, plan, [batch(2, 32)])


def batch(rows: int, tokens: int) -> dict[str, Tensor]:
    """Random indices without padding."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 1000, (rows, tokens), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def encoder(model: nn.Module, network: Network, rows: int, tokens: int) -> dict[str, Any]:
    """The time of one forward pass; the first one, which lays out the weights, is given separately."""
    inputs = batch(rows, tokens)
    target = TARGETS["network"] if (rows, tokens) == SHAPES[0] else None
    with torch.no_grad():
        return _row("network", f"{rows} x {tokens}", lambda: model(**inputs), lambda: network.codes(**inputs), target)


def _row(
    what: str, size: str, real: Callable[[], Any], integer: Callable[[], Any], target: float | None
) -> dict[str, Any]:
    seconds = {"fp32": [], "integer": []}
    for _ in range(RUNS + 1):  # the first warms up
        for name, function in (("fp32", real), ("integer", integer)):
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    fp32, whole = (min(seconds[name][1:]) for name in ("fp32", "integer"))
    return {"what": what, "size": size, "fp32_seconds": fp32, "integer_seconds": whole, "speed": fp32 / whole,
            "first_integer_seconds": seconds["integer"][0], "target": target}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
