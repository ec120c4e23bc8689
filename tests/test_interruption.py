"""A command that is interrupted ends in one line; one that is killed and run again writes the same bytes."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cost_model.analytical.estimate import COEFFICIENTS
from cost_model.calibration.design_space import sample
from cost_model.commands.calibrate import DATASET, HELD_OUT
from rtl.cli import main as rtl
from sim.common.command import start
from tests.sim.network.checkpoint import checkpoint
from tests.sim.tables import FUNCTIONS, secant_table

ROOT = Path(__file__).parents[1]
TIMED = re.compile(r"\.row\.json$|^sentence\.json$")  # they say how long a step took
SCRATCH = re.compile(r"^run/|\.(lock|log|vvp)$")  # for the next run alone, and what a simulator compiled
LEFT = re.compile(r"\..+\.\d+(\.partial)?")  # what a killed process leaves beside a file or a build


@dataclass(frozen=True)
class Long:
    """A command whose outputs are below `{out}`; `again` is what a second run adds.

    `says` if what it prints is a result too. `begun` names an input with which `{out}` begins: most of what a longer
    command measures.
    """

    module: str
    arguments: str
    again: str = ""
    says: bool = False
    begun: str = ""

    def words(self, out: Path, inputs: Path) -> list[str]:
        return self.arguments.format(out=out, inputs=inputs).split()


COMMANDS = {
    "fits": Long("ga_search.cli", "gelu exp --no-certificate --entries 4 -o {out}", "--resume"),
    "vectors": Long("sim.cli", "vectors --quick --unit requant fp-add -o {out}"),
    "regression": Long(
        "sim.cli", "regress --quick --unit requant --simulator icarus --build {out} --json", says=True
    ),
    "quantise": Long("quant.cli", "quantize {inputs}/model --weight-bits 4 --no-activations -o {out}", "--resume"),
    "blocks": Long(
        "quant.cli",
        "zeroquant {inputs}/model --groups 4 --lkd --data random --samples 8 --steps 2 -o {out}",
        "--resume",
    ),
    "evaluate": Long(
        "sim.cli",
        "evaluate sentence --model {inputs}/model --sentences 8 --calibration 4 --seeds 0 --quick"
        " --run {out}/run -o {out}",
        "--resume",
    ),
    "convert": Long("sim.cli", "convert {inputs}/model --tables {inputs}/tables --data {inputs}/text.txt -o {out}"),
    "unit": Long(
        "cost_model.cli",
        "unit {inputs}/unit/unit.v --table {inputs}/unit/gelu.json --simulator icarus --cache {out} -o {out}/row.json",
    ),
    "table": Long(
        "cost_model.cli",
        "table --unit element --entries 8 --simulator bit-parallel --cache {out} -o {out}/cost.json",
        begun="netlists",
    ),
    "search": Long(
        "cost_model.cli",
        "explore unit tanh --budget mse_full=4e-4 --scales 5 --entries 3 --confirm 0 --cache {out} -o {out}/rows.json",
    ),
    "calibrate": Long("cost_model.cli", "calibrate --count 30 --cache {out} -o {out}", begun="records"),
}  # fmt: skip
QUICK = ("vectors",)


def _tables(folder: Path) -> None:
    for function in FUNCTIONS:
        secant_table(function).save(folder / f"{function}-8.json")


def _unit(folder: Path) -> None:
    folder.mkdir()
    secant_table("gelu").save(folder / "gelu.json")
    assert rtl(["pwl", "--table", str(folder / "gelu.json"), "-o", str(folder / "unit.v")]) == 0


def _netlists(folder: Path) -> None:
    """The cache of a whole run without every tenth entry."""
    command = COMMANDS["table"]
    assert start(command.module, command.words(folder, folder)) == 0
    (folder / "cost.json").unlink()
    for entry in sorted(folder.iterdir())[::10]:
        entry.unlink()


def _records(folder: Path) -> None:
    """Records of all points that the command draws but the two smallest, which it measures."""
    content = json.loads((COEFFICIENTS.parent / DATASET).read_text())
    points = list(sample(30, 0))
    drawn = [record for record in content["libraries"]["gate_equivalents"] if record["point"] in points]
    assert len(drawn) == len(points)
    content["libraries"] = {"gate_equivalents": sorted(drawn, key=lambda record: record["area"])[2:]}
    folder.mkdir()
    (folder / HELD_OUT).write_text(json.dumps(content))


INPUTS = {"model": checkpoint, "tables": _tables, "unit": _unit, "netlists": _netlists, "records": _records}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of inputs, each made when a command first needs it."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text.txt").write_text("the first sentence\nand another one\n")
    return folder


def run(name: str, folder: Path, inputs: Path, number: str = "SIGKILL", at: int = 0, again: bool = False):
    """Run a command with its outputs in `folder`/out, interrupted at one of its file operations."""
    command, out = COMMANDS[name], folder / "out"
    for needed, make in INPUTS.items():
        used = needed == command.begun or f"{{inputs}}/{needed}" in command.arguments
        if used and not (inputs / needed).exists():
            make(inputs / needed)
    folder.mkdir(exist_ok=True)
    if command.begun and not out.exists():
        shutil.copytree(inputs / command.begun, out)
    words = [*command.words(out, inputs), *(command.again.split() if again else ())]
    return subprocess.run(
        [sys.executable, ROOT / "tests" / "interrupting.py", number, str(at), out, command.module, *words],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def written(folder: Path) -> dict[str, bytes]:
    """Every file that a command wrote, scratch aside."""
    out = folder / "out"
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith("icarus-")]
    found = {str(path.relative_to(out)): path.read_bytes() for path in files}
    for name in [name for name in found if TIMED.search(name)]:
        found[name] = re.sub(rb'"(seconds|sha256)": \S+', b"", found[name])
    return {name: data for name, data in found.items() if not SCRATCH.search(name)}


def result(name: str, stdout: str) -> str:
    """A command's result on stdout, without how fast it was."""
    return re.sub(r'"(vectors_per_second|seconds)": [\d.]+', "", stdout) if COMMANDS[name].says else ""


def check(name: str, share: float, inputs: Path, folder: Path) -> None:
    """Interrupt and kill the command at `share` of its file operations, and run each again in the same place."""
    place = folder / "run"
    whole = run(name, place, inputs)
    assert whole.returncode == 0, whole.stderr
    wanted = written(place)
    at = max(1, round(share * int((place / "operations").read_text())))
    for number in ("SIGINT", "SIGKILL"):
        shutil.rmtree(place)
        ended = run(name, place, inputs, number, at)
        if number == "SIGINT":
            assert (ended.returncode, ended.stderr.splitlines()[-1]) == (130, "interrupted"), ended.stderr
            assert "Traceback" not in ended.stderr and ended.stdout == ""
        else:
            assert ended.returncode == -9
        last = run(name, place, inputs, again=True)
        assert last.returncode == 0, last.stderr
        assert written(place) == wanted
        assert result(name, last.stdout) == result(name, whole.stdout)
        assert not [path for path in (place / "out").rglob(".*") if LEFT.fullmatch(path.name)]


@pytest.mark.parametrize("name", QUICK)
def test_a_command_that_is_stopped_in_the_middle_of_its_files_and_run_again_writes_the_same_bytes(
    name, inputs, tmp_path
):
    check(name, 0.5, inputs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.2, 0.4, 0.6, 0.8, 1])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_stopped_anywhere_and_run_again_writes_the_same_bytes(name, share, inputs, tmp_path):
    check(name, share, inputs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("modules", [1, 40, 150, 400])
def test_a_command_that_is_interrupted_while_it_imports_ends_in_one_line(name, modules, inputs, tmp_path):
    ended = run(name, tmp_path, inputs, "SIGINT", -modules)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")
