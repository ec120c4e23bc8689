"""A language model in integers against floating point: perplexity on held-out English, a record for each set of tables.

The model is SmolLM2-135M-Instruct or another of Llama's layout or GPT-2; the text is the Brown corpus, calibration on
its training split and measurement on its test split, in windows of one length. The head is outside the integer network
and stays in floating point.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from quant import Plan
from quant.calibration import tokeniser_of
from quant.formats.checkpoint import load_model
from quant.run_directory import RunDirectory
from quant.zoo.corpora import brown
from quant.zoo.packaged import path_of
from sim.common.text_table import format_table
from sim.network.calibration import Calibration
from sim.network.convert import calibrate, functions, quantise
from sim.network.converters.describe import describe
from sim.network.rotation import rotated
from sim.network.table_sets import Tables, control_tables, fitted_tables
from sim.reference import InputError
from sim.reference.pwl import require_range

Words = Callable[[str], Sequence[int]]
RESAMPLES = 10_000  # of the windows, for the intervals
CALIBRATION_BATCH = 2


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
    seed : int
        Of the rotation and the resampling.
    """

    windows: int = 8
    length: int = 256
    calibration: int = 8
    group: int | None = 64
    rotate: bool = True
    single: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require_range("windows", self.windows, 2, 10_000)
        require_range("length", self.length, 2, 1 << 15)
        require_range("calibration", self.calibration, 1, 10_000)
        require_range("seed", self.seed, 0, (1 << 31) - 2)

    @property
    def weights(self) -> dict[str, Any]:
        """The plan's settings for the weights."""
        grouped = {} if self.group is None else {"weight_granularity": "group", "group_size": self.group}
        return {"weight_bits": 8, **grouped}


@dataclass(frozen=True)
class Variant:
    """A set of tables: those of a method for all functions, or for one while the others are exact."""

    method: str
    entries: int | None
    operation: str = "all"

    @property
    def name(self) -> str:
        return "-".join(str(part) for part in (self.method, self.entries, self.operation) if part is not None)


METHODS = (("genetic", 8), ("genetic", 16), ("gqa-lut", 8), ("nn-lut", 8), ("genetic", 2))  # the last is the control


def variants(operations: Sequence[str], single: bool) -> list[Variant]:
    """Exact functions first, then every method for all operations, then ours at 8 entries for one at a time."""
    every = [Variant("exact", None), *(Variant(*method) for method in METHODS)]
    return every + [Variant("genetic", 8, operation) for operation in operations if single]


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
    ids = windows(brown("test"), words, options.windows, options.length)
    calibration = windows(brown("train"), words, options.calibration, options.length)
    real = _unit(run, "fp32", progress, lambda: losses(lambda x: model.base_model(x)[0], model.lm_head, ids))
    if options.rotate:
        model = rotated(model, options.seed)
    operations = functions(describe(model))
    networks = _Networks(model, calibration, options)
    rows: list[dict[str, Any]] = []
    exact: np.ndarray | None = None
    for variant in variants(operations, options.single):
        got = _unit(run, variant.name, progress, lambda v=variant: networks.losses(networks.tables(v, operations), ids))
        exact = got if exact is None else exact
        rows.append({"method": variant.method, "entries": variant.entries, "operation": variant.operation,
                     **figures(real, exact, got, options.seed)})  # fmt: skip
    return {
        "model": path.stem if path.is_file() else path.name,
        "weights_origin": getattr(model.config, "weights_origin", None),
        "tokens": ids.numel(),
        "options": asdict(options),
        "fp32_perplexity": math.exp(real.mean()),
        "rows": rows,
    }


class _Networks:
    """The integer networks of one calibration, which runs when the first of them is needed."""

    def __init__(self, model: Any, data: Tensor, options: Options) -> None:
        self.model, self.data, self.options = model, data, options
        self._calibration: Calibration | None = None
        self._fitted: dict[tuple[str, int], Tables] = {}

    def losses(self, tables: Tables, ids: Tensor) -> np.ndarray:
        plan = Plan.uniform(activation_granularity="token", tables=tables, **self.options.weights)
        if self._calibration is None:
            batches = [{"input_ids": part} for part in self.data.split(CALIBRATION_BATCH)]
            self._calibration = calibrate(self.model, plan, batches)
        network = quantise(self._calibration, plan)
        return losses(lambda x: network(input_ids=x).last_hidden_state, self.model.lm_head, ids)

    def tables(self, variant: Variant, operations: Sequence[str]) -> Tables:
        control = control_tables(operations)
        if variant.entries is None:
            return control
        key = variant.method, variant.entries
        if key not in self._fitted:
            self._fitted[key] = fitted_tables(*key, operations)
        fitted = self._fitted[key]
        return fitted if variant.operation == "all" else {**control, variant.operation: fitted[variant.operation]}


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


def _unit(
    run: RunDirectory, name: str, progress: Callable[[str], object], measure: Callable[[], np.ndarray]
) -> np.ndarray:
    """The losses of a finished part, or else those that `measure` computes."""
    done = run.done(name)
    if done is None:
        started = time.perf_counter()
        found = torch.from_numpy(measure())
        run.finish(name, {"losses": found}, {"seconds": time.perf_counter() - started})
    else:
        found = done[0]["losses"]
    progress(name)
    return found.numpy()


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
