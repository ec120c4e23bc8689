"""Tasks on several processes give what they give on one, and an error in one of them is not lost."""

import operator

import pytest

from sim.workloads.processes import in_processes


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_done_with_the_shared_argument(jobs):
    tasks = {f"task {k}": k for k in range(5)}
    assert dict(in_processes(operator.add, 100, tasks, jobs)) == {f"task {k}": 100 + k for k in range(5)}


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_error_is_that_of_the_task(jobs):
    with pytest.raises(ZeroDivisionError):
        dict(in_processes(operator.floordiv, 1, {"a": 1, "b": 0}, jobs))
