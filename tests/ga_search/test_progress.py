"""Progress within a fit: the searches report, and a sweep shows it, in this process or from workers."""

import multiprocessing

import pytest

from ga_search import progress
from ga_search.config import FitConfig
from ga_search.fit import fit
from ga_search.problem import prepare
from ga_search.sweep import Sweep


@pytest.mark.parametrize(
    "method, options, words",
    [
        ("genetic", {}, ("round 1 of 5, generation 1 of ", "last round, generation 2 of ", "proof: λ, μ 1 of ")),
        ("optimal", {}, ("λ, μ 1 of ", " prices of segments")),
        ("optimal", {"slope_frac_bits": 3, "intercept_frac_bits": 3}, ("λ, μ = 3, 3, ",)),
        ("nn-lut", {"restarts": 1, "certificate": False}, ("training step 2 of ",)),
    ],
)
def test_each_search_reports_its_progress_and_finds_the_same_table(method, options, words):
    problem, texts = prepare(FitConfig("silu", 5, method, in_bits=5, coef_bits=5, **options)), []
    assert fit(problem, texts.append)[0] == fit(problem)[0]
    for word in words:
        assert any(word in text for text in texts), word


def test_one_fit_in_this_process_moves_the_text_beside_the_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    Sweep((FitConfig("silu", 5, in_bits=5, coef_bits=5),), tmp_path, plots=False).run(1, False)
    shown = capsys.readouterr().err
    assert "0/1" in shown and "silu-5-genetic-5x5x8bit: round 1 of 5, generation 1 of " in shown


def test_texts_are_shown_seldom(monkeypatch):
    clock, shown = iter([0.0, 0.1, 0.6, 0.7, 1.2]), []
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    report = progress.seldom(shown.append)
    for text in "abcd":
        report(text)
    assert shown == ["b", "d"]


def test_a_worker_writes_into_the_shared_text_no_more_than_fits(monkeypatch):
    shared = multiprocessing.Array("c", progress.TEXT_BYTES, lock=False)
    monkeypatch.setattr(progress, "_shared", None)
    progress.start_worker(shared)
    for text in ("λ, μ 1 of 2", "λ" * 500):
        progress.show_from_worker(text)
        got = shared.value.decode(errors="replace")
        assert got[:79] == text[:79] and len(got) <= len(text)
