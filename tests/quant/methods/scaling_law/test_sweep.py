"""A sweep gives the same table whether it was interrupted or not, and a quantised run is paired with its own."""

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")
pytest.importorskip("joblib", reason="joblib is not installed")

from quant.methods.scaling_law import sweep as sweeps
from quant.methods.scaling_law.fit import Runs
from quant.methods.scaling_law.sweep import Grid, Texts, Workers, sweep
from quant.methods.scaling_law.training import (
    FULL,
    QatLinear,
    Run,
    Size,
    fake_groups,
    parameter_groups,
    quantised,
    train,
)
from sim.common.errors import InputError

GRID = Grid((Size(32, 1),), (1024, 2048), (16,), ("w4a4", "w4a16"), (0,), (3e-3, 6e-3), 32, 8)


@pytest.fixture(scope="module")
def texts() -> Texts:
    generator = torch.Generator().manual_seed(0)
    parts = (torch.randint(97, 105, (n,), generator=generator) for n in (4096, 512, 512))
    return Texts(*parts)


def test_an_interrupted_sweep_trains_only_what_is_missing_and_gives_the_same_table(
    tmp_path: Path, texts: Texts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sweep(GRID, texts, tmp_path / "whole")
    assert [(row["scheme"], row["tokens"]) for row in rows] == [
        (scheme, tokens) for scheme in GRID.schemes for tokens in GRID.tokens
    ]
    assert all(row["delta"] == row["loss"] - row["full_loss"] for row in rows)
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    lost = sorted((tmp_path / "part" / "runs").glob("*w4a4.json"))
    lost[0].unlink()
    lost[1].write_text(lost[1].read_text()[:7])  # cut off in the middle
    other = sorted((tmp_path / "part" / "runs").glob("*w4a16.json"))
    text = other[0].read_text()
    place = text.index('"loss": ') + 10
    other[0].write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])  # one digit altered
    other[1].write_text(text)  # another run's
    trained = []
    one = sweeps._one
    monkeypatch.setattr(sweeps, "_one", lambda run, **rest: trained.append(run) or one(run, **rest))
    assert sweep(GRID, texts, tmp_path / "part") == rows
    assert len(trained) == 4
    assert capsys.readouterr().err.count("is damaged and is made anew") == 3
    with pytest.raises(InputError, match="holds a sweep of other texts"):
        sweep(GRID, Texts(texts.train[1:], texts.validation, texts.test), tmp_path / "part")


def test_a_run_and_its_pair_see_the_same_windows_and_weights(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    seen = {}
    forward = transformers.LlamaForCausalLM.forward

    def spy(self, **arguments):
        first = next(iter(self.parameters())).detach().clone()
        seen.setdefault(scheme, (first, arguments["input_ids"]))
        return forward(self, **arguments)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", spy)
    for scheme in (FULL, "w4a4"):
        train(Run(Size(32, 1), 256, scheme, 16, context=32, batch=8), texts.train, texts.validation)
    assert all(torch.equal(a, b) for a, b in zip(seen[FULL], seen["w4a4"], strict=True))


def test_rows_of_a_sweep_are_runs_that_can_be_fitted(tmp_path: Path) -> None:
    rows = [{**Run(Size(64, 1), 4096, "w4a4", group).to_row(), "delta": 0.1} for group in (0, 16, 300)]
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    assert Runs.load(tmp_path / "runs.csv", "w4a4").group.tolist() == [64, 16, 64]


@pytest.mark.parametrize("group", [2, 16, 48, 300])
def test_rounded_groups_have_at_most_15_levels_and_keep_their_largest(group: int) -> None:
    x = torch.randn(3, 48, requires_grad=True)
    y = fake_groups(x, min(group, 48), 4)
    for row, original in zip(y.split(min(group, 48), -1), x.split(min(group, 48), -1), strict=True):
        torch.testing.assert_close(row.abs().amax(-1), original.abs().amax(-1))
        assert all(len(line.unique()) <= 15 for line in row)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


def test_schemes_set_the_bits_of_each_layer_and_leave_the_head() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=8, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1)
    model = quantised(LlamaForCausalLM(config), "w4a4-fc2-8", 0)
    bits = {name.rpartition(".")[2]: (m.weight_bits, m.input_bits) for name, m in model.named_modules()
            if isinstance(m, QatLinear)}  # fmt: skip
    assert bits.pop("down_proj") == (4, 8)
    assert set(bits.values()) == {(4, 4)}
    assert len(bits) == 6
    assert isinstance(model.get_submodule("lm_head"), torch.nn.Linear)


def test_clipping_is_learned_from_groups_of_256(texts: Texts) -> None:
    wide, narrow = (QatLinear(torch.nn.Linear(n, 4), 4, 4, 0) for n in (256, 128))
    assert narrow.clip is None
    assert wide.clip is not None
    wide(torch.randn(2, 256)).square().sum().backward()
    assert wide.clip.grad is not None
    assert float(wide.clip.grad) != 0
    free = parameter_groups(torch.nn.Sequential(wide, narrow))[1]
    assert free["params"] == [wide.clip] and free["weight_decay"] == 0


def test_mistakes_are_refused(texts: Texts, tmp_path: Path) -> None:
    for make, message in (
        (lambda: Run(Size(32, 1), 10), "tokens must be in"),
        (lambda: Run(Size(33, 1), 4096), "width must be a multiple of 32"),
        (lambda: Run(Size(32, 1), 4096, "w3a3"), "scheme must be one of"),
        (lambda: Run(Size(32, 1), 4096, group=1), "group must be 0"),
        (lambda: Grid((), (1,)), "sizes must not be empty"),
        (lambda: train(Run(Size(32, 1), 4096), texts.train[:10], texts.test), "data must hold more than 128"),
    ):
        with pytest.raises(InputError, match=message):
            make()


@pytest.mark.slow
def test_a_dask_cluster_gives_the_rows_of_this_process(tmp_path: Path, texts: Texts) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    local = sweep(GRID, texts, tmp_path / "local")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        rows = sweep(GRID, texts, tmp_path / "dask", Workers(jobs=2, scheduler=cluster.scheduler_address))
    assert json.dumps(rows) == json.dumps(local)
