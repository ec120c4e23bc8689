"""ZeroQuant: groups of rows, mixed bits by name, and a distilled model that is packed as it was trained."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant import calibration
from quant.methods.blocks import Block, Layer
from quant.methods.distillation import Distillation, TrainedLinear
from quant.methods.zeroquant import BITS, Scheme, random_tokens, zeroquant
from quant.plan import Plan, Rule, Settings
from quant.primitives.linear import QuantisedLinear
from quant.primitives.quantisers import ActivationQuantiser, quantise_weight
from quant.run_directory import RunDirectory
from sim.reference import InputError
from tests.quant.methods.test_blocks import made
from tests.quant.models import same

W3 = Scheme("3/8", granularity="rows", groups=2)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("groups", [1, 2, 8, 32])
def test_a_block_of_rows_shares_a_scale_and_holds_its_largest_weight(bits: int, groups: int) -> None:
    matrix = torch.randn(32, 24, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-2, 0, 32)[:, None]
    settings = Settings(weight_bits=bits, weight_granularity="rows", row_groups=groups, weight_observer="minmax")
    made = quantise_weight(matrix, settings)
    scales = made.scale.value.reshape(groups, -1)
    assert bool((scales == scales[:, :1]).all())
    largest = matrix.abs().reshape(groups, -1).amax(1).double()
    assert made.dequantise(torch.float64).abs().reshape(groups, -1).amax(1) == pytest.approx(largest, rel=1e-4)
    alike = {1: "tensor", 32: "channel"}.get(groups)
    if alike is not None:
        other = replace(settings, weight_granularity=alike, row_groups=None)
        assert same(made, quantise_weight(matrix, other))


def test_blocks_of_rows_must_divide_the_outputs() -> None:
    model, data, _, _ = made("llama")
    with pytest.raises(InputError, match=r"layers.0.self_attn.q_proj.weight: row_groups must divide the 32 outputs"):
        zeroquant(model, data, Scheme(groups=5))
    with pytest.raises(InputError, match=r"layers.0.self_attn.q_proj.weight: row_groups must divide the 32 outputs"):
        zeroquant(model, data, Scheme(groups=5), Distillation())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight_granularity": "rows"}, "needs row_groups"),
        ({"row_groups": 4}, 'row_groups needs weight_granularity "rows"'),
        ({"weight_granularity": "group", "group_size": 8, "row_groups": 4}, "row_groups needs"),
        ({"weight_granularity": "rows", "row_groups": 0}, "row_groups must be in"),
    ],
)
def test_settings_of_rows_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**given)


def test_a_rule_with_groups_forgets_those_of_another_kind() -> None:
    plan = Plan((Rule(".*", group_size=16), Rule("a|b", row_groups=4), Rule("b", weight_granularity="channel")))
    found = plan.resolve(["a", "b", "c"])
    kinds = [(s.weight_granularity, s.group_size, s.row_groups) for s in found.values()]
    assert kinds == [("rows", None, 4), ("channel", None, None), ("group", 16, None)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "vit", "segformer"])
@pytest.mark.parametrize("weights", BITS)
def test_every_scheme_gives_attention_and_feed_forward_their_bits(family: str, weights: str) -> None:
    model, _, _, outside = made(family)
    plan = Scheme(weights, groups=2).plan(model, outside if family == "segformer" else None)
    low, _, high = weights.partition("/")
    settings = {name: s for name, s in plan.resolve(quant.methods.layers.quantisable(model)).items() if not s.skip}
    assert settings
    for name, chosen in settings.items():
        attention = "attn" in name or "attention" in name
        assert chosen.weight_bits == int(high if attention and high else low)


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize(
    "granularity", [{"weight_granularity": "channel"}, {"weight_granularity": "group", "group_size": 8}]
)
def test_a_layer_in_training_equals_the_integer_layer(bits: int, granularity: dict[str, Any]) -> None:
    torch.manual_seed(0)
    settings = Settings(weight_bits=bits, weight_observer="minmax", activation_granularity="token", **granularity)
    layer = Layer("linear", nn.Linear(24, 16), settings, ActivationQuantiser(8))
    trained = TrainedLinear(layer)
    optimiser = torch.optim.SGD(trained.parameters(), lr=0.3)
    for _ in range(3):
        values = torch.randn(5, 24)
        result = trained(values)
        integer = QuantisedLinear(trained.integers(), trained.bias, layer.activation)
        assert torch.equal(result, integer(values))
        optimiser.zero_grad()
        result.square().sum().backward()
        optimiser.step()


@torch.no_grad()
def _error(model: nn.Module, other: nn.Module, data: calibration.CalibrationData) -> float:
    """Mean squared error of the hidden states after the last block."""
    bodies = [m.get_submodule("model") for m in (model, other)]
    states = [[body(**batch).last_hidden_state for body in bodies] for batch in data]
    return float(torch.stack([(a - b).square().mean() for a, b in states]).mean())


@pytest.mark.slow
def test_distillation_lowers_the_error_and_leaves_the_original_alone() -> None:
    model, data, _, _ = made("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rounded = zeroquant(model, data, W3)
    distilled = zeroquant(model, data, W3, Distillation(steps=40, rates=(1e-3,)))
    assert _error(model, distilled, data) < 0.8 * _error(model, rounded, data)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_only_the_block_at_hand_trains_norms_and_biases_too() -> None:
    model, data, _, outside = made("bert")
    distilled = zeroquant(model, data, W3, Distillation(steps=3, rates=(1e-2,)), skip=outside)
    old, new = model.state_dict(), distilled.state_dict()
    kept = {name for name in old if name in new and old[name].is_floating_point() and torch.equal(old[name], new[name])}
    assert all(not name.startswith("encoder.layer") for name in kept)
    assert {name for name in old if not name.startswith("encoder.layer")} == kept | {
        name for name in old if name.startswith("pooler") and name not in new
    }


def test_of_several_rates_the_best_on_held_out_batches_is_taken() -> None:
    model, data, _, _ = made("llama")
    both = zeroquant(model, data, W3, Distillation(steps=5, rates=(0.5, 1e-4))).state_dict()
    one = calibration.load([data.batches[0]])
    good = zeroquant(model, one, W3, Distillation(steps=5, rates=(1e-4,))).state_dict()
    name = "model.layers.0.self_attn.q_proj.codes"
    assert torch.equal(both[name], good[name])
    with pytest.raises(InputError, match="two batches or more"):
        zeroquant(model, one, W3, Distillation(rates=(1e-3, 1e-4)))


class _Interrupted(Distillation):
    """Distillation that fails at a block."""

    def __call__(self, block: Block, streams: Any) -> Any:
        if block.name.endswith("2"):
            raise KeyboardInterrupt
        return super().__call__(block, streams)


def test_an_interrupted_distillation_resumes_to_the_same_bytes(tmp_path: Any) -> None:
    model, data, _, _ = made("llama")
    options = {"steps": 4, "rates": (1e-3,)}
    quant.save_pretrained(zeroquant(model, data, W3, Distillation(**options)), tmp_path / "whole")
    with RunDirectory.open(tmp_path / "run", {}) as run, pytest.raises(KeyboardInterrupt):
        zeroquant(model, data, W3, _Interrupted(**options), job=quant.Job(run))
    with RunDirectory.open(tmp_path / "run", {}, resume=True) as run:
        again = zeroquant(model, data, W3, Distillation(**options), job=quant.Job(run))
    quant.save_pretrained(again, tmp_path / "again")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    batch = data.batches[0]
    loaded = quant.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, again(**batch).logits)


def test_a_diverging_block_stops_with_its_name_and_what_is_done_is_kept(tmp_path: Any) -> None:
    model, data, _, outside = made("bert")
    with torch.no_grad():
        model.get_parameter("encoder.layer.1.output.LayerNorm.weight").fill_(1e25)
    with RunDirectory.open(tmp_path, {}) as run:
        with pytest.raises(InputError, match=r"encoder.layer.1: the loss of step 0 is inf"):
            zeroquant(model, data, W3, Distillation(steps=2), skip=outside, job=quant.Job(run))
        assert run.done("block encoder.layer.0") is not None


@pytest.mark.parametrize(
    ("layer", "bits"), [("encoder.0.SelfAttention", 8), ("encoder.0.EncDecAttention", 8), ("encoder.0.mixer", None)]
)
def test_attention_is_found_by_its_name_or_refused(layer: str, bits: int | None) -> None:
    last = layer.rpartition(".")[2]
    block = nn.ModuleDict({last: nn.ModuleDict({"q": nn.Linear(8, 8)}), "wi": nn.Linear(8, 8)})
    model = nn.ModuleDict({"encoder": nn.ModuleList([block])})
    if bits is None:
        with pytest.raises(InputError, match='weights "4/8": no layer is named as attention; use "4"'):
            Scheme("4/8", groups=2).plan(model)
        return
    names = quant.methods.layers.quantisable(model)
    found = Scheme("4/8", groups=2).plan(model).resolve(names)
    assert {name: s.weight_bits for name, s in found.items()} == {f"{layer}.q": bits, "encoder.0.wi": 4}


def test_of_several_rates_one_that_diverges_loses() -> None:
    model, data, _, _ = made("llama")
    whole = calibration.load(data.batches * 4)
    both = zeroquant(model, whole, W3, Distillation(steps=3, rates=(0.999, 1e-4)))
    real = Distillation._train

    def train(self: Distillation, block: Block, streams: Any, used: Any, rate: float) -> None:
        if rate == 0.999:
            with torch.no_grad():
                for parameter in block.module.parameters():
                    parameter.fill_(torch.nan)
        real(self, block, streams, used, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Distillation, "_train", train)
        left = zeroquant(model, whole, W3, Distillation(steps=3, rates=(0.999, 1e-4)))
        with pytest.raises(InputError, match=r"the loss of step 0 is nan|NaN"):
            zeroquant(model, whole, W3, Distillation(steps=3, rates=(0.999,)))
    assert all(torch.equal(tensor, left.state_dict()[name]) for name, tensor in both.state_dict().items())


def test_random_tokens_are_in_the_vocabulary_and_repeat() -> None:
    model, _, _, _ = made("llama")
    sampling = calibration.Sampling(samples=10, sequence_length=6, batch_size=4)
    data = random_tokens(model, sampling)
    assert [len(batch["input_ids"]) for batch in data] == [4, 4, 2]
    assert data.digest == random_tokens(model, sampling).digest
    with pytest.raises(InputError, match="vocabulary"):
        random_tokens(made("torch")[0], sampling)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "5"}, "weights must be one of"),
        ({"activations": 16}, "activations must be 4 or 8"),
        ({"granularity": "column"}, "granularity must be one of"),
        ({"granularity": "channel", "groups": 3}, "groups needs"),
    ],
)
def test_schemes_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scheme(**given)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="no blocks"):
        zeroquant(nn.Linear(4, 4))
