"""Both phases: errors fall, integers stay, an interrupted run resumes to the same bytes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant import calibration
from quant.methods.efficientqat.block_ap import BlockAp
from quant.methods.efficientqat.e2e_qp import E2eQp, StepLinear
from quant.methods.efficientqat.quantise import Options, efficientqat, with_inputs
from quant.primitives.linear import QuantisedLinear
from quant.run_directory import RunDirectory
from sim.reference import InputError
from tests.quant.methods.test_blocks import made

transformers = pytest.importorskip("transformers", reason="the models are those of transformers")

ROUNDED = Options(2, 16)
TRAINED = Options(2, 16, BlockAp((1e-3, 1e-3), epochs=8))
BOTH = replace(TRAINED, e2e_qp=E2eQp(1e-3, 3, distill=True))


def _llama() -> tuple[nn.Module, calibration.CalibrationData]:
    model, _, _, _ = made("llama")
    with torch.no_grad():
        model.get_parameter("lm_head.weight").mul_(20)  # else every distribution is flat
    ids = torch.randint(32, (8, 2, 8), generator=torch.Generator().manual_seed(5))
    return model, calibration.load([{"input_ids": part} for part in ids])


@torch.no_grad()
def _error(model: nn.Module, other: nn.Module, data: calibration.CalibrationData) -> float:
    pairs = [[m.get_submodule("model")(**b).last_hidden_state for m in (model, other)] for b in data]
    return float(torch.stack([(a - b).square().mean() for a, b in pairs]).mean())


def _layers(model: nn.Module) -> dict[str, QuantisedLinear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantisedLinear)}


def test_block_ap_lowers_the_error_of_the_hidden_states() -> None:
    model, data = _llama()
    nearest, trained = (efficientqat(model, data, options) for options in (ROUNDED, TRAINED))
    assert _error(model, trained, data) < 0.8 * _error(model, nearest, data)


def test_rates_that_harm_leave_the_start() -> None:
    model, data = _llama()
    harmed = efficientqat(model, data, replace(TRAINED, block_ap=BlockAp((0.9, 0.9), epochs=1)))
    start = efficientqat(model, data, replace(TRAINED, block_ap=BlockAp(epochs=0)))
    assert all(torch.equal(tensor, harmed.state_dict()[name]) for name, tensor in start.state_dict().items())


@pytest.mark.parametrize("distill", [False, True])
def test_the_second_phase_changes_steps_alone(distill: bool) -> None:
    model, data = _llama()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = efficientqat(model, data, ROUNDED)
    both = efficientqat(model, data, replace(ROUNDED, e2e_qp=E2eQp(3e-3, 3, distill)))
    moved = 0
    for name, layer in _layers(both).items():
        old, new = _layers(first)[name].weight, layer.weight
        assert torch.equal(old.codes, new.codes) and torch.equal(old.zero_point, new.zero_point)
        moved += int((old.scale.value != new.scale.value).sum())
    assert distill is False or moved > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    phase, held = E2eQp(distill=distill), data.batches[-1]
    with torch.no_grad():
        losses = [float(phase.loss(m, model, held)) for m in (first, both)]
    assert losses[1] <= losses[0]


def test_recomputed_blocks_give_the_same_bytes_from_fewer_kept_values() -> None:
    model, data = _llama()
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[-1] += tensor.nbytes
        return tensor

    made = []
    for checkpointing in (False, True):
        kept.append(0)
        options = replace(ROUNDED, e2e_qp=E2eQp(3e-3, 1, True, checkpointing=checkpointing))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            made.append(efficientqat(model, data, options).state_dict())
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    assert kept[1] < 0.8 * kept[0]


def test_with_inputs_in_codes_every_sum_is_that_of_the_same_integers(tmp_path: Path) -> None:
    model, data = _llama()
    real = efficientqat(model, data, ROUNDED)
    weights = {name: layer.weight.integers() for name, layer in _layers(real).items()}
    made = with_inputs(real)
    for name, layer in _layers(made).items():
        assert torch.equal(layer.weight.integers(), weights[name])
        values = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(1))
        assert layer.activation is not None
        scale, _ = layer.activation.parameters(values)
        sums = layer.accumulate(layer.activation.codes(values)).double()
        assert torch.equal(layer(values), (sums * (layer.weight.scale.value * scale)).float())
    quant.save_pretrained(made, tmp_path)
    loaded = quant.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**data.batches[0]).logits, made(**data.batches[0]).logits)


TWO = """
import json
from quant.methods.efficientqat.processes import joined, rank
from tests.quant.methods.efficientqat.test_quantise import _llama, _losses
with joined():
    found = _losses(*_llama())
if rank() == 0:
    print(json.dumps(found))
"""


def _losses(model: nn.Module, data: calibration.CalibrationData) -> dict[str, float]:
    made = efficientqat(model, data, ROUNDED)
    settings = quant.methods.post_training.quantisation_of(made).plan.resolve(quant.methods.layers.quantisable(model))
    return E2eQp(3e-3, 2).train(made, model, data.batches, settings)[1]


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_loss_of_one() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    done = subprocess.run([*command, sys.executable, "-c", TWO], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    alone = _losses(*_llama())
    assert json.loads(done.stdout) == pytest.approx(alone, rel=1e-5) and alone["after"] < alone["before"]


def _interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: Any) -> None:
    model, data = _llama()
    whole = efficientqat(model, data, BOTH)
    quant.save_pretrained(whole, tmp_path / "whole")
    with RunDirectory.open(tmp_path / "run", {}) as run, monkeypatch.context() as patch:
        patch.setattr(E2eQp, "train", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            efficientqat(model, data, BOTH, job=quant.Job(run))
    for again in ("once", "twice"):  # the second time nothing is trained
        with RunDirectory.open(tmp_path / "run", {}, resume=True) as run:
            resumed = efficientqat(model, data, BOTH, job=quant.Job(run))
        quant.save_pretrained(resumed, tmp_path / again)
        for path in (tmp_path / "whole").iterdir():
            assert path.read_bytes() == (tmp_path / again / path.name).read_bytes()
    loaded = quant.from_pretrained(tmp_path / "once")
    with torch.no_grad():
        assert torch.equal(loaded(**data.batches[0]).logits, whole(**data.batches[0]).logits)


@pytest.mark.parametrize("family", ["gpt2", "bert", "vit"])
def test_block_ap_takes_every_family(family: str) -> None:
    model, data, _, outside = made(family)
    found = efficientqat(model, data, Options(3, 16, BlockAp((1e-3, 1e-3), epochs=1)))
    assert len(_layers(found)) == len(
        [n for n in quant.methods.layers.quantisable(model) if "pooler" not in n and n != outside]
    )


def test_bits_per_weight_are_those_of_the_layout() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(64, 2, 1024, batch_first=True)
    model = nn.TransformerEncoder(layer, 1)
    found = efficientqat(model, [{"src": torch.randn(2, 4, 64)}] * 2, Options(2, 64))
    rows = quant.methods.post_training.quantisation_of(found).rows
    # codes, 2 bits; for each 64 a zero point and a multiplier; for each output a scale of 24 bits
    wide = next(row for row in rows if row["inputs"] == 1024)
    assert wide["stored_bits_per_weight"] == pytest.approx(2 + (2 + 8) / 64 + 24 / 1024, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Options(bits=5), "bits must be one of 2, 3, 4, not 5"),
        (lambda: BlockAp(rates=(2.0, 0.1)), "rates must be two numbers"),
        (lambda: BlockAp(epochs=-1), "epochs must be in"),
        (lambda: E2eQp(rate=0.0), "rate must be in"),
        (lambda: efficientqat(nn.Linear(4, 4), [{"input": torch.zeros(1, 4)}], ROUNDED), "no blocks"),
    ],
)
def test_options_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_data_that_cannot_train_are_refused_by_what_they_lack() -> None:
    llama, batches = _llama()
    embedded = [{"inputs_embeds": torch.zeros(1, 2, 32)}] * 2
    with pytest.raises(InputError, match="input_ids, which the data lack"):
        efficientqat(llama, embedded, Options(3, 16, None, E2eQp()))
    with pytest.raises(InputError, match="You must specify exactly one of input_ids"):
        efficientqat(made("bert")[0], [{"pixels": torch.zeros(1, 2)}] * 2, ROUNDED)
    with pytest.raises(InputError, match="two batches or more"):
        efficientqat(llama, calibration.load([batches.batches[0]]), TRAINED)


@pytest.mark.parametrize("family", ["vit", "bert"])
def test_the_second_phase_is_refused_before_any_work_for_other_models(family: str, monkeypatch: Any) -> None:
    model, data, _, _ = made(family)
    monkeypatch.setattr(BlockAp, "__call__", _interrupt)
    with pytest.raises(InputError, match="causal language model, not"):
        efficientqat(model, data, BOTH)


def test_experts_of_one_tensor_train_and_the_teacher_stays_folded() -> None:
    config = transformers.MixtralConfig(
        vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1,
    )  # fmt: skip
    model, (_, data) = transformers.MixtralForCausalLM(config).eval(), _llama()
    names = set(model.state_dict())
    found = efficientqat(model, data, replace(ROUNDED, e2e_qp=E2eQp(1e-3)))
    assert any("experts.1.down_proj" in name for name in _layers(found))
    assert set(model.state_dict()) == names


def test_masks_of_four_axes_and_single_tokens_have_a_loss() -> None:
    model, data = _llama()
    ids, phase = data.batches[0]["input_ids"], E2eQp()
    keys = torch.ones_like(ids)
    keys[:, 6:] = 0
    whole = (torch.ones(8, 8).tril().bool() & keys.bool()[:, None, :]).unsqueeze(1)
    with torch.no_grad():
        losses = [phase.loss(model, model, {"input_ids": ids, "attention_mask": mask}) for mask in (keys, whole)]
        torch.testing.assert_close(*losses)
        assert float(phase.loss(model, model, {"input_ids": ids[:, :1]})) == 0


def test_the_loss_before_is_that_of_the_packed_model_whatever_its_steps() -> None:
    model, data = _llama()
    for name, layer in quant.methods.layers.quantisable(model).items():
        if name.endswith(("q_proj", "k_proj")):
            layer.get_parameter("weight").data *= 1e-6  # steps far below those of the first phase
    nearest = efficientqat(model, data, ROUNDED)
    settings = quant.methods.post_training.quantisation_of(nearest).plan.resolve(
        quant.methods.layers.quantisable(model)
    )
    phase, layers = E2eQp(), _layers(nearest)
    assert all(
        torch.equal(StepLinear(layer, settings[name]).integers().group_multiplier, layer.weight.group_multiplier)
        for name, layer in layers.items()
    )
    with torch.no_grad():
        wanted = float(phase.loss(nearest, model, data.batches[-1]))
    assert phase.train(nearest, model, list(data), settings)[1]["before"] == wanted
