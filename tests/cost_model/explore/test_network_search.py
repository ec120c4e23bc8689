"""A search gives the same rows however often it is killed, and whoever works."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cost_model.explore import network_search
from cost_model.explore.network_search import SearchOptions, configuration, search
from quant.run_directory import RunDirectory
from sim.common.parallel import Pool
from sim.reference import InputError
from tests.cost_model.explore.toy import SPACE, Toy

pytest.importorskip("optuna", reason="the extra explore has optuna")
EXHAUSTIVE = SearchOptions("exhaustive", points=64)
NSGA2 = SearchOptions(points=14, population=4)


def found(folder: Path, options: SearchOptions, pool: Pool | None = None, resume: bool = False) -> list[dict]:
    with RunDirectory.open(folder, configuration(Toy(), SPACE, options), resume) as run:
        return search(Toy(), SPACE, options, run, pool)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> list[dict]:
    """Every point of the small space."""
    return found(tmp_path_factory.mktemp("all"), EXHAUSTIVE)


def test_an_exhaustive_search_has_every_point_once_and_the_papers_ones(rows) -> None:
    digests = [row["point"] for row in rows]
    assert len(set(digests)) == len(digests) == 6 + SPACE.size  # W8A8 is in the space, with weights in either place
    assert {row["label"] for row in rows[:8]} == {*(row["label"] for row in rows if row["label"])} and any(
        row["on_front"] for row in rows
    )


def test_more_bits_are_never_less_accurate_here_and_cost_more_memory(rows) -> None:
    by = {(row["attention"], row["fc1"], row["columns"], row["weights_in"]): row for row in rows}
    small, large = by["w4g16a8", "w4g16a4", 8, "dram"], by["w8a8", "w8a8", 8, "dram"]
    assert small["error_cosine"] > large["error_cosine"] and small["model_bytes"] < large["model_bytes"]
    on_chip = by["w8a8", "w8a8", 8, "sram"]
    assert on_chip["energy_dram_uj"] == 0 < large["energy_dram_uj"] and on_chip["area_mm2"] > large["area_mm2"]
    assert on_chip["error_cosine"] == large["error_cosine"]  # the machine does not change integers


def test_nsga2_measures_as_the_exhaustive_search_does_and_finds_points_of_its_front(rows, tmp_path) -> None:
    own = found(tmp_path, NSGA2)
    exhaustive = {row["point"]: row for row in rows}
    assert len(own) >= 14
    for row in own:
        assert {**row, "on_front": None} == {**exhaustive[row["point"]], "on_front": None}


def test_a_search_that_is_killed_resumes_with_the_same_rows(tmp_path, monkeypatch) -> None:
    whole = found(tmp_path / "whole", NSGA2)
    evaluate, calls = network_search.evaluate, []

    def dies(task):
        calls.append(task)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return evaluate(task)

    monkeypatch.setattr(network_search, "evaluate", dies)
    with pytest.raises(KeyboardInterrupt):
        found(tmp_path / "part", NSGA2)
    monkeypatch.setattr(network_search, "evaluate", lambda task: calls.append(task) or evaluate(task))
    del calls[4:]
    assert found(tmp_path / "part", NSGA2, resume=True) == whole
    assert len({task.points for task in calls}) == len(calls)  # nothing was measured twice


def test_another_search_cannot_go_on_in_its_folder(tmp_path) -> None:
    with RunDirectory.open(tmp_path, configuration(Toy(), SPACE, NSGA2)):
        pass
    with pytest.raises(InputError, match=r"cannot resume, options\.seed was 0, not 1"):
        found(tmp_path, replace(NSGA2, seed=1), resume=True)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"method": "guess"}, "method must be one of"),
        ({"objectives": ("error", "beauty")}, "objectives must be of"),
        ({"objectives": ("error", "error")}, "objectives must be different"),
        ({"population": 1}, "population must be in"),
    ],
)
def test_options_that_cannot_be_are_one_line(changes: dict, line: str) -> None:
    with pytest.raises(InputError, match=line):
        replace(NSGA2, **changes)


def test_an_exhaustive_search_of_too_many_points_is_one_line(tmp_path) -> None:
    with pytest.raises(InputError, match="points must be at least 16 for an exhaustive search, not 14"):
        found(tmp_path, replace(NSGA2, method="exhaustive"))


SCRIPT = """
import sys
from pathlib import Path
from tests.cost_model.explore import test_network_search as here
if __name__ == "__main__":
    here.found(Path(sys.argv[1]), here.NSGA2)
"""


def wait_for_units(folder: Path, count: int) -> None:
    """Until a run has kept so many of its units."""
    for _ in range(3000):
        if len(list(folder.glob("units/*.json"))) >= count:
            return
        time.sleep(0.1)
    raise AssertionError(f"{folder} never held {count} units")


@pytest.mark.slow
def test_a_search_that_is_killed_from_outside_resumes_with_the_same_rows(tmp_path) -> None:
    whole = found(tmp_path / "whole", NSGA2)
    with subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "part"]) as process:
        wait_for_units(tmp_path / "part", 3)
        process.send_signal(signal.SIGKILL)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "part" / "units").glob("*.json")}
    assert found(tmp_path / "part", NSGA2, resume=True) == whole
    assert all((tmp_path / "part" / "units" / name).read_bytes() == data for name, data in kept.items())


@pytest.mark.slow
def test_two_dask_workers_give_the_same_rows_and_a_killed_one_loses_nothing(rows, tmp_path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra dask")
    killed: list[int] = []

    def kill(client) -> None:
        wait_for_units(tmp_path, 1)
        killed.append(next(iter(client.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        killer = threading.Thread(target=kill, args=(client,))
        killer.start()
        assert found(tmp_path, EXHAUSTIVE, Pool(2, cluster.scheduler_address)) == rows
        killer.join()
    assert killed


@pytest.mark.slow
def test_two_processes_give_the_same_rows(rows, tmp_path) -> None:
    assert found(tmp_path, EXHAUSTIVE, Pool(2)) == rows
