"""Progress within one fit: the searches report short texts, and a sweep shows the latest beside its bar.

Worker processes write into a text in shared memory, which needs no lock: at worst a text is shown half replaced.
"""

import time
from collections.abc import Callable
from typing import Any

from sim.common.worker import end_with_parent

Report = Callable[[str], None]  # takes a text such as "generation 12 of 40"
TEXT_BYTES = 160
REPORT_SECONDS = 0.5  # a text is shown no more often

_shared: Any = None  # in a worker process: the text that the main process shows


def silent(text: str) -> None:
    """The report that shows nothing."""


def seldom(show: Report) -> Report:
    """`show`, called at most once every `REPORT_SECONDS`; texts in between are dropped."""
    shown = time.monotonic()

    def report(text: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= REPORT_SECONDS:
            shown = now
            show(text)

    return report


def start_worker(shared: Any) -> None:
    """Keep the shared text of `TEXT_BYTES` bytes in a new worker process, which ends with its parent."""
    global _shared
    end_with_parent()
    _shared = shared


def show_from_worker(text: str) -> None:
    """Write `text` where the main process reads it."""
    _shared.value = text.encode()[: TEXT_BYTES - 1]
