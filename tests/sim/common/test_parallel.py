"""Results come as they end, whoever works; a mistake about who works is one line."""

import threading

import pytest

from sim.common.errors import InputError
from sim.common.parallel import Pool


def double(task: int) -> int:
    return 2 * task


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_gives_its_result(jobs: int) -> None:
    assert sorted(Pool(jobs).results(double, range(5), "task")) == [0, 2, 4, 6, 8]
    assert list(Pool(jobs).results(double, [], "task")) == []


def test_a_finished_task_does_not_wait_for_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import joblib

    seen = threading.Event()

    def work(task: str) -> str:
        if task == "first":
            seen.wait(10)
        return task

    monkeypatch.setattr(Pool, "_backend", lambda _: joblib.parallel_config(backend="threading"))
    ended = []
    for task in Pool(2).results(work, ["first", "second"], "task"):
        ended.append(task)
        seen.set()
    assert ended == ["second", "first"]


def test_a_pool_without_workers_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^jobs must be in 1\.\.1024, not 0$"):
        Pool(0)
