"""What every `python -m PACKAGE` command shares: one-line errors, exit codes, JSON on stdout."""

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sim.common.cache import require_user_cache
from sim.common.errors import InputError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line on stderr and exit code 2; -1e-3 is a number to it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def start(module: str, argv: Sequence[str] | None = None) -> int:
    """Import `module` and call its `main(argv)`; an interruption during the import is one line too.

    Returns
    -------
    int
        The exit code.
    """
    try:
        _open_closed_streams()
        return importlib.import_module(module).main(argv)
    except KeyboardInterrupt:
        return _interrupted()


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run `main(argv)`; a user's mistake becomes one line and exit code 2, an interruption 130."""
    _open_closed_streams()
    require_user_cache()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no λ shows a question mark
    try:
        code = main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a closed pipe is noticed here, not at interpreter exit
        return code
    except InputError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `... | head`: the reader has gone, which is not an error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        return _interrupted()


def one_line(text: str) -> str:
    """`text` with its control characters and line breaks escaped, since a name in it may come from a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)
    return 130


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that was closed (`2>&-`).

    Otherwise the next file to be opened would take its number, and `print(..., file=None)` would print to stdout.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue  # the interpreter gave it up, but the number is in use
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - open until the process ends


def print_json(rows: object) -> None:
    """Print `rows` as strict JSON. Infinities and NaN raise `ValueError`: they are our bugs."""
    print(json.dumps(rows, indent=1, allow_nan=False))
