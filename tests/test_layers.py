"""Light imports; that imports only go down the floors is import-linter's to check (`make lint`)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIGHT = (
    "bitwright", "sim", "sim.common.command", "sim.reference", "sim.vectors", "ga_search", "ga_search.cli",
    "ga_search.fit", "rtl", "quant", "quant.cli",
)  # fmt: skip
HEAVY = ("torch", "matplotlib.pyplot", "cocotb", "transformers")


@pytest.mark.parametrize("module", LIGHT)
def test_importing_is_light(module):
    code = f"import sys, {module}; print(*(m for m in {HEAVY} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
