"""The .md files: what they show runs, what they name exists, and `make run` prints what README.md says."""

import contextlib
import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import bitwright
from sim.common.results import read_results
from tests.figures import documents

ROOT = Path(__file__).parent.parent
PACKAGES = ("sim", "rtl", "ga_search", "quant", "cost_model")
TEXTS = documents()
TEXT = "\n".join(TEXTS.values())
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = sorted({line for line in SHELL if line.startswith(("python -m ", "bitwright "))})
# code inside sentences, on one line each
INLINE = sorted(
    {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))}
)
MENTIONED = [code for code in INLINE if code.startswith(("python -m ", "bitwright "))]
PRINTED = {
    "ARCHITECTURE.md": ["21 [3, 11]"],
    "README.md": ["[ 0  0 64]", "True", "True"],
    "cost_model/README.md": ["True"],
}


@pytest.fixture(scope="module")
def steps() -> list[list[str]]:
    """The commands of `make run` behind its set-up, as arguments of Python; the others only bring system tools."""
    command = ["make", "--no-print-directory", "--dry-run", "--assume-old=venv", "run", "BIN=bin"]
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    lines = made.stdout.splitlines()
    own = [line.split()[1:] for line in lines if line.startswith("bin/python -m ")]
    assert len(own) + sum(line.startswith("bash .ci/system-tools ") for line in lines) == len(lines)
    return own


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, steps) -> Path:
    """A folder where `make run`'s first step has been done; its stdout is in `first.txt`."""
    folder = tmp_path_factory.mktemp("documents")
    done = run(steps[0], folder)
    (folder / "first.txt").write_text(done.stdout)
    return folder


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_the_first_document_starts_with_the_two_commands_and_leads_to_the_others():
    assert [line.split()[:2] for line in SHELL[:2]] == [["make", "run"], ["make", "test"]]
    assert TEXTS["README.md"].index("make test") < 2000 and len(TEXTS["README.md"].encode()) <= 8500
    for name in TEXTS:
        assert name in ("README.md", "CHANGELOG.md") or f"({name})" in TEXTS["README.md"], name


def test_the_first_result_is_what_the_program_prints(workplace):
    stored = read_results(ROOT / "results" / "default_fits.json")["rows"]
    lines = (workplace / "first.txt").read_text().splitlines()
    printed = [line.split() for line in lines if re.match(r"\w+ +\d+ +\w+ ", line)]
    assert [cells[:3] for cells in printed] == [[r["function"], str(r["entries"]), r["method"]] for r in stored]
    assert lines[0] in TEXTS["README.md"].splitlines()
    for cells, row in zip(printed, stored, strict=True):
        # another processor's exp may differ in the last bit and lead the search to an equally good table
        assert float(cells[5]) == pytest.approx(row["mse_full"], rel=0.05), cells


def test_make_run_ends_with_the_first_table_s_hardware_checked_and_costed(steps, workplace):
    if shutil.which("iverilog") is None:
        pytest.skip("make run installs Icarus, which is missing here")
    assert [step[1] for step in steps] == ["ga_search", "rtl", "sim", "cost_model"]
    _, checked, costed = (run(step, workplace).stdout for step in steps[1:])
    rows = [line.split() for line in checked.splitlines() if line.startswith("pwl ")]
    assert [(row[3], row[7]) for row in rows] == [("flow", "0"), ("stall", "0"), ("protocol", "0")]
    assert rows[0][4] == rows[1][4] == str(7 * 256)  # every scale of the table, every code
    assert re.search(r"^total +\d", costed, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_a_shell_block_runs(command, workplace):
    run(command.replace("bitwright ", "python -m bitwright ", 1).split()[1:], workplace)


def test_a_shell_block_has_commands_of_ours_and_make_targets_alone():
    targets = {line.split()[1] for line in SHELL if line.startswith("make ")}
    targets |= {code.split()[1] for code in INLINE if re.fullmatch(r"make [\w-]+", code)}
    rules = {
        name
        for line in re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for name in line.split()
    }
    assert targets >= {"run", "test"} and targets <= rules
    assert all(line in COMMANDS or line.startswith("make ") for line in SHELL if line)


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[list[str], str]]:
    """Of each command: its module and subcommand, and the help that it prints."""
    return {command: (words := _called(command), _help(*words)) for command in (*COMMANDS, *MENTIONED)}


def _called(command: str) -> list[str]:
    """The module and, if they follow, the subcommand and its own: `quant scaling-law predict`."""
    words = command.removeprefix("python -m ").split()
    if words[0] == "bitwright":
        words = [bitwright.COMMANDS[words[1]][0], *words[2:]]
    name = f"{words[0]}.cli" if words[0] in PACKAGES else words[0]
    count = 2 if words[:2] in (["sim", "evaluate"], ["quant", "scaling-law"], ["cost_model", "explore"]) else 1
    subcommands = [word for word in words[1 : 1 + count] if re.fullmatch(r"[a-z][a-z-]*", word)]
    return [name, *subcommands]


@cache
def _help(module: str, *subcommand: str) -> str:
    if module == "tests.figures":
        return ""
    printed = io.StringIO()
    with pytest.raises(SystemExit) as ended, contextlib.redirect_stdout(printed):
        found = importlib.import_module(module)
        program = found if hasattr(found, "main") else importlib.import_module(f"{module}.__main__")
        program.main([*subcommand, "--help"])
    assert ended.value.code == 0
    return printed.getvalue()


def test_each_command_of_a_sentence_has_its_subcommand_and_options(helps):
    for command in MENTIONED:
        (_, *subcommand), shown = helps[command]
        usage = shown.partition("\n\n")[0]
        assert all(f" {name} " in usage.replace("\n", " ") for name in subcommand), command
        assert all(word in shown for word in command.split() if re.match("-[-a-z]", word) and word != "-m"), command


def test_each_option_of_a_sentence_exists(helps):
    options = {code.split()[0] for code in INLINE if re.fullmatch(r"--[\w-]+( \w+)?", code)} - {"--help"}
    shown = "".join(text for _, text in helps.values())
    assert options and not [option for option in sorted(options) if not re.search(rf"{option}\b", shown)]


def test_each_extra_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"bitwright\[(\w+)\]", TEXT))
    assert named and named <= set(extras)


def test_each_path_exists():
    top = {path.name for path in ROOT.iterdir()} - {"build", "tables", "dist"}
    words = {word.rstrip(".,:") for code in INLINE for word in code.split() if re.fullmatch(r"[\w.*/-]+", word)}
    paths = {word for word in words if "/" in word and word.split("/")[0] in top and not word.startswith(".venv")}
    assert len(paths) > 20
    assert not [path for path in sorted(paths) if not any(ROOT.glob(path.rstrip("/")))]
    for name, text in TEXTS.items():
        links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
        assert not [link for link in links if not ((ROOT / name).parent / link).exists()], name


@pytest.mark.parametrize(
    "name", [c for c in INLINE if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", c) and not c.endswith(".py")]
)
def test_each_python_name_resolves(name):
    parts, found = name.split("."), None
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        break
    assert found is not None


def test_the_python_examples_run(workplace):
    for path, text in TEXTS.items():
        examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        assert [run(["-c", example], workplace).stdout.strip() for example in examples] == PRINTED.get(path, []), path
