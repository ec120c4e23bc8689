"""The networks that are explored: a model with its data, prepared once in each process, and its error as integers.

A subject's error is measured as `python -m sim evaluate` measures it, on fewer texts, the same for every point.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cost_model.explore.network_space import LAYERS, LayerFormat, NetworkPoint
from quant import Plan, Rule
from quant.calibration import tokeniser_of
from quant.formats.checkpoint import load_model
from quant.zoo import char_lm
from quant.zoo.corpora import brown
from quant.zoo.packaged import find
from sim.common.errors import require_range
from sim.network.calibration import Calibration
from sim.network.convert import calibrate
from sim.network.graph import Network
from sim.network.table_sets import fitted_tables
from sim.reference import InputError, PwlTable
from sim.workloads import language
from sim.workloads.sentence import Options, Sentences

FIT = "genetic"  # the method of the tables, that of `python -m sim evaluate`


class Layout(NamedTuple):
    """The names of a family's layers by class, and its activation."""

    layers: Mapping[str, str]
    activation: str


BERT = Layout(
    {
        "attention": r".*attention\.(self\.(query|key|value)|output\.dense)",
        "fc1": r".*intermediate\.dense",
        "fc2": r".*layer\.[0-9]+\.output\.dense",
    },
    "gelu",
)
LLAMA = Layout(
    {"attention": r".*self_attn\.[qkvo]_proj", "fc1": r".*mlp\.(gate|up)_proj", "fc2": r".*mlp\.down_proj"}, "silu"
)


class Prepared(NamedTuple):
    """A calibrated network, what measures its integers, and a few of the texts as arguments of the model.

    `measure` gives an error for each text, float64.
    """

    calibration: Calibration
    measure: Callable[[Network], np.ndarray]
    examples: list[dict[str, Tensor]]


class Subject(Protocol):
    """A model with its data; it can be pickled and compared.

    `unit` is that of the error: "cosine" for one less the cosine, "nats" for the rise of the loss of a token.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def layout(self) -> Layout: ...

    def prepare(self) -> Prepared: ...


@dataclass(frozen=True)
class MiniLm:
    """all-MiniLM-L6-v2; one less the cosine of each embedding with the one in floating point."""

    texts: int = 96
    calibration: int = 64
    seed: int = 0
    name = "minilm"
    unit = "cosine"
    layout = BERT

    def __post_init__(self) -> None:
        require_range("texts", self.texts, 2, 10_000)
        require_range("calibration", self.calibration, 1, 10_000)
        require_range("seed", self.seed, 0, (1 << 31) - 1)

    def prepare(self) -> Prepared:
        """Load, embed in floating point, calibrate on other sentences."""
        folder = find(self.name)
        texts = Sentences(folder, Options(count=self.texts, calibration=self.calibration))
        model = load_model(folder)[0]
        real = texts.embed(model)

        def measure(network: Network) -> np.ndarray:
            return 1 - (texts.embed(network) * real).sum(1)

        calibration = calibrate(model, plan(self, NetworkPoint()), texts.calibration(self.seed))
        return Prepared(calibration, measure, [{key: rows[:2] for key, rows in texts.batches[0].items()}])


@dataclass(frozen=True)
class CharLm:
    """The small language model on bytes (`quant.zoo.char_lm`); a text is a window of Brown's test part."""

    texts: int = 64
    length: int = 128
    calibration: int = 32
    seed: int = 0
    steps: int = char_lm.Recipe.steps
    name = "char_lm"
    unit = "nats"
    layout = LLAMA

    def __post_init__(self) -> None:
        _require_windows(self.texts, self.length, self.calibration)
        _ = self.recipe

    @property
    def recipe(self) -> char_lm.Recipe:
        """Of the model."""
        return char_lm.Recipe(seed=self.seed, steps=self.steps)

    def prepare(self) -> Prepared:
        """Load, or train where the cache does not have it; calibrate on the training part."""
        model = char_lm.load(char_lm.trained(self.recipe))
        rows = char_lm.tokens(brown("test"))
        step = len(rows) // self.length // self.texts  # evenly over all genres
        ids = rows[: len(rows) // self.length * self.length].reshape(-1, self.length)[::step][: self.texts]
        data = char_lm.windows(char_lm.tokens(brown("train")), self.calibration, self.length, self.seed)
        return _language(self, model, ids, data)


@dataclass(frozen=True)
class SmolLm2:
    """SmolLM2-135M-Instruct; a text is a window of Brown's test part."""

    texts: int = 4
    length: int = 128
    calibration: int = 4
    name = "smollm2"
    unit = "nats"
    layout = LLAMA

    def __post_init__(self) -> None:
        _require_windows(self.texts, self.length, self.calibration)

    def prepare(self) -> Prepared:
        """Load; calibrate on the training part."""
        path = find(self.name)
        words, model = tokeniser_of(path), load_model(path)[0]
        ids = language.windows(brown("test"), words, self.texts, self.length)
        data = language.windows(brown("train"), words, self.calibration, self.length)
        return _language(self, model, ids, data)


SUBJECTS: dict[str, Callable[..., Subject]] = {"minilm": MiniLm, "char_lm": CharLm, "smollm2": SmolLm2}


def subject_of(name: str, texts: int | None = None) -> Subject:
    """The subject of a name, with a number of texts. Raises `InputError` for an unknown name."""
    if name not in SUBJECTS:
        raise InputError(f"model must be one of {', '.join(SUBJECTS)}, not {name!r}")
    return SUBJECTS[name]() if texts is None else SUBJECTS[name](texts=texts)


def subject_from(row: Mapping[str, Any]) -> Subject:
    """The subject of a file of results: its name and its fields. Raises `InputError` for an unknown name or field."""
    fields = {key: value for key, value in row.items() if key != "name"}
    try:
        return SUBJECTS[row["name"]](**fields)
    except (KeyError, TypeError) as error:
        raise InputError(f"subject must have a known name and fields, not {dict(row)!r} ({error})") from None


def plan(subject: Subject, point: NetworkPoint) -> Plan:
    """The plan of a point's number formats and tables for a subject."""
    entries = {
        subject.layout.activation: point.activation_entries,
        "exp": point.exp_entries,
        "div": point.div_entries,
        "rsqrt": point.rsqrt_entries,
    }
    tables = {name: _table(name, count) for name, count in entries.items()}
    classes = [Rule(subject.layout.layers[name], **LayerFormat.parse(getattr(point, name)).settings) for name in LAYERS]
    return Plan((Rule(".*", activation_granularity="token", tables=tables), *classes))


@lru_cache(maxsize=1)
def prepared(subject: Subject) -> Prepared:
    """What `subject.prepare` gives, once in each process."""
    return subject.prepare()


@lru_cache(maxsize=64)
def _table(function: str, entries: int) -> PwlTable:
    return fitted_tables(FIT, entries, (function,))[function]


def _require_windows(texts: int, length: int, calibration: int) -> None:
    require_range("texts", texts, 2, 4096)
    require_range("calibration", calibration, 1, 4096)
    require_range("length", length, 2, 128)  # tokens, at most as many as the language model has seen


def _language(subject: Subject, model: Any, ids: Tensor, data: Tensor) -> Prepared:
    """A causal language model with its head outside, measured on windows (texts, length)."""
    head: nn.Module = model.lm_head
    real = language.losses(lambda x: model.base_model(x)[0], head, ids)

    def measure(network: Network) -> np.ndarray:
        return language.losses(lambda x: network(input_ids=x).last_hidden_state, head, ids) - real

    batches = [{"input_ids": rows} for rows in data.split(language.CALIBRATION_BATCH)]
    with torch.no_grad():
        calibration = calibrate(model, plan(subject, NetworkPoint()), batches)
        return Prepared(calibration, measure, [{"input_ids": ids[:1]}])
