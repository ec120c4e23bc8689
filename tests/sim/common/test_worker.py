"""The workers of a pool end when their parent is killed, however they were started."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.cosim.test_workers import alive, within

PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from sim.common.worker import end_with_parent

def job(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    with ProcessPoolExecutor(2, context, end_with_parent) as pool:
        list(pool.map(job, sys.argv[1:2] * 2))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_workers_end_when_their_parent_is_killed(method, tmp_path):
    script, folder = tmp_path / "parent.py", tmp_path / "pids"
    script.write_text(PARENT)
    folder.mkdir()
    parent = subprocess.Popen([sys.executable, script, folder, method])
    try:
        assert within(60, lambda: len(list(folder.iterdir())) == 2)
        workers = [int(path.name) for path in folder.iterdir()]
        assert all(map(alive, workers))
    finally:
        parent.kill()
        parent.wait()
    assert within(30, lambda: not any(map(alive, workers)))
