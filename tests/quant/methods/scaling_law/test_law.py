"""The law gives the paper's figures, its closed forms solve what they claim, and impossible questions are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.methods.scaling_law.law import (
    PAPER,
    PUBLISHED,
    Chinchilla,
    Law,
    Question,
    effective_parameters,
    parameters_in,
)
from sim.common.errors import InputError

SCHEMES = sorted(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "at_32", "at_256"),
    [("w4a4", 0.0441, 0.0635), ("w4a16", 0.0186, 0.0220), ("w16a4", 0.0287, 0.0456), ("w4a4-fc2-8", 0.0340, 0.0399)],
)
def test_published_coefficients_give_the_published_deltas(name: str, at_32: float, at_256: float) -> None:
    assert [round(float(x), 4) for x in PUBLISHED[name].delta(595e6, 100e9, [32, 256])] == [at_32, at_256]


@settings(deadline=None)
@given(st.sampled_from(SCHEMES), st.floats(1e6, 1e12), st.floats(1e8, 1e14), st.floats(1.01, 4096))
def test_a_full_precision_model_of_the_effective_size_has_the_quantised_loss(
    name: str, n: float, d: float, g: float
) -> None:
    law = PUBLISHED[name]
    smaller = float(effective_parameters(law, n, d, g)) * n
    assert smaller <= n
    assert PAPER.loss(smaller, d) == pytest.approx(PAPER.loss(n, d) + law.delta(n, d, g), rel=1e-9)


@pytest.mark.parametrize("name", SCHEMES)
def test_delta_vanishes_towards_a_group_of_one_and_grows_with_it(name: str) -> None:
    deltas = PUBLISHED[name].delta(1e8, 1e10, [1, 1 + 1e-9, 2, 16, 256])
    assert deltas[0] == 0
    assert np.all(np.diff(deltas) > 0)
    assert float(effective_parameters(PUBLISHED[name], 1e8, 1e10, 1)) == 1


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(SCHEMES), st.floats(1e7, 1e11), st.floats(1e9, 1e13), st.floats(2, 1024))
def test_each_inverse_question_gives_back_what_was_left_out(name: str, n: float, d: float, g: float) -> None:
    question = Question(PUBLISHED[name])
    loss = float(question.loss(n, d, g))
    assert question.parameters(loss, d, g) == pytest.approx(n, rel=1e-6)
    assert question.group(loss, n, d) == pytest.approx(g, rel=1e-6)
    fewest = question.tokens(loss, n, g)
    assert fewest <= d * (1 + 1e-6)
    assert float(question.loss(n, fewest, g)) == pytest.approx(loss, abs=1e-9)


def test_memory_holds_weights_and_their_scales() -> None:
    assert parameters_in(1e9, 4, 32) == 8e9 / 4.5
    assert parameters_in(1e9, 16, 1, scale_bits=16) == 8e9 / 32


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda q: q.parameters(1.9, 1e11, 32), "no number of parameters reaches"),
        (lambda q: q.tokens(2.0, 1e8, 32), "no number of tokens reaches"),
        (lambda q: q.group(2.0, 1e8, 1e11), "no group size reaches 2.0"),
        (lambda q: q.loss(-1, 1e9, 32), "parameters must be positive"),
        (lambda q: q.loss(1e8, float("nan"), 32), "tokens must be positive"),
        (lambda q: q.loss(1e8, 1e9, 0.5), "group must be at least 1"),
        (lambda q: Law(0, 1, 1, 1), "k must be positive"),
        (lambda q: Law(1, float("inf"), 1, 1), "gamma_n must be a finite number"),
        (lambda q: Chinchilla(beta=-1), "beta must be a positive number"),
    ],
)
def test_what_has_no_answer_is_refused(ask, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(Question(PUBLISHED["w4a4"]))
