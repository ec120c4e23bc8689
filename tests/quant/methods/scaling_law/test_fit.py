"""A fit finds the law that made the runs, its intervals cover as they say, and no run is dropped in silence."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra `scaling-law` is not installed")

from quant.methods.scaling_law.fit import LAWS, Runs, bootstrap, compare, fit, intervals
from quant.methods.scaling_law.law import PUBLISHED, Law
from sim.common.errors import InputError

GRID = ([74e6, 145e6, 297e6, 595e6], [10e9, 20e9, 50e9, 100e9], [32, 64, 128, 256])


def synthetic(law: Law, noise: float, seed: int = 0) -> Runs:
    n, d, g = (axis.ravel() for axis in np.meshgrid(*map(np.asarray, GRID), indexing="ij"))
    rng = np.random.default_rng(seed)
    return Runs(n, d, g, law.delta(n, d, g) * np.exp(noise * rng.normal(size=n.shape)))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_runs_without_noise_give_their_law_back(name: str) -> None:
    law = PUBLISHED[name]
    assert astuple(fit(synthetic(law, 0), starts=4).law) == pytest.approx(astuple(law), rel=1e-6)


def test_the_same_seed_gives_the_same_intervals() -> None:
    runs = synthetic(PUBLISHED["w4a4"], 0.02)
    assert intervals(bootstrap(runs, 20, seed=1)) == intervals(bootstrap(runs, 20, seed=1))
    assert intervals(bootstrap(runs, 20, seed=1)) != intervals(bootstrap(runs, 20, seed=2))


def test_the_law_beats_those_without_tokens_or_groups_on_its_own_runs() -> None:
    full, without_d, without_g = compare(synthetic(PUBLISHED["w4a4"], 0.02))
    for smaller in (without_d, without_g):
        assert full["aic"] < smaller["aic"]
        assert full["held_out_log_error"] < smaller["held_out_log_error"]


def test_a_censored_run_holds_the_fit_below_the_smallest_delta() -> None:
    law = PUBLISHED["w4a4"]
    runs = synthetic(law, 0.0)
    lowest = int(np.argmin(runs.delta))
    delta = runs.delta.copy()
    delta[lowest] = -0.001
    agreeing = Runs(runs.parameters, runs.tokens, runs.group, delta)
    assert agreeing.censored.sum() == 1
    assert astuple(fit(agreeing, starts=2).law) == pytest.approx(astuple(law), rel=1e-6)
    delta = runs.delta.copy()
    delta[np.argsort(delta)[-20:]] = -0.001
    pulled = fit(Runs(runs.parameters, runs.tokens, runs.group, delta), starts=2).law
    dropped = fit(runs[delta > 0], starts=2).law
    assert pulled.delta(595e6, 100e9, 256) < dropped.delta(595e6, 100e9, 256)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters,tokens,group\n1,1,2\n", "has no column delta"),
        ("parameters,tokens,group,delta\n", "has no rows"),
        ("parameters,tokens,group,delta\n1e6,1e9,32,0.1\n1e6,many,32,0.1\n", "run 2: tokens must be above 0, not nan"),
        ("parameters,tokens,group,delta\n1e6,1e9,1,0.1\n", "run 1: group must be above 1"),
        ("parameters,tokens,group,delta\n1e6,1e9,32,-0.1\n", "no run has a positive delta"),
        ("parameters,tokens,group,delta\n1e6,1e9,32,inf\n", "run 1: delta must be finite"),
    ],
)
def test_a_file_of_runs_that_cannot_be_fitted_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=f"runs.csv: {message}"):
        Runs.load(path)


def test_settings_that_never_vary_do_not_determine_their_exponent() -> None:
    runs = synthetic(PUBLISHED["w4a4"], 0.0)
    with pytest.raises(InputError, match="do not determine k, gamma_n, gamma_d, gamma_g"):
        fit(runs[runs.group == 32])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_95_percent_intervals_cover_each_exponent_in_90_to_99_percent(name: str) -> None:
    law, replicates = PUBLISHED[name], 200
    covered, found = np.zeros(4), np.zeros((replicates, 4))
    for seed in range(replicates):
        runs = synthetic(law, 0.02, seed)
        ends = intervals(bootstrap(runs, 200, seed))
        covered += [low <= value <= high for (low, high), value in zip(ends.values(), astuple(law), strict=True)]
        found[seed] = astuple(fit(runs, LAWS["full"], starts=2).law)
    print(name, covered / replicates, found.mean(0) / astuple(law) - 1)
    assert np.all((covered / replicates >= 0.90) & (covered / replicates <= 0.99))
    assert np.all(np.abs(found.mean(0) / astuple(law) - 1) <= 0.02)
