"""The evaluation of sentence embeddings on a small encoder with random weights and a tokeniser of words."""

import json

import numpy as np
import pytest

from quant.run_directory import RunDirectory
from sim.reference import InputError
from sim.workloads import sentence
from sim.workloads.sentence import METHODS, Options, Sentences, chosen, evaluate, figures, spearman
from sim.workloads.sentences import digest, sentences
from tests.sim.network.checkpoint import checkpoint


def test_pythons_own_texts_give_thousands_of_different_sentences():
    every = sentences(10**9)
    assert len(every) > 5000 and len(set(every)) == len(every)
    assert all(25 <= len(text) <= 400 and text[-1] in ".!?" for text in every)
    assert sentences(50) == every[:50] and sentences(50, seed=1) != every[:50]
    assert digest(every[:2]) != digest(every[1:3])


def test_spearman_ranks_with_ties():
    assert spearman(np.array([1, 2, 3, 4]), np.array([10, 20, 30, 40])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3, 4]), np.array([8, 4, 2, 1])) == pytest.approx(-1)
    assert spearman(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(0.9486832980505138)


def test_the_fall_is_paired_and_its_interval_covers_it():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 16))
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    noise = rng.normal(size=real.shape) * 0.05
    exact, got = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (real + noise, real + 1.2 * noise))
    row = figures(real, exact, got)
    assert 0 < row["fall_low"] < row["fall"] < row["fall_high"] < 0.05
    assert figures(real, exact, exact)["fall"] == 0 and row["cosine_worst"] < row["cosine"] < 1


def test_every_method_is_measured_at_once_and_one_operation_at_a_time():
    names = [variant.name for variant in chosen(Options(seeds=(3, 0)), 3)]
    assert names[0] == "exact-all" and "genetic-8-gelu" in names and "nn-lut-8-rsqrt" in names and len(set(names)) == 23
    assert len(chosen(Options(seeds=(3, 0)), 0)) == 1 + len(METHODS)


def test_an_evaluation_has_its_rows_resumes_and_tells_the_control_from_two_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence, "METHODS", (("genetic", 8), ("genetic", 2)))
    folder, options = checkpoint(tmp_path / "model"), Options(24, 8, (0, 1), single=False)
    with RunDirectory.open(tmp_path / "run", {"a": 1}) as run:
        result = evaluate(folder, run, options)
    json.dumps(result, allow_nan=False)
    rows = {(row["method"], row["entries"], row["seed"]): row for row in result["rows"]}
    assert len(rows) == 6
    for seed in (0, 1):
        assert rows["exact", None, seed]["cosine"] > 0.98 and rows["exact", None, seed]["fall"] == 0
        assert rows["genetic", 2, seed]["cosine"] < rows["genetic", 8, seed]["cosine"] - 0.003
    assert rows["exact", None, 0]["cosine"] != rows["exact", None, 1]["cosine"]
    with RunDirectory.open(tmp_path / "run", {"a": 1}, resume=True) as run:
        monkeypatch.setattr(sentence, "embed", None)  # nothing is left to do
        assert evaluate(folder, run, options) == result


@pytest.mark.slow
def test_processes_give_the_rows_of_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence, "METHODS", (("genetic", 2),))
    folder, options = checkpoint(tmp_path / "model"), Options(24, 8, (0, 1), single=False)
    rows = []
    for jobs in (1, 2):
        with RunDirectory.open(tmp_path / f"run{jobs}", {"a": 1}) as run:
            rows.append(evaluate(folder, run, options, jobs=jobs))
    assert rows[0] == rows[1]


def test_measured_and_calibration_sentences_are_apart(tmp_path):
    texts = Sentences(checkpoint(tmp_path), Options(10, 5))
    assert not set(texts.measured) & set(texts.rest)
    assert texts.calibration(0).samples == 5 and texts.calibration(0).digest != texts.calibration(1).digest


@pytest.mark.parametrize(
    "options, message",
    [
        ({"count": 1}, r"sentences must be in 2\.\.100000, not 1"),
        ({"calibration": 0}, r"calibration must be in 1\.\.10000, not 0"),
        ({"seeds": (1, 1)}, r"seeds must be different numbers, not \[1, 1\]"),
        ({"seeds": ()}, r"seeds must be different numbers, not \[\]"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Options(**options)
