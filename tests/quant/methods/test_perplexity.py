"""Perplexity over strided windows: each token is measured once, with what comes before it in its window."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quant.methods.perplexity import Windows, perplexity
from sim.reference import InputError

VOCABULARY = 7


def history(rows: Tensor) -> Tensor:
    """Logits that depend on the token and on all before it."""
    one_hot = torch.nn.functional.one_hot(rows, VOCABULARY).double()
    return torch.sin(one_hot.cumsum(1) * 1.7 + torch.arange(VOCABULARY)) * 3


@given(st.integers(2, 60), st.integers(2, 20), st.integers(1, 20), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_every_token_but_the_first_is_measured_once_in_its_own_window(tokens, length, stride, batch):
    windows = Windows(length, min(stride, length - 1), None, batch)
    ids = torch.randint(0, VOCABULARY, (tokens,), generator=torch.Generator().manual_seed(tokens)).tolist()
    measured: dict[int, float] = {}
    right = 0
    for start, first, end in windows.places(tokens):
        assert end - start <= length and start < first < end <= tokens
        scores = history(torch.tensor([ids[start:end]]))[0].float().log_softmax(-1)
        for t in range(first, end):
            assert t not in measured
            measured[t] = -float(scores[t - start - 1, ids[t]])
            right += int(scores[t - start - 1].argmax()) == ids[t]
    assert sorted(measured) == list(range(1, tokens))
    found = perplexity(history, ids, 3 * tokens, windows)
    loss = sum(measured.values()) / len(measured)
    assert found["tokens"] == tokens - 1 and found["next_token_accuracy"] == right / (tokens - 1)
    assert found["loss"] == pytest.approx(loss, abs=1e-5) and found["perplexity"] == pytest.approx(
        math.exp(found["loss"])
    )
    assert found["bits_per_byte"] == pytest.approx(found["loss"] / math.log(2) / 3)


def test_the_seed_picks_the_windows_and_the_prefix_is_seen_but_not_measured():
    ids = torch.randint(0, VOCABULARY, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    few = [Windows(10, 5, 6, seed=seed).places(200) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2] and len(few[0]) == 6 and few[0] == sorted(few[0])
    seen: list[Tensor] = []

    def model(rows: Tensor) -> Tensor:
        seen.append(rows)
        return history(rows)

    found = perplexity(model, ids, 200, Windows(10, 5, 6), prefix=[3])
    assert all(bool((rows[:, 0] == 3).all()) and rows.shape[1] == 11 for rows in seen)
    assert found["windows"] == 6 and found["tokens"] == sum(end - first for _, first, end in few[0])
    assert found == perplexity(history, ids, 200, Windows(10, 5, 6), prefix=[3])


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity():
    found = perplexity(lambda rows: torch.zeros(*rows.shape, 32), list(range(32)), 64)
    assert found["perplexity"] == pytest.approx(32) and found["bits_per_byte"] == pytest.approx(2.5)


@pytest.mark.parametrize("make, message", [
    (lambda: Windows(1), "sequence_length must be in 2"), (lambda: Windows(8, 9), "stride must be in 1..7, not 9"),
    (lambda: perplexity(history, [1], 1), "the text must have at least two tokens, not 1"),
    (lambda: perplexity(lambda rows: torch.full((*rows.shape, 7), torch.nan), [1, 2], 2), "the model gives NaN"),
])  # fmt: skip
def test_mistakes_are_one_line(make, message):
    with pytest.raises(InputError, match=message):
        make()
