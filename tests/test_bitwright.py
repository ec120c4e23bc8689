"""The console script hands each subcommand to its package."""

import importlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

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


def test_version_is_the_packages():
    assert script("--version").stdout == f"bitwright {metadata.version('bitwright')}\n"
    module = [sys.executable, "-m", "bitwright", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout == script("--version").stdout


def test_a_module_of_the_current_folder_is_not_imported(tmp_path):
    (tmp_path / "tqdm.py").write_text("raise SystemExit('imported')")
    name = Path(sys.executable).with_name("bitwright")
    for arguments in (["--help"], ["fit", "--help"], ["cost", "--help"]):
        assert subprocess.run([name, *arguments], cwd=tmp_path, capture_output=True, check=False).returncode == 0
