"""A worker process ends with its parent, however that ends."""

import multiprocessing
import os
import threading
from collections.abc import Callable


def end_with_parent(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Call `end` in this worker as soon as its parent is gone; for the initializer of a pool.

    A pool's workers else wait for work that never comes if their parent is killed.
    """
    threading.Thread(target=_wait, args=(end,), daemon=True).start()


def _wait(end: Callable[[], object]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        end()
