"""The console script hands each subcommand to its package."""

import importlib
import subprocess
import sys

import bitwright


def script(*arguments: str) -> subprocess.CompletedProcess:
    code = "import sys, bitwright; sys.argv[0] = 'bitwright'; sys.exit(bitwright.main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_subcommand():
    done = script("--help")
    assert done.returncode == 0 and all(f"  {name}" in done.stdout for name in bitwright.COMMANDS)


def test_every_subcommand_has_a_main():
    for module, _ in bitwright.COMMANDS.values():
        assert callable(importlib.import_module(module).main)


def test_fit_is_ga_search_and_another_name_is_one_line():
    assert "Fit integer piecewise-linear tables" in script("fit", "--help").stdout
    bad = script("fti")
    assert bad.returncode == 2 and len(bad.stderr.splitlines()) == 1
