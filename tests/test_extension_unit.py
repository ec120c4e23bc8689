"""A new unit is its module, its specification and one line in the registry: everything else works for it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINE = '    "relu6": Unit("rtl.relu6:Relu6Config", "rtl.relu6:Relu6"),\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The project with the unit's file and its line, and nothing else changed."""
    path = tmp_path_factory.mktemp("project")
    for package in ("rtl", "sim", "ga_search", "quant", "cost_model"):
        shutil.copytree(ROOT / package, path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "rtl" / "relu6.py", path / "rtl" / "relu6.py")
    registry = path / "rtl" / "units.py"
    start = "UNITS: dict[str, Unit] = {\n"
    assert start in registry.read_text()
    registry.write_text(registry.read_text().replace(start, start + LINE))
    return path


def python(project: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_vectors_are_written_and_pass_the_regression_in_both_simulators(project):
    python(project, "-m", "sim", "vectors", "--quick", "--unit", "relu6", "-o", "vectors")
    rows = json.loads(python(project, "-m", "sim", "regress", "--quick", "--from", "vectors", "--json"))
    assert {(row["unit"], row["bench"], row["simulator"]) for row in rows} == {
        ("relu6", bench, simulator) for bench in ("flow", "stall", "protocol") for simulator in ("icarus", "verilator")
    }
    assert all(row["mismatches"] == 0 and row["vectors"] for row in rows)


def test_its_file_is_emitted_and_checked(project):
    python(project, "-m", "rtl", "relu6", "--in-bits", "9", "--stages", "1", "-o", "relu.v")
    rows = json.loads(python(project, "-m", "sim", "check", "relu.v", "--simulator", "icarus", "--json"))
    assert {row["configuration"]["in_bits"] for row in rows} == {9} and all(row["mismatches"] == 0 for row in rows)
