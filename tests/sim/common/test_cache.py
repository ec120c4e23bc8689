"""Where caches are kept."""

import os
import subprocess
import sys
from pathlib import Path

from platformdirs import user_cache_path

from sim.common.cache import ROOT, cache_folder


def test_a_checkout_keeps_its_caches_in_build(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cache_folder("cost") == Path("build/cost")


def test_elsewhere_they_are_the_users(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cache_folder("cost") == user_cache_path("bitwright") / "cost"


def test_tools_find_a_cache_where_the_home_folder_cannot_be_written(tmp_path):
    (tmp_path / "home").write_text("a file, so that nothing can be made below it")
    outside = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    outside.pop("XDG_CACHE_HOME", None)
    emit = [sys.executable, "-m", "rtl", "requant", "-o", str(tmp_path / "a.v")]
    done = subprocess.run(emit, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and (tmp_path / "a.v").is_file(), done.stderr
