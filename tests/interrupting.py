"""`python tests/interrupting.py SIGNAL AT FOLDER MODULE ARGUMENTS`: a command that sends itself a signal on its way.

The signal comes at the file operation AT below FOLDER, before it is done; a negative AT counts the imported modules
instead. With AT 0 nothing comes, and the file `operations` in the current folder gets the number of operations.
"""

import atexit
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sim.common.command import start

WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.copyfile", "shutil.rmtree")


def interrupting(number: int, at: int, folder: str) -> None:
    """Install the hook."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if at < 0:
            counts = event == "import"
        else:
            written = event in WRITES or (
                event == "open" and arguments[1] is not None and set(arguments[1]) & set("wxa")
            )
            counts = written and any(os.fspath(a).startswith(folder) for a in arguments if isinstance(a, str | Path))
        if counts:
            seen += 1
            if seen == abs(at):
                os.kill(os.getpid(), number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
    sys.addaudithook(hook)
    if not at:
        atexit.register(lambda: Path("operations").write_text(str(seen)))


if __name__ == "__main__":
    interrupting(getattr(signal, sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    sys.exit(start(sys.argv[4], sys.argv[5:]))
