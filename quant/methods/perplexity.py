"""How well a language model predicts text: perplexity, next-token accuracy and bits per byte, over strided windows.

A model is any callable from token ids (batch, tokens) to logits (batch, tokens, vocabulary): floating point, quantised,
packed, or an integer network with its head.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sim.common.errors import require_range
from sim.reference import InputError

Logits = Callable[[Tensor], Tensor]


def is_causal(model: nn.Module) -> bool:
    """Whether a model is one of transformers' causal language models: its logits predict the next token."""
    try:
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    except ModuleNotFoundError:
        return False
    return type(model) in MODEL_FOR_CAUSAL_LM_MAPPING.values()


@dataclass(frozen=True)
class Windows:
    """Which parts of a text are measured.

    Parameters
    ----------
    sequence_length : int
        Tokens in a window.
    stride : int, optional
        Tokens from the start of a window to that of the next; fewer than a window has; by default half. Of each window
        after the first only the last `stride` tokens are measured, so that each token is measured once, after others.
    samples : int, optional
        How many windows; the seed picks them. None takes all.
    batch_size : int
        Windows at a time.
    seed : int
        Decides which windows.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    sequence_length: int = 256
    stride: int | None = None
    samples: int | None = 64
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        require_range("sequence_length", self.sequence_length, 2, 1 << 20)
        if self.stride is not None:
            require_range("stride", self.stride, 1, self.sequence_length - 1)
        if self.samples is not None:
            require_range("samples", self.samples, 1, 1 << 30)
        require_range("batch_size", self.batch_size, 1, 1 << 20)
        require_range("seed", self.seed, 0, (1 << 63) - 1)

    @property
    def step(self) -> int:
        """Tokens from one window to the next."""
        return self.stride if self.stride is not None else max(1, self.sequence_length // 2)

    def places(self, tokens: int) -> list[tuple[int, int, int]]:
        """Start, first measured token and end of each window in a text of so many tokens, in order."""
        found, measured = [], 1  # nothing comes before the first token
        for start in range(0, tokens, self.step):
            end = min(start + self.sequence_length, tokens)
            if end > measured:
                found.append((start, measured, end))
            measured = max(measured, end)
            if end == tokens:
                break
        if self.samples is None or self.samples >= len(found):
            return found
        picked = np.random.default_rng(self.seed).choice(len(found), self.samples, replace=False)
        return [found[i] for i in sorted(picked)]


@torch.no_grad()
def perplexity(
    logits: Logits,
    ids: Sequence[int],
    size: int,
    windows: Windows | None = None,
    prefix: Sequence[int] = (),
    progress: Callable[[int], object] = lambda windows: None,
) -> dict[str, Any]:
    """How well a model predicts a text.

    Parameters
    ----------
    logits : callable
        From token ids (batch, tokens), int64, to logits (batch, tokens, vocabulary).
    ids : sequence of int
        The tokens of the whole text.
    size : int
        Bytes of the whole text in UTF-8.
    windows : Windows, optional
        Which parts are measured.
    prefix : sequence of int
        Tokens that each window begins with and that are not measured, such as the one for the beginning of a text.
    progress : callable
        Called with the number of windows of each batch.

    Returns
    -------
    dict
        `perplexity`, `next_token_accuracy`, `bits_per_byte` (with the bytes per token of the whole text), `loss` in
        nats a token, `tokens` that were measured, and `windows`.

    Raises
    ------
    InputError
        If the text has fewer than two tokens, or a logit is NaN.
    """
    windows = windows or Windows()
    if len(ids) < 2:
        raise InputError(f"the text must have at least two tokens, not {len(ids)}")
    text, start = torch.tensor(ids, dtype=torch.int64), torch.tensor(prefix, dtype=torch.int64)
    total, right, count = 0.0, 0, 0
    places = windows.places(len(ids))
    for batch in _batches(places, windows.batch_size):
        rows = torch.stack([torch.cat([start, text[first:end]]) for first, _, end in batch])
        made = logits(rows)[:, len(start) :]
        for row, (first, measured, end) in zip(made, batch, strict=True):
            scores, wanted = row[measured - first - 1 : end - first - 1].float(), text[measured:end].to(row.device)
            losses = functional.cross_entropy(scores, wanted, reduction="none").double()
            total += float(losses.sum())
            right += int((scores.argmax(-1) == wanted).sum())
            count += end - measured
        if math.isnan(total):
            raise InputError("the model gives NaN on this text")
        progress(len(batch))
    loss = total / count
    return {
        "perplexity": math.exp(loss) if loss < 700 else None,
        "next_token_accuracy": right / count,
        "bits_per_byte": loss / math.log(2) * len(ids) / size,
        "loss": loss,
        "tokens": count,
        "windows": len(places),
    }


def _batches(places: Sequence[tuple[int, int, int]], size: int) -> Iterator[list[tuple[int, int, int]]]:
    """Windows of one length, at most `size` at a time; only the last of a text can be shorter."""
    batch: list[tuple[int, int, int]] = []
    for place in places:
        if batch and (len(batch) == size or place[2] - place[0] != batch[0][2] - batch[0][0]):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
