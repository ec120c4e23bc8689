"""Where caches are kept."""

from pathlib import Path

from platformdirs import user_cache_path

from sim.common.cache import ROOT, cache_folder


def test_a_checkout_keeps_its_caches_in_build(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cache_folder("cost") == Path("build/cost")


def test_elsewhere_they_are_the_users(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cache_folder("cost") == user_cache_path("bitwright") / "cost"
