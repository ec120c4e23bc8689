"""The same work on many tasks, in this process or in several that share one large argument."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch

from sim.common.worker import end_with_parent

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
_shared: Any = None  # of a worker


def in_processes(work: Callable[[S, T], R], shared: S, tasks: Mapping[str, T], jobs: int) -> Iterator[tuple[str, R]]:
    """`work(shared, task)` of every task, by its name, as they end.

    With one job the tasks run here, in order. With more, each worker has one thread and a copy of `shared`, which it
    reads once; `work` is then a function of a module, and everything can be pickled.
    """
    if jobs == 1 or len(tasks) < 2:
        for name, task in tasks.items():
            yield name, work(shared, task)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shared"
        path.write_bytes(pickle.dumps(shared))
        context = multiprocessing.get_context("spawn")  # a fork would copy locked threads of PyTorch's
        with ProcessPoolExecutor(min(jobs, len(tasks)), context, _start, (path,)) as pool:
            names = {pool.submit(_work, work, task): name for name, task in tasks.items()}
            try:
                for finished in as_completed(names):
                    yield names[finished], finished.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _start(path: Path) -> None:
    global _shared
    end_with_parent()
    torch.set_num_threads(1)
    _shared = pickle.loads(path.read_bytes())


def _work(work: Callable[[Any, Any], Any], task: Any) -> Any:
    return work(_shared, task)
