"""Workers end with their parent, and an interruption ends them at once and quietly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim.cosim.workers import workers

ROOT = Path(__file__).parents[3]
# each worker starts a program, as a simulator would be, writes both process numbers down, and waits
PARENT = """
import os, subprocess, sys
from pathlib import Path
from sim.common.command import run
from sim.cosim.workers import workers

def job(folder):
    child = subprocess.Popen(["sleep", "600"])
    part = Path(folder, f".{os.getpid()}")
    part.write_text(f"{os.getpid()} {child.pid}")
    part.rename(part.with_name(str(os.getpid())))
    child.wait()

def main(argv):
    with workers(job, argv * 2, 2) as results:
        return len(list(results))

if __name__ == "__main__":
    sys.exit(run(main))
"""


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def within(seconds: float, condition) -> bool:
    """Whether the condition comes true in so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number, code, said", [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGKILL, -9, "")])
def test_workers_and_what_they_started_end_when_the_parent_is_interrupted_or_killed(number, code, said, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = tmp_path / "pids"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, script, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert within(60, lambda: len([p for p in folder.iterdir() if p.name[0] != "."]) == 2)
        processes = [int(word) for path in folder.iterdir() for word in path.read_text().split()]
        assert len(processes) == 4 and all(map(alive, processes))
        os.killpg(parent.pid, number) if number == signal.SIGINT else parent.kill()
        assert within(30, lambda: not any(map(alive, processes)))
        out, err = parent.communicate(timeout=30)
        assert (parent.returncode, out, err) == (code, "", said)
    finally:
        parent.kill()


def test_results_come_in_order_and_an_error_of_a_job_ends_the_others():
    with workers(abs, [-3, 2, -1], 2) as results:
        assert list(results) == [3, 2, 1]
    with pytest.raises(TypeError), workers(abs, [1, "a", 2], 2) as results:
        list(results)
