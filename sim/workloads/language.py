"""A language model in integers against floating point: perplexity on held-out English, a record for each set of tables.

The model is SmolLM2-135M-Instruct or another of Llama's layout or GPT-2; the text is the Brown corpus, calibration on
its training split and measurement on its test split, in windows of one length. The head is outside the integer network
and stays in floating point.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import Plan, Rule
from quant.calibration import tokeniser_of
from quant.formats.checkpoint import load_model
from quant.run_directory import RunDirectory
from quant.zoo.corpora import brown
from quant.zoo.packaged import path_of
from sim.common.errors import require_range
from sim.common.text_table import format_table
from sim.network.calibration import Calibration
from sim.network.convert import calibrate, functions, quantise
from sim.network.converters.describe import describe, without_head
from sim.network.head import HEAD
from sim.network.operators.causal import CACHE
from sim.network.operators.tables import EXACT
from sim.network.rotation import require_rotatable, rotated
from sim.network.table_sets import Tables
from sim.reference import InputError
from sim.reference.softmax import probability_bits_for
from sim.workloads.variants import METHODS, Fits, Variant, part, refined, variants

Words = Callable[[str], Sequence[int]]
FUNCTIONS = ("silu", "exp", "div", "rsqrt")  # of Llama
RESAMPLES = 10_000  # of the windows, for the intervals
CALIBRATION_BATCH = 2
MULTIPLIER_BITS = 6  # of a group: with 8, a token's accumulators would not fit the 62 bits there are


@dataclass(frozen=True)
class Options:
    """The options of the evaluation.

    Parameters
    ----------
    windows, length : int
        Windows of the test split, and tokens of each.
    calibration : int
        Windows of the training split.
    group : int, optional
        Weights have a scale for so many consecutive inputs; None gives one for each output.
    rotate : bool
        Rotate the residual stream and the values (`sim.network.rotation`).
    single : bool
        Replace one operation at a time too.
    wide : bool
        Measure folded tables, and coefficients of 16 bits, too.
    head : bool
        Measure the network of exact functions with its head in integers too.
    seed : int
        Of the rotation and the resampling.
    """

    windows: int = 8
    length: int = 256
    calibration: int = 8
    group: int | None = 64
    rotate: bool = True
    single: bool = True
    wide: bool = False
    head: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_range("windows", self.windows, 2, 10_000)
        require_range("length", self.length, 2, 1 << 15)
        require_range("calibration", self.calibration, 1, 10_000)
        require_range("seed", self.seed, 0, (1 << 31) - 2)

    def chosen(self, operations: Sequence[str]) -> list[Variant]:
        """The variants to measure: ours alone one operation at a time, since each takes a run over the text."""
        every = variants(operations, self.single)
        every = [v for v in every if v.operation == "all" or (v.method, v.entries) == METHODS[0]]
        return every + (refined() if self.wide else [])

    @property
    def weights(self) -> dict[str, Any]:
        """The plan's settings for the weights."""
        grouped = (
            {}
            if self.group is None
            else {"weight_granularity": "group", "group_size": self.group, "multiplier_bits": MULTIPLIER_BITS}
        )
        return {"weight_bits": 8, **grouped}


def networks(options: Options) -> int:
    """How many runs over the text an evaluation of Llama takes, for a progress bar."""
    return 1 + len(options.chosen(FUNCTIONS)) + options.head


def windows(text: str, words: Words, count: int, length: int) -> Tensor:
    """The first `count` windows of `length` tokens of a text, (count, length). Raises InputError if it is too short."""
    ids: list[int] = []
    for line in text.splitlines(keepends=True):
        ids += words(line)
        if len(ids) >= count * length:
            return torch.tensor(ids[: count * length]).reshape(count, length)
    raise InputError(f"windows must be at most {len(ids) // length} of {length} tokens, not {count}")


@torch.no_grad()
def losses(body: Callable[[Tensor], Tensor], head: nn.Module, ids: Tensor) -> np.ndarray:
    """The mean loss in nats of predicting the next token, for each window; float64 (windows,)."""
    found = []
    for row in ids:
        logits = head(body(row[None]))[0, :-1].float()
        found.append(float(functional.cross_entropy(logits, row[1:])))
    return np.array(found)


def evaluate(
    source: str, run: RunDirectory, options: Options, progress: Callable[[str], object] = lambda _: None
) -> dict[str, Any]:
    """The whole evaluation, in parts that a resumed run does not repeat; returns the options and the records."""
    path = path_of(source)
    words = tokeniser_of(path)
    model: Any = load_model(path)[0]
    operations = _operations(model, options)
    ids = windows(brown("test"), words, options.windows, options.length)
    calibration = windows(brown("train"), words, options.calibration, options.length)

    def measure(name: str, found: Callable[[], np.ndarray]) -> np.ndarray:
        kept = part(run, name, lambda: {"losses": torch.from_numpy(found())})
        progress(name)
        return kept["losses"].numpy()

    real = measure("fp32", lambda: losses(lambda x: model.base_model(x)[0], model.lm_head, ids))
    if options.rotate:
        model = rotated(model, options.seed)
    networks, fits = _Networks(model, calibration, options), Fits(operations, probability_bits_for(options.length))
    rows: list[dict[str, Any]] = []
    exact: np.ndarray | None = None
    for variant in options.chosen(operations):
        got = measure(variant.name, lambda v=variant: networks.losses(fits.tables(v), ids))
        exact = got if exact is None else exact
        rows.append({"method": variant.method, "entries": variant.entries, "operation": variant.operation,
                     **figures(real, exact, got, options.seed)})  # fmt: skip
    if options.head:
        networks = _Networks(model, calibration, options, with_head=True)
        got = measure("exact-head", lambda: networks.losses(fits.tables(Variant(EXACT, None)), ids))
        exact = got if exact is None else exact
        rows.append({"method": EXACT, "entries": None, "operation": HEAD, **figures(real, exact, got, options.seed)})
    return {
        "model": path.stem if path.is_file() else path.name,
        "weights_origin": getattr(model.config, "weights_origin", None),
        "tokens": ids.numel(),
        "options": asdict(options),
        "fp32_perplexity": math.exp(real.mean()),
        "rows": rows,
    }


def _operations(model: Any, options: Options) -> list[str]:
    """The functions that a model evaluates. Raises InputError if it cannot be measured with these options."""
    network = describe(without_head(model))
    graph = network.graph
    if CACHE not in graph.inputs or not hasattr(model, "lm_head"):
        raise InputError(f"model must be a causal language model with its head, not {type(model).__name__}")
    require_range("length", options.length, 2, graph.limits["tokens"])
    if options.rotate:
        require_rotatable(model)
    return functions(network)


class _Networks:
    """The integer networks of one calibration, which runs when the first of them is needed."""

    def __init__(self, model: Any, data: Tensor, options: Options, with_head: bool = False) -> None:
        self.model, self.data, self.options, self.with_head = model, data, options, with_head
        self._calibration: Calibration | None = None

    def losses(self, tables: Tables, ids: Tensor) -> np.ndarray:
        """Those of the network with these tables."""
        plan = Plan.uniform(activation_granularity="token", tables=tables, **self.options.weights)
        if self.with_head:
            plan = Plan((*plan.rules, Rule(HEAD)))
        if self._calibration is None:
            batches = [{"input_ids": rows} for rows in self.data.split(CALIBRATION_BATCH)]
            self._calibration = calibrate(self.model, plan, batches)
        network = quantise(self._calibration, plan)
        head = nn.Identity() if self.with_head else self.model.lm_head
        return losses(lambda x: network(input_ids=x).last_hidden_state, head, ids)


def figures(real: np.ndarray, exact: np.ndarray, got: np.ndarray, seed: int) -> dict[str, float]:
    """Perplexity, and its rise in per cent over floating point and over exact functions.

    The 95 % intervals are of a paired bootstrap over the windows.
    """
    chosen = np.random.default_rng(seed).integers(0, len(real), (RESAMPLES, len(real)))
    found = {"perplexity": math.exp(got.mean())}
    for name, base in (("fp32", real), ("exact", exact)):
        difference = got - base
        resampled = np.expm1(difference[chosen].mean(1)) * 100
        low, high = np.quantile(resampled, [0.025, 0.975])
        found |= {f"over_{name}": math.expm1(difference.mean()) * 100, f"over_{name}_low": float(low),
                  f"over_{name}_high": float(high)}  # fmt: skip
    return found


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The records as an aligned table."""
    columns = ("method", "entries", "operation", "perplexity", "% over FP32", "95 %", "% over exact", "95 %")
    cells = [
        (
            row["method"], str(row["entries"] or "-"), row["operation"], f"{row['perplexity']:.3f}",
            f"{row['over_fp32']:+.2f}", f"{row['over_fp32_low']:+.2f} .. {row['over_fp32_high']:+.2f}",
            f"{row['over_exact']:+.2f}", f"{row['over_exact_low']:+.2f} .. {row['over_exact_high']:+.2f}",
        )
        for row in rows
    ]  # fmt: skip
    return format_table(columns, cells)
