"""The names that packages export."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("sim", "quant", "cost_model", "ga_search")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_is_there_and_hides_no_module_of_its_own(package):
    test = "all(getattr(p, n) is not None and n in dir(p) for n in p.__all__)"
    code = f"import {package} as p; print({test})"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False).stdout
        == "True\n"
    )
    modules = {path.stem for path in (ROOT / package).iterdir()}
    assert not modules & set(import_module(package).__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'quant' has no attribute 'other'"):
        _ = import_module("quant").other
