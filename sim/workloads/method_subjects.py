"""The models that methods of quantisation are measured on, each with data: windows of text, or sentences."""

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from quant.calibration import CalibrationData, load, transformers_tokeniser
from quant.formats.checkpoint import load_model
from quant.zoo import char_lm
from quant.zoo.corpora import Split, brown, gcide
from quant.zoo.packaged import find
from sim.workloads.sentence import Options as SentenceOptions
from sim.workloads.sentence import Sentences

MEASURED = 128  # tokens of a window


class Subject(Protocol):
    """A model and its data.

    `measure` gives a loss for each item, float64; what a trial costs is its mean less that of the model itself. `data`
    gives what a method calibrates or trains on: `text` is "train", "long", "random" or
    "dictionary", of which only `CharLm` has all.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def model(self) -> nn.Module: ...

    def measure(self, model: nn.Module) -> np.ndarray: ...

    def data(self, text: str, seed: int) -> CalibrationData: ...


@cache
def _char_lm(recipe: char_lm.Recipe) -> nn.Module:
    return char_lm.load(char_lm.trained(recipe))


@cache
def _minilm() -> nn.Module:
    return load_model(find("minilm"))[0]


@cache
def _smollm2() -> nn.Module:
    return load_model(find("smollm2"))[0]


@cache
def _smollm2_tokens(split: Split) -> Tensor:
    """The ids of a part of Brown, int64."""
    words = transformers_tokeniser(find("smollm2"))
    return torch.tensor(words(brown(split), add_special_tokens=False, verbose=False)["input_ids"])


@dataclass(frozen=True, eq=False)
class CharLm:
    """The language model on bytes; the loss of a window is in nats a byte, of 128 bytes of a part of Brown."""

    windows: int = 192
    split: Split = "test"
    recipe: char_lm.Recipe = field(default_factory=char_lm.Recipe)
    name = "char_lm"
    unit = "nats"

    @property
    def model(self) -> nn.Module:
        """The trained model."""
        return _char_lm(self.recipe)

    def measure(self, model: nn.Module) -> np.ndarray:
        """(windows,)."""
        return _losses(model, char_lm.tokens(brown(self.split)), self.windows, 16)

    def data(self, text: str, seed: int) -> CalibrationData:
        """640 windows of 32 bytes, 32 in a batch: of Brown's training part, of the dictionary, or random ones.

        "long" are 640 of 128 bytes of the training part, 8 in a batch.
        """
        count, length, batch = (640, MEASURED, 8) if text == "long" else (640, 32, 32)
        if text == "random":
            drawn = torch.randint(256, (count, length), generator=torch.Generator().manual_seed(seed))
        else:
            source = char_lm.tokens(gcide()[: 1 << 22] if text == "dictionary" else brown("train"))
            drawn = char_lm.windows(source, count, length, seed)
        return load([{"input_ids": part} for part in drawn.split(batch)])


@dataclass(frozen=True, eq=False)
class MiniLm:
    """all-MiniLM-L6-v2; the loss of a sentence is one less the cosine of its embedding with the model's own."""

    sentences: int = 96
    name = "minilm"
    unit = "cosine"

    @property
    def model(self) -> nn.Module:
        """The model."""
        return _minilm()

    @cached_property
    def texts(self) -> Sentences:
        """The measured sentences."""
        return Sentences(find("minilm"), SentenceOptions(count=self.sentences))

    @cached_property
    def real(self) -> np.ndarray:
        """The embeddings of the model itself."""
        return self.texts.embed(self.model)

    def measure(self, model: nn.Module) -> np.ndarray:
        """(sentences,)."""
        return 1 - (self.texts.embed(model) * self.real).sum(1)

    def data(self, text: str, seed: int) -> CalibrationData:
        """Sentences that are not measured."""
        return self.texts.calibration(seed)


@dataclass(frozen=True, eq=False)
class SmolLm2:
    """SmolLM2-135M-Instruct; the loss of a window is in nats a token, of 128 tokens of Brown's test part.

    Its file holds most weights as 4 bits in groups of 32: what it was before is unknown.
    """

    windows: int = 48
    name = "smollm2"
    unit = "nats"

    @property
    def model(self) -> nn.Module:
        """The model, dequantised."""
        return _smollm2()

    def measure(self, model: nn.Module) -> np.ndarray:
        """(windows,)."""
        return _losses(model, _smollm2_tokens("test"), self.windows, 4)

    def data(self, text: str, seed: int) -> CalibrationData:
        """128 windows of 128 tokens of Brown's training part, two in a batch."""
        drawn = char_lm.windows(_smollm2_tokens("train"), 128, MEASURED, seed)
        return load([{"input_ids": part} for part in drawn.split(2)])


def _losses(model: nn.Module, tokens: Tensor, windows: int, batch: int) -> np.ndarray:
    """Nats a token of windows that lie evenly over a text, so that all its genres are among them."""
    count = len(tokens) // MEASURED
    chosen = tokens[: count * MEASURED].reshape(count, MEASURED)[:: max(1, count // windows)][:windows]
    return char_lm.losses(model, chosen.flatten(), MEASURED, batch).numpy()
