"""What every command shares: exit codes and one-line errors."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sim.common.command import Parser, print_json, run, start
from sim.reference import InputError


def raiser(error: BaseException):
    def main(argv):
        raise error

    return main


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    assert run(raiser(InputError("x must be y, not z")), []) == 2
    assert capsys.readouterr().err == "error: x must be y, not z\n"


def test_an_interruption_is_exit_code_130_and_a_bug_keeps_its_traceback():
    assert run(raiser(KeyboardInterrupt()), []) == 130
    with pytest.raises(ZeroDivisionError):
        run(raiser(ZeroDivisionError()), [])


def test_usage_errors_are_one_line(capsys):
    parser = Parser(prog="p")
    parser.add_argument("--n", type=int, nargs=2)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--n", "1"])
    assert stop.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
    assert parser.parse_args(["--n", "-1", "-20"]).n == [-1, -20]


def test_negative_numbers_with_exponents_are_numbers():
    parser = Parser(prog="p")
    parser.add_argument("--x", type=float, nargs=2)
    assert parser.parse_args(["--x", "-1e-1", "-.5E+2"]).x == [-0.1, -50.0]


def test_json_is_strict():
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json([float("inf")])


def test_a_reader_that_leaves_early_is_no_error():
    code = "from sim.common.command import run; run(lambda a: print('line\\n' * 100000) or 0)"
    shell = f'{sys.executable} -c "{code}" | head -n 1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stdout == "line\n" and done.stderr == "" and done.returncode == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-"])
def test_a_closed_stream_takes_no_other_ones_lines_and_no_file_its_number(closed, tmp_path):
    code = (
        "import sys; from sim.common.command import run\n"
        "def main(argv):\n"
        "    with open('new.txt', 'w') as file: print('in the file', file=file)\n"
        "    print('result'); print('message', file=sys.stderr); return 0\n"
        "sys.exit(run(main, []))"
    )
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        line, shell=True, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == ("" if closed == ">&-" else "result\n")
    assert done.stderr == ("" if closed == "2>&-" else "message\n")
    assert (tmp_path / "new.txt").read_text() == "in the file\n"


def test_a_name_with_line_breaks_is_still_one_line(capsys):
    def main(argv):
        raise InputError("a\nb\u2028c\x1b[31m: λ must be 1")

    assert run(main, []) == 2
    assert capsys.readouterr().err == "error: a\\nb\\u2028c\\x1b[31m: λ must be 1\n"


def test_an_interrupted_import_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "interrupted_module.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    assert start("interrupted_module") == 130 and capsys.readouterr().err == "interrupted\n"
