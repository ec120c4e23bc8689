"""A bench without Python passes on the unit's own Verilog, and ends with an error on a wrong or a missing result."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rtl.array.config import ArrayConfig
from rtl.emit import emit
from sim.cosim.dut import component_of, read_device
from sim.cosim.plain_bench import write_bench
from sim.cosim.run_array import array_component
from sim.vectors.array import ArraySet
from sim.vectors.array_suite import random_array_set
from sim.vectors.suites import random_suite
from sim.vectors.vector_set import VectorSet

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs Icarus Verilog")


def sets() -> list[VectorSet]:
    array = random_array_set("array", np.random.default_rng(0), ArrayConfig(3, 2, group=8, max_inputs=16), (4, 9, 5), 0)
    return [random_suite(0, quick=True, units=("pwl",))[0], array]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", folder / "run.sh"], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("vectors", sets(), ids=lambda vectors: vectors.unit)
def test_a_bench_needs_a_simulator_alone(vectors: VectorSet, tmp_path: Path) -> None:
    component = array_component(vectors) if isinstance(vectors, ArraySet) else component_of(vectors)
    emit(tmp_path / "unit.v", vectors.unit, component)
    (bench := tmp_path / "bench").mkdir()
    write_bench(bench, vectors, read_device(tmp_path / "unit.v")[0], "../unit.v")
    passed = run(bench)
    assert (passed.returncode, passed.stdout.split()[0]) == (0, "PASS")
    assert not any("python" in path.read_text() for path in bench.iterdir())
    name = "expected.hex" if isinstance(vectors, ArraySet) else "vectors_0.hex"
    words = (bench / name).read_text()
    (bench / name).write_text(f"{int(words[0], 16) ^ 1:x}{words[1:]}")  # one bit of the first expected result
    failed = run(bench)
    assert failed.returncode != 0 and failed.stdout.startswith("FAIL 1 wrong")
    (bench / name).write_text(words)
    script = (bench / "run.sh").read_text()
    (bench / "run.sh").write_text(script.replace("+count=", "+counts="))
    assert run(bench).returncode != 0  # nothing compared is no pass
