"""Quantising a model: the plan decides layer by layer, the original stays, saved and loaded integers are the same."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import quant
from quant.calibration import Sampling
from quant.methods import post_training
from quant.methods.post_training import Job, quantisation_of
from quant.plan import Plan, Rule
from quant.primitives.embedding import TiedEmbedding
from quant.primitives.linear import QuantisedLinear
from quant.run_directory import RunDirectory
from sim.reference import InputError
from sim.reference.gemm import GroupedLinear
from tests.quant.models import Encoder, batches, encoder

MIXED = Plan((
    Rule(".*", weight_bits=8),
    Rule("second", weight_bits=4, weight_granularity="group", group_size=8, weight_symmetric=False,
         activation_granularity="token"),
    Rule("head", activation_bits=None, weight_bits=6),
))  # fmt: skip


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([model(**batch) for batch in batches(9)])


def layer(model: nn.Module, name: str) -> QuantisedLinear:
    found = model.get_submodule(name)
    assert isinstance(found, QuantisedLinear)
    return found


def test_the_plan_decides_layer_by_layer_and_the_original_stays():
    model = encoder()
    before, weight = outputs(model), model.first.weight.clone()
    made = quant.quantize(model, MIXED, batches())
    assert (
        type(model.first) is nn.Linear
        and torch.equal(outputs(model), before)
        and torch.equal(model.first.weight, weight)
    )
    first, second, head = (layer(made, name) for name in ("first", "second", "head"))
    assert first.bits == 8 and first.activation is not None and first.activation.scale is not None
    assert second.bits == 4 and not second.signed and second.group_size == 8
    assert second.activation is not None and second.activation.scale is None
    assert head.bits == 6 and head.activation is None
    assert float((outputs(made) - before).abs().max()) < 0.1 * float(before.abs().max())
    assert not torch.equal(outputs(made), before)


def test_more_bits_are_nearer_to_the_original():
    model = encoder()
    before = outputs(model)
    errors = [
        float(
            (outputs(quant.quantize(model, Plan.uniform(weight_bits=b, activation_bits=b), batches())) - before).norm()
        )
        for b in (2, 4, 6, 8)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 20


def test_a_skipped_layer_stays_and_inplace_changes_the_model_itself():
    model = encoder()
    made = quant.quantize(model, Plan.uniform(skip="head", activation_bits=None), inplace=True)
    assert made is model and type(made.get_submodule("head")) is nn.Linear
    assert made.get_submodule("head").weight is made.get_submodule("embedding").weight


def test_calibration_ignores_padding():
    model = encoder()
    with torch.no_grad():
        model.embedding.weight[0] = 1000  # only padding has it

    def scale(data: list[dict[str, torch.Tensor]]) -> float:
        activation = layer(quant.quantize(model, Plan.uniform(skip="head"), data), "first").activation
        assert activation is not None and activation.scale is not None
        return float(activation.scale.value)

    assert scale(batches()) < 0.1 < 1 < scale([{"input_ids": batch["input_ids"]} for batch in batches()])


def test_a_layer_used_twice_is_one_layer_and_a_shared_one_is_replaced_everywhere():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared))
    made = quant.quantize(model, Plan.uniform(activation_bits=None))
    assert made.get_submodule("0") is made.get_submodule("2.0") and isinstance(made.get_submodule("0"), QuantisedLinear)


@pytest.mark.parametrize("grad", [False, True])
def test_pytorchs_encoder_is_taken_off_its_fused_path(grad, tmp_path):
    def fresh(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2).eval()

    model, values = fresh(0), torch.randn(4, 6, 32)
    padding = torch.zeros(4, 6, dtype=torch.bool)
    padding[:, 4:] = True
    data = [{"src": values, "src_key_padding_mask": padding}]
    with torch.set_grad_enabled(grad):
        made = quant.quantize(model, Plan.uniform(), data)
        assert torch.backends.mha.get_fastpath_enabled()
        quant.save_pretrained(made, tmp_path)
        again = quant.from_pretrained(tmp_path, fresh(1))
        before, after, loaded = (m(**data[0])[:, :4] for m in (model, made, again))
    assert [row["module"] for row in quantisation_of(made).rows] == [
        f"layers.{i}.{layer}"
        for i in (0, 1)
        for layer in (*(f"self_attn.{part}" for part in ("query", "key", "value", "out_proj")), "linear1", "linear2")
    ]
    assert 0 < float((before - after).abs().max()) < 0.1 and torch.equal(after, loaded)


def test_gpt2s_transposed_layers_are_quantised_as_linear_ones():
    from transformers.pytorch_utils import Conv1D

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Conv1D(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    torch.manual_seed(0)
    model = Model()
    linear = nn.Linear(4, 8)
    linear.weight.data, linear.bias.data = model.layer.weight.t().contiguous(), model.layer.bias.data
    values = torch.randn(3, 4)
    data = [{"x": values}]
    made = quant.quantize(model, Plan.uniform(), data)
    plain = quant.quantize(nn.Sequential(linear), Plan.uniform(), [{"input": values}])
    assert torch.equal(made(values), plain(values)) and made.get_submodule("layer").in_features == 4


def test_save_and_load_give_the_same_integers_and_the_same_outputs(tmp_path):
    made = quant.quantize(encoder(), MIXED, batches())
    quant.save_pretrained(made, tmp_path / "one")
    again = quant.from_pretrained(tmp_path / "one", Encoder())
    assert torch.equal(outputs(again), outputs(made))
    quant.save_pretrained(again, tmp_path / "two", shard_bytes=500)
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 2
    third = quant.from_pretrained(tmp_path / "two", Encoder())
    for name in ("first", "second", "head"):
        a, b = (layer(m, name) for m in (made, third))
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(outputs(third), outputs(made))
    quant.save_pretrained(third, tmp_path / "three", shard_bytes=500)
    assert {p.name: p.read_bytes() for p in (tmp_path / "three").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "two").iterdir()
    }


def test_tied_parameters_are_stored_once_and_tied_again(tmp_path):
    made = quant.quantize(encoder(), Plan.uniform(skip="head", activation_bits=None))
    quant.save_pretrained(made, tmp_path)
    content = json.loads((tmp_path / "packed.json").read_text())
    assert content["details"]["tied"] == {"head.weight": "embedding.weight"}
    assert torch.equal(outputs(quant.from_pretrained(tmp_path, Encoder())), outputs(made))


def test_an_embedding_tied_to_a_quantised_layer_is_stored_once_and_looks_up_its_rows(tmp_path):
    model = encoder()
    made = quant.quantize(model, MIXED, batches())
    embedding, weight = made.get_submodule("embedding"), layer(made, "head").weight
    assert isinstance(embedding, TiedEmbedding) and embedding.layer is made.get_submodule("head")
    ids = torch.tensor([[3, 0], [19, 7]])
    assert torch.equal(embedding(ids), weight.dequantise()[ids]) and torch.equal(embedding.weight, weight.dequantise())
    quant.save_pretrained(made, tmp_path)
    content = json.loads((tmp_path / "packed.json").read_text())
    assert content["details"]["tied"] == {"embedding.weight": "head.weight"}
    assert "embedding.weight" not in content["tensors"]
    loaded = quant.from_pretrained(tmp_path, Encoder())
    assert torch.equal(outputs(loaded), outputs(made)) and torch.equal(outputs(copy.deepcopy(made)), outputs(made))
    quant.save_pretrained(loaded, tmp_path / "again")
    assert (tmp_path / "again" / "packed.json").read_text() == (tmp_path / "packed.json").read_text()


def test_the_same_data_and_plan_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        quant.save_pretrained(quant.quantize(encoder(), MIXED, batches()), tmp_path / name)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()
    }


def test_a_model_that_does_not_fit_is_one_line_with_the_key(tmp_path):
    quant.save_pretrained(quant.quantize(encoder(), Plan.uniform(activation_bits=None)), tmp_path)
    with pytest.raises(InputError, match=r"packed\.json: first\.weight must be of shape \(32, 8\), not \(32, 16\)$"):
        quant.from_pretrained(tmp_path, Encoder(width=8))
    with pytest.raises(InputError, match=r"packed\.json: first must be a linear layer of the model$"):
        quant.from_pretrained(tmp_path, nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(InputError, match="must come from quantize"):
        quant.save_pretrained(encoder(), tmp_path)


def test_mistakes_are_one_line_with_the_module_or_rule():
    model, plan = encoder(), Plan.uniform()
    with pytest.raises(InputError, match=r"^rules\[1\]: 'third' matches no module of 3, the first 'first'$"):
        quant.quantize(model, Plan((Rule(".*"), Rule("third", weight_bits=4))), batches())
    with pytest.raises(InputError, match=r"^data must be given: first and 2 more have static activation scales"):
        quant.quantize(model, plan)
    with pytest.raises(InputError, match=r"^data: the data set is empty$"):
        quant.quantize(model, plan, [])
    with pytest.raises(InputError, match=r"^plan: every layer is skipped"):
        quant.quantize(model, Plan((Rule(".*", skip=True),)), batches())
    with pytest.raises(
        InputError, match=r"^data: got an unexpected keyword argument 'ids'; Encoder takes input_ids, atten"
    ):
        quant.quantize(model, plan, [batches()[0] | {"ids": torch.ones(1, 2)}])
    poisoned = encoder()
    with torch.no_grad():
        poisoned.norm.weight[0] = poisoned.norm.bias[0] = 3e38
    with pytest.raises(InputError, match=r"^head: \d+ of \d+ calibration values are NaN or infinite$"):
        quant.quantize(poisoned, plan, batches())
    with torch.no_grad():
        poisoned.second.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"^second\.weight: holds NaN or infinite values$"):
        quant.quantize(poisoned, plan, batches())


def test_the_sampling_is_that_of_the_data():
    made = quant.quantize(encoder(), Plan.uniform(), batches(), sampling=Sampling(samples=2))
    whole = quant.quantize(encoder(), Plan.uniform(), batches())
    assert quantisation_of(made).data_sha256 != quantisation_of(whole).data_sha256
    assert [row["module"] for row in quantisation_of(whole).rows] == ["first", "second", "head"]


def test_an_interrupted_run_resumes_and_gives_the_same_bytes(tmp_path, monkeypatch):
    quant.save_pretrained(quant.quantize(encoder(), MIXED, batches()), tmp_path / "whole")
    calls: list[int] = []
    real = post_training.quantise_weight

    def counting(weight, settings):
        calls.append(weight.shape[0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(weight, settings)

    monkeypatch.setattr(post_training, "quantise_weight", counting)
    configuration = {"plan": MIXED.to_dict()}
    with pytest.raises(KeyboardInterrupt), RunDirectory.open(tmp_path / "run", configuration) as run:
        quant.quantize(encoder(), MIXED, batches(), job=Job(run))
    calls[:] = [0, 0]
    observed = []
    monkeypatch.setattr(post_training, "observe", lambda *_: observed.append(1))
    with RunDirectory.open(tmp_path / "run", configuration, resume=True) as run:
        made = quant.quantize(encoder(), MIXED, batches(), job=Job(run))
    assert calls == [0, 0, 16, 20] and not observed, "the first layer and calibration were done"
    quant.save_pretrained(made, tmp_path / "resumed")
    assert {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "resumed").iterdir()
    }


def test_the_coverage_names_what_stays_in_floating_point(tmp_path):
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1).eval()
    made = quant.quantize(model, Plan.uniform(skip="layers.0.linear2", activation_bits=None))
    coverage = quantisation_of(made).coverage
    integer = 4 * 16 * 16 + 16 * 32
    assert coverage["skipped"] == {"layers.0.linear2": "Linear"}
    assert coverage["skipped_layers"] == ["layers.0.linear2"] and coverage["integer_parameters"] == integer
    assert coverage["parameters"] == sum(p.numel() for p in model.parameters())
    assert coverage["integer_multiply_accumulates"] == integer
    assert coverage["multiply_accumulates"] == 4 * 16 * 16 + 2 * 16 * 32
    assert coverage["share"] == pytest.approx(coverage["integer_parameters"] / coverage["parameters"])
    quant.save_pretrained(made, tmp_path)
    assert json.loads((tmp_path / "packed.json").read_text())["details"]["coverage"] == coverage


@pytest.mark.parametrize("change, message", [
    (lambda m: m.norm.weight.data.fill_(float("nan")), r"^norm\.weight: holds NaN or infinite values$"),
    (lambda m: setattr(m.first, "bias", nn.Parameter(torch.ones(32, dtype=torch.complex64))),
     r"^first\.bias: must be real, not torch\.complex64$"),
    (lambda m: m.second.weight.data.fill_(1e30), r"^second\.weight: scale must be below 65536"),
])  # fmt: skip
def test_numbers_that_cannot_be_quantised_are_refused_without_calibration(change, message):
    model = encoder()
    change(model)
    with pytest.raises(InputError, match=message):
        quant.quantize(model, Plan.uniform(activation_bits=None))


@pytest.mark.parametrize("multiplier_bits, coarse, least, most", [(8, 15, 10, 12), (16, 0, 25, 26)])
def test_an_outlier_that_starves_the_other_groups_shows_in_the_row(multiplier_bits, coarse, least, most):
    torch.manual_seed(0)
    linear = nn.Linear(256, 1, bias=False)
    with torch.no_grad():
        linear.weight[0, 0] = 1000 * linear.weight.abs().max()
    model = nn.Sequential(linear)
    plan = Plan.uniform(weight_bits=4, weight_granularity="group", group_size=16, multiplier_bits=multiplier_bits,
                        activation_bits=None)  # fmt: skip
    (row,) = quantisation_of(quant.quantize(model, plan)).rows
    assert row["weight_sqnr_db"] > 30, "the outlier alone decides it"
    assert row["coarse_groups"] == coarse and least < row["group_sqnr_db"] < most
    line = post_training.advice([row])
    assert (line is None) == (coarse == 0) and (line is None or "multiplier_bits 16" in line)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_specification_takes_every_width_that_a_plan_gives(bits, symmetric):
    model = nn.Sequential(nn.Linear(12, 3))
    made = quant.quantize(model, Plan.uniform(weight_bits=bits, weight_symmetric=symmetric, activation_bits=8,
                                              activation_granularity="token"))  # fmt: skip
    weight = layer(made, "0").weight
    same = GroupedLinear(
        weight.codes.long().numpy(), np.zeros(3, np.int64), weight.scale.multiplier.numpy(), weight.scale.shift.numpy(),
        weight_bits=bits, weight_signed=symmetric, zero_points=None if symmetric else weight.zero_point.numpy(),
    )  # fmt: skip
    codes = torch.arange(-6, 6)[None]
    assert np.array_equal(same.accumulate(codes.numpy()), layer(made, "0").accumulate(codes).numpy())


def test_data_that_are_all_padding_are_refused_in_one_line_and_one_such_batch_is_passed_over():
    data = batches()
    empty = {"input_ids": torch.zeros(2, 6, dtype=torch.long), "attention_mask": torch.zeros(2, 6, dtype=torch.long)}
    with pytest.raises(InputError, match=r"^data: every token is padding$"):
        quant.quantize(encoder(), Plan.uniform(), [empty, empty])
    made, without = (quant.quantize(encoder(), Plan.uniform(), d) for d in ([empty, *data], data))
    assert torch.equal(outputs(made), outputs(without))


@pytest.mark.parametrize("kind", ["Roberta", "MPNet"])
def test_positions_that_count_from_behind_the_padding_are_refused_where_the_table_ends(kind):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=10, pad_token_id=1,
    )  # fmt: skip
    model = getattr(transformers, f"{kind}Model")(config).eval()
    fitting, long = ([{"input_ids": torch.full((1, n), 5)}] for n in (8, 9))
    quant.quantize(model, Plan.uniform(), fitting)
    with pytest.raises(InputError, match=r"^data: sequences must have at most 8 tokens for this model, not 9 \("):
        quant.quantize(model, Plan.uniform(), long)


def test_a_decoder_without_its_ids_is_one_line():
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    model, data = transformers.T5Model(config), [{"input_ids": torch.ones(1, 4, dtype=torch.long)}]
    with pytest.raises(InputError, match=r"^data: T5Model: .*; its decoder needs decoder_input_ids$"):
        quant.quantize(model, Plan.uniform(), data)
