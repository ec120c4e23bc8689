"""Networks of 4-bit weights and inputs, with and without what keeps outliers from costing the other inputs their bits.

The layers that take a feed-forward network's inner activations have the largest outliers among their inputs. They get
inputs of 8 bits, or a Hadamard transform before them, or every layer gets a transform, or both. Functions are exact, so
that only weights and inputs matter. all-MiniLM-L6-v2 is measured by the cosine of its sentence embeddings to those in
floating point; language models by the rise of their loss on held-out text.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant import Plan, Rule
from quant.calibration import tokeniser_of
from quant.formats.checkpoint import load_model
from quant.run_directory import RunDirectory
from quant.zoo import char_lm
from quant.zoo.corpora import brown
from quant.zoo.packaged import find
from sim.common.errors import require_range
from sim.common.text_table import format_table
from sim.network.calibration import Calibration
from sim.network.convert import calibrate, functions, quantise
from sim.network.converters.describe import describe, without_head
from sim.network.rotation import rotated
from sim.network.table_sets import Tables, control_tables
from sim.reference import InputError
from sim.workloads import language, sentence
from sim.workloads.variants import part

NINETY_FIVE = 1.959963984540054  # two-sided normal quantile
WEIGHTS: dict[str, Any] = {"weight_bits": 4, "weight_granularity": "group", "group_size": 64}
EVERY = ".*"
# bits of all inputs, bits of the down layers' inputs, which layers have a transform
VARIANTS = ((8, 8, None), (4, 4, None), (4, 8, None), (4, 4, "down"), (4, 4, "all"), (4, 8, "all"))
MODELS = ("minilm", "char_lm", "smollm2")


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Parameters
    ----------
    models : tuple of str
        Of `MODELS`. SmolLM2 has a rotation of its stream folded into its weights (`sim.network.rotation`).
    sentences : int
        For MiniLM.
    windows : int
        Of 256 tokens for SmolLM2; of 128 bytes, eight times as many, for the small Llama.
    """

    models: tuple[str, ...] = MODELS
    sentences: int = 1000
    windows: int = 8

    def __post_init__(self) -> None:
        for name in self.models:
            if name not in MODELS:
                raise InputError(f"models must be among {', '.join(MODELS)}, not {name}")
        require_range("sentences", self.sentences, 2, 10_000)
        require_range("windows", self.windows, 2, 1000)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to measure.

    Parameters
    ----------
    name : str
        Of `MODELS`.
    model : nn.Module
        In floating point.
    down : str
        A regular expression for the layers with the largest outliers among their inputs.
    data : sequence of mappings
        Calibration batches.
    scores : callable
        Of a model or network that gives hidden states: an array with a row for each sentence or window.
    """

    name: str
    model: Any
    down: str
    data: Sequence[Mapping[str, Tensor]]
    scores: Callable[[Any], np.ndarray]


def subject(name: str, options: Options) -> Subject:
    """One of `MODELS`. Raises `InputError` if its package or its text is missing."""
    if name == "minilm":
        folder = find("minilm")
        texts = sentence.Sentences(folder, sentence.Options(options.sentences))
        model, down = load_model(folder)[0], r"encoder\.layer\.\d+\.output\.dense"
        return Subject(name, model, down, list(texts.calibration(0)), texts.embed)
    small = name == "char_lm"
    path = char_lm.trained() if small else find("smollm2")
    words, length = tokeniser_of(path), 128 if small else 256
    model: Any = load_model(path)[0]
    ids = language.windows(brown("test"), words, options.windows * (8 if small else 1), length)
    batches = language.windows(brown("train"), words, 8, length).split(2)
    model = model if small else rotated(model)

    def scores(body: Any) -> np.ndarray:
        return language.losses(lambda x: body(input_ids=x).last_hidden_state, model.lm_head, ids)

    data = [{"input_ids": rows} for rows in batches]
    return Subject(name, model, r"layers\.\d+\.mlp\.down_proj", data, scores)


def plan(
    chosen: Subject, bits: int, down_bits: int, transforms: str | None, tables: Tables | None = None,
    granularity: str = "token",
) -> Plan:  # fmt: skip
    """W4 in groups of 64, inputs scaled per token, exact functions, unless others are given."""
    if tables is None:
        tables = control_tables(functions(describe(without_head(chosen.model))))
    rules = [Rule(EVERY, activation_granularity=granularity, tables=tables, activation_bits=bits, **WEIGHTS)]
    if transforms is not None:
        rules.append(Rule(chosen.down if transforms == "down" else EVERY, hadamard=True))
    return Plan((*rules, Rule(chosen.down, activation_bits=down_bits)))


def metric(name: str) -> str:
    """What is measured of a model: "cosine" of embeddings, or "loss increase" in nats per token."""
    return "cosine" if name == "minilm" else "loss increase"


def evaluate(run: RunDirectory, options: Options, progress: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """The whole evaluation, in parts that a resumed run does not repeat; returns the options and the records."""
    rows: list[dict[str, Any]] = []
    for name in options.models:
        chosen = lru_cache(1)(partial(subject, name, options))  # loaded if something is left to measure

        def measured(label: str, scores: Callable[[], np.ndarray], name: str = name) -> np.ndarray:
            kept = part(run, f"{name}-{label}", lambda: {"scores": torch.from_numpy(scores())})
            progress(f"{name} {label}")
            return kept["scores"].numpy()

        real = measured("fp32", lambda chosen=chosen: chosen().scores(without_head(chosen().model)))
        calibrations = dict[str | None, Calibration]()
        for variant in VARIANTS:
            bits, down_bits, transforms = variant

            def scores(
                chosen: Callable[[], Subject] = chosen, variant: Any = variant, held: Any = calibrations
            ) -> np.ndarray:
                found, transforms = chosen(), variant[-1]
                made = plan(found, *variant)
                if transforms not in held:
                    held.clear()
                    held[transforms] = calibrate(found.model, made, found.data)
                return found.scores(quantise(held[transforms], made))

            got = measured("-".join(map(str, variant)), scores)
            rows.append({"model": name, "bits": bits, "down_bits": down_bits, "hadamard": transforms,
                         "metric": metric(name), **figures(metric(name), real, got)})  # fmt: skip
    return {"options": asdict(options), "weights": WEIGHTS, "rows": rows}


def figures(metric: str, real: np.ndarray, got: np.ndarray) -> dict[str, float]:
    """The mean over the sentences or windows, with a 95 % interval; paired with floating point."""
    each = (real * got).sum(1) if metric == "cosine" else got - real
    half = NINETY_FIVE * float(each.std(ddof=1)) / math.sqrt(len(each))
    mean = float(each.mean())
    return {"value": mean, "low": mean - half, "high": mean + half}


def table_text(rows: Sequence[dict[str, Any]]) -> str:
    """The records as an aligned table."""
    columns = ("model", "inputs", "of down layers", "Hadamard", "metric", "value", "95 %")
    cells = [
        (
            row["model"], f"{row['bits']} bits", f"{row['down_bits']} bits", row["hadamard"] or "-", row["metric"],
            f"{row['value']:.4f}", f"{row['low']:.4f} .. {row['high']:.4f}",
        )
        for row in rows
    ]  # fmt: skip
    return format_table(columns, cells)
