"""Trials of methods: differences are paired, a run resumes without new work, and the tasks' trials are well formed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quant.calibration import CalibrationData, load
from quant.methods.post_training import quantize
from quant.plan import Plan
from quant.run_directory import RunDirectory
from sim.workloads import efficientqat, zeroquant
from sim.workloads.method_subjects import CharLm, MiniLm, SmolLm2
from sim.workloads.method_trials import Trial, Work, measure, paired, table_text


@dataclass
class _Rows:
    """A linear layer whose loss is the squared error of each row."""

    model: nn.Module
    name = "rows"
    unit = "squared error"

    def measure(self, model: nn.Module) -> np.ndarray:
        values = torch.linspace(-1, 1, 40).reshape(10, 4)
        with torch.no_grad():
            return (model(values) - self.model(values)).square().sum(1).double().numpy() + 1

    def data(self, text: str, seed: int) -> CalibrationData:
        return load([{"input": torch.zeros(1, 4)}])


def _trials(calls: list[str]) -> list[Trial]:
    def make(bits: int) -> Any:
        def made(subject: _Rows, seed: int) -> nn.Module:
            calls.append(f"{bits} {seed}")
            plan = Plan.uniform(weight_bits=bits, activation_bits=None)
            return quantize(nn.Sequential(subject.model), plan)

        return made

    columns = {"weights": "W", "scales": "channel", "inputs": "real", "data": None}
    return [
        Trial("two", columns, make(2)),
        Trial("eight", columns, make(8), seeded=True, against="two", beside=("two", "none")),
    ]


def test_gains_are_paired_and_finished_trials_are_not_made_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    subject, calls = _Rows(nn.Linear(4, 3)), []
    with RunDirectory.open(tmp_path, {}) as run:
        rows = measure(subject, _trials(calls), (0, 1), Work(run))
    assert calls == ["2 0", "8 0", "8 1"]
    assert [(row["method"], row["seed"]) for row in rows] == [("two", None), ("eight", 0), ("eight", 1)]
    assert rows[1]["gain"] == pytest.approx(rows[0]["rise"] - rows[1]["rise"])
    assert rows[1]["recovered"] == pytest.approx(1 - rows[1]["rise"] / rows[0]["rise"])
    gain = rows[1]["beside"]["two"]
    assert gain == {"gain": rows[1]["gain"], "gain_se": rows[1]["gain_se"], "errors": gain["gain"] / gain["gain_se"]}
    assert rows[0]["bits_per_weight"] == pytest.approx(8 * (1 + 2 + 1) / 4)
    with RunDirectory.open(tmp_path, {}, resume=True) as run:
        assert measure(subject, _trials(calls), (0, 1), Work(run)) == rows
        assert measure(subject, _trials(calls), (0, 1, 2), Work(run, finished=True)) == rows
    assert len(calls) == 3
    assert "two" in table_text(rows)


def test_a_paired_error_is_that_of_the_mean_of_the_differences() -> None:
    assert paired("gain", np.array([1.0, 2.0, 3.0])) == {"gain": 2.0, "gain_se": pytest.approx(1 / 3**0.5)}


@pytest.mark.parametrize("quick", [False, True])
def test_every_trial_has_its_own_unit_and_stands_after_the_one_it_is_held_against(quick: bool) -> None:
    found = [zeroquant.trials(subject, quick) for subject in (CharLm(), MiniLm(), SmolLm2())]
    found += [efficientqat.trials(subject, quick) for subject in (CharLm(), SmolLm2())]
    for every in found:
        units = [trial.unit(0) for trial in every]
        assert len(set(units)) == len(units)
        for i, trial in enumerate(every):
            before = {(t.name, t.columns["weights"]) for t in every[:i]}
            assert (
                trial.against is None
                or trial.columns["weights"] == "W8"
                or ((trial.against, trial.columns["weights"]) in before)
            )
            assert {name for name in trial.beside if (name, trial.columns["weights"]) not in before} <= {
                "E2E-QP",
                "GPTQ",
            }
