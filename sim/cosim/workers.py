"""Worker processes that end with their parent, whether it finishes, is interrupted or is killed."""

import contextlib
import multiprocessing
import multiprocessing.process
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from sim.common.worker import end_with_parent


@contextlib.contextmanager
def workers(call: Callable[[Any], Any], work: Sequence[Any], processes: int) -> Iterator[Iterator[Any]]:
    """The results of `call` on each item of `work`, in order, from so many processes.

    Each worker is a process group with the simulators that it starts. If the block is left by an exception, Ctrl-C
    among them, the groups are killed at once.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, initializer=_start)
    with _interrupts_held():  # workers inherit it: Ctrl-C is for the parent alone
        futures = [pool.submit(call, item) for item in work]  # `map` would cancel them, which the pool's end trips over
    started = set(multiprocessing.active_children()) - before
    try:
        yield (future.result() for future in futures)
    except BaseException:
        pool.shutdown(wait=False)
        for worker in started:
            _kill(worker)
        raise
    pool.shutdown()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start() -> None:
    os.setpgid(0, 0)
    end_with_parent(lambda: os.killpg(0, signal.SIGKILL))


def _kill(worker: multiprocessing.process.BaseProcess) -> None:
    if worker.pid is None:
        return
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or has not made its group yet
        worker.kill()
