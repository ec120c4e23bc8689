"""A damaged file is refused in one line that names it, or read; never a traceback, never a hang."""

import contextlib
import io
import json
import resource
import shutil
import signal
from pathlib import Path

import pytest

from sim.common.errors import InputError
from tests.fuzz.mutants import byte_mutants, json_mutants
from tests.fuzz.readers import READERS, Reader

SECONDS = 10  # of one read; a good one takes milliseconds
BYTES = 2 << 30  # of memory beyond what the process has before a read


class Hang(BaseException):
    """A read that did not end in time."""


def verdict(reader: Reader, folder: Path) -> str | None:
    """What is wrong with how the reader takes the folder; None if nothing is."""

    def stop(*_):
        raise Hang

    before, limits = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, limits[1]))
    signal.alarm(SECONDS)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            code = reader.read(folder)
    except InputError as error:
        return None if str(folder) in str(error) else f"names no file: {error}"
    except SystemExit as error:
        return None if error.code == 2 else f"exit {error.code}"
    except Hang:
        return f"no end after {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)
    if code == 2 and str(folder) not in printed.getvalue():
        return f"names no file: {printed.getvalue()}"
    return None


def findings(name: str, folder: Path, count: int, seed: int) -> list[str]:
    """What is wrong with how a reader takes `count` mutants of each kind of each of its files."""
    reader, good = READERS[name], folder / "good"
    good.mkdir()
    reader.make(good)
    assert verdict(reader, good) is None
    found = []
    paths = [path for pattern in reader.files for path in sorted(good.glob(pattern))]
    assert paths
    for path in paths:
        data = path.read_bytes()
        mutants: list[tuple[str, bytes]] = list(byte_mutants(data, seed, count))
        if path.suffix == ".json":
            content = json.loads(data)
            mutants += [(label, text.encode()) for label, text in json_mutants(content, seed, count, reader.seal)]
        for label, mutant in mutants:
            bad = folder / "bad"
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            (bad / path.relative_to(good)).write_bytes(mutant)
            wrong = verdict(reader, bad)
            if wrong is not None:
                found.append(f"{path.name}: {label}: {wrong}"[:300])
    return found


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_in_one_line_or_read(name, tmp_path):
    assert findings(name, tmp_path, 60, 0) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_refused_in_one_line_or_read(name, tmp_path):
    assert findings(name, tmp_path, 1500, 1) == []


def test_the_harness_notices_tracebacks_hangs_and_lines_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.test_readers.SECONDS", 1)

    def traceback(folder):
        raise KeyError("gone")

    def silent(folder):
        raise InputError("something is wrong")

    def endless(folder):
        while True:
            pass

    for read, words in ((traceback, "KeyError"), (silent, "names no file"), (endless, "no end")):
        assert words in (verdict(Reader(lambda f: None, read, ()), tmp_path) or "")
