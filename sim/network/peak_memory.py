"""The memory that a call needs at its peak, from Linux's account of the process."""

import ctypes
import ctypes.util
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object]) -> int | None:
    """The most that the process held during the call beside what it held before, in bytes; None if not on Linux.

    Free memory is given back to the system first, so that the call must ask for all it needs.
    """
    library = ctypes.util.find_library("c")
    if not CLEAR.exists() or library is None:
        return None
    trim = getattr(ctypes.CDLL(library), "malloc_trim", None)  # glibc's
    if trim is None:
        return None
    trim(0)
    try:
        CLEAR.write_text("5")  # resets the peak
    except OSError:
        return None
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) << 10
