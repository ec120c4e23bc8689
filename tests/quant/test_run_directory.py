"""Run directories: done is done, damage is not, one run at a time, and a changed plan is refused by its key."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quant.run_directory import RunDirectory, difference
from sim.reference import InputError

PLAN = {"plan": {"rules": [{"modules": ".*", "weight_bits": 4}]}, "data_sha256": "a", "seed": 0}


def test_a_finished_unit_comes_back_with_its_row_and_the_random_state_after_it(tmp_path):
    torch.manual_seed(1)
    with RunDirectory.open(tmp_path, PLAN) as run:
        assert run.done("layer.0") is None
        made = torch.rand(3)
        run.finish("layer.0", {"w": made}, {"error": 0.5})
        after = torch.rand(3)
    torch.manual_seed(2)
    with RunDirectory.open(tmp_path, PLAN, resume=True) as run:
        found = run.done("layer.0")
        assert found is not None and torch.equal(found[0]["w"], made) and found[1] == {"error": 0.5}
        assert torch.equal(torch.rand(3), after)


def test_names_that_differ_in_odd_characters_are_different_units(tmp_path):
    with RunDirectory.open(tmp_path, PLAN) as run:
        for unit in ("a/b", "a_b", "a" * 300, "a" * 299):
            assert run.done(unit) is None
            run.finish(unit, {}, {"unit": unit})
        assert run.done("a/b") == ({}, {"unit": "a/b"})


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_damaged_unit_is_not_done(tmp_path, suffix):
    with RunDirectory.open(tmp_path, PLAN) as run:
        run.finish("layer", {"w": torch.ones(3)}, {})
        (path,) = (tmp_path / "units").glob(f"*.{suffix}")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        assert run.done("layer") is None
        path.unlink()
        assert run.done("layer") is None


@pytest.mark.parametrize("changed, message", [
    ({"plan": {"rules": [{"modules": ".*", "weight_bits": 8}]}}, "plan.rules[0].weight_bits was 4, not 8"),
    ({"plan": {"rules": []}}, "plan.rules was "),
    ({"data_sha256": "b"}, 'data_sha256 was "a", not "b"'),
    ({"seed": 1}, "seed was 0, not 1"),
])  # fmt: skip
def test_resuming_refuses_a_changed_configuration_and_names_the_key(tmp_path, changed, message):
    with RunDirectory.open(tmp_path, PLAN) as run:
        run.finish("layer", {}, {})
    with pytest.raises(InputError) as error, RunDirectory.open(tmp_path, PLAN | changed, resume=True):
        pass
    assert message in str(error.value) and "cannot resume" in str(error.value)
    with RunDirectory.open(tmp_path, PLAN, resume=True) as run:
        assert run.done("layer") is not None, "the refusal left the run as it was"
    with RunDirectory.open(tmp_path, PLAN | changed) as run:
        assert run.done("layer") is None, "without resume what was done goes"


def test_a_second_run_is_refused_while_the_first_is_on(tmp_path):
    code = (
        "import sys; from quant.run_directory import RunDirectory; from sim.common.command import run\n"
        "def main(argv):\n"
        "    with RunDirectory.open(argv[0], {}): return 0\n"
        "sys.exit(run(main))"
    )

    def second() -> subprocess.CompletedProcess:
        root = Path(__file__).parent.parent.parent
        return subprocess.run(
            [sys.executable, "-c", code, tmp_path], cwd=root, capture_output=True, text=True, check=False
        )

    with RunDirectory.open(tmp_path, PLAN):
        refused = second()
    assert refused.returncode == 2 and refused.stderr == f"error: {tmp_path}: another run is writing here\n"
    assert second().returncode == 0


def test_other_versions_are_told_but_do_not_hinder(tmp_path, capsys):
    with RunDirectory.open(tmp_path, PLAN):
        pass
    content = json.loads((tmp_path / "run.json").read_text())
    assert {"torch", "numpy", "python", "threads", "cpu"} <= set(content["versions"])
    content["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(content))
    with RunDirectory.open(tmp_path, PLAN, resume=True):
        pass
    assert 'torch was "1.0"' in capsys.readouterr().err


def test_difference_names_the_first_key():
    assert difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ("a[1].b", "2", "3")
    assert difference({"a": 1}, {"a": 1, "b": 2}) == ("b", "null", "2")
    assert difference({"a": 1, "b": 2}, {"a": 1}) == ("b", "2", "null")
    assert difference({"a": [1]}, {"a": [1, 2]}) == ("a", "[1]", "[1, 2]")
    assert difference(PLAN, json.loads(json.dumps(PLAN))) is None


def test_a_changed_row_is_made_anew_with_a_warning(tmp_path, capsys):
    with RunDirectory.open(tmp_path, PLAN) as run:
        run.finish("layer", {"w": torch.ones(3)}, {"multiplier": 40000})
        (path,) = (tmp_path / "units").glob("*.json")
        path.write_text(path.read_text().replace("40000", "40001"))
        assert run.done("layer") is None
    assert "unit 'layer' is damaged and is made anew" in capsys.readouterr().err
