"""The arrows between packages: light imports, and nothing below imports anything above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {"sim.reference": 0, "rtl": 1, "ga_search": 1, "quant": 1, "sim": 2, "cost_model": 3}


def room(module: str) -> str | None:
    parts = module.split(".")
    if parts[:2] == ["sim", "reference"]:
        return "sim.reference"
    return parts[0] if parts[0] in FLOORS else None


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def arrows() -> set[tuple[str, str, str]]:
    found = set()
    for name in ("sim", "rtl", "ga_search", "quant", "cost_model"):
        for path in (ROOT / name).rglob("*.py"):
            here = room(".".join(path.relative_to(ROOT).with_suffix("").parts)) or ""
            found |= {(here, there, path.name) for m in imports(path) if (there := room(m)) and there != here}
    return found


def test_arrows_only_go_down():
    assert arrows(), "the packages import sim.reference at least"
    for here, there, file in arrows():
        assert FLOORS[there] < FLOORS[here], f"{here}/{file} imports {there}"


@pytest.mark.parametrize(
    "module", ["sim", "sim.reference", "ga_search", "ga_search.cli", "ga_search.fit", "quant", "quant.cli"]
)
def test_importing_is_light(module):
    code = f"import sys, {module}; print(*(m for m in ('torch', 'matplotlib.pyplot', 'cocotb') if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
