"""Many independent pieces of work, on processes of this machine or on a Dask cluster, with progress on stderr."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sim.common.errors import InputError, require_range

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Pool:
    """Who works: processes of this machine, or a Dask cluster.

    Parameters
    ----------
    jobs : int
        Processes; each uses one thread.
    scheduler : str, optional
        Address of a Dask scheduler; then its workers work.
    """

    jobs: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        require_range("jobs", self.jobs, 1, 1024)

    def results(self, work: Callable[[T], R], tasks: Sequence[T], unit: str) -> Iterator[R]:
        """`work(task)` of every task as they end, in any order; `unit` is what the progress bar counts.

        `work` and its results can be pickled. What a worker that dies had begun, another one of the cluster repeats.
        """
        from joblib import Parallel, delayed
        from tqdm import tqdm

        if not tasks:
            return
        with self._backend(), tqdm(total=len(tasks), unit=unit, file=sys.stderr, disable=None) as bar:
            parallel = Parallel(n_jobs=self.jobs, return_as="generator_unordered")
            calls: Iterable[Any] = (delayed(work)(task) for task in tasks)
            results: Any = parallel(calls)
            for result in results:
                bar.update()
                yield result

    @contextlib.contextmanager
    def _backend(self) -> Iterator[None]:
        """Processes on this machine, or the workers of a Dask scheduler."""
        from joblib import parallel_config

        if self.scheduler is None:
            with parallel_config(backend="loky", inner_max_num_threads=1):
                yield
            return
        try:
            from distributed import Client  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise InputError('--backend dask needs distributed: pip install "bitwright[dask]"') from None
        try:
            client = Client(self.scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise InputError(f"--scheduler {self.scheduler}: no Dask scheduler answers ({error})") from None
        with client, parallel_config(backend="dask", wait_for_workers_timeout=30):
            yield
