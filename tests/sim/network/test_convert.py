"""Whole networks: close to the model they come from, the same in training, integer throughout; the rest is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import quant
from quant import Plan, Rule
from sim.network.convert import convert, names
from sim.network.converters.describe import describe
from sim.network.integer_only import require_integer
from sim.network.operators import exact_gemm
from sim.network.operators.base import set_mode
from sim.network.operators.linear import Linear
from sim.reference import InputError
from tests.sim.network.models import EXACT, Batch, bert, plan, real_batches, token_batches, torch_encoder


def difference(model: nn.Module, network: nn.Module, batch: Batch) -> float:
    """Relative root mean square difference of what counts."""
    with torch.no_grad():
        expected: Any = model(**batch)
        got = network(**batch).last_hidden_state
    if not isinstance(expected, torch.Tensor):
        expected = expected.last_hidden_state
    mask = batch["attention_mask"] != 0 if "attention_mask" in batch else ~batch["src_key_padding_mask"]
    return float((expected - got)[mask].norm() / expected[mask].norm())


KINDS = ["Bert", "Roberta", "XLMRoberta", "Camembert", "DistilBert", "Electra", "MPNet"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_of_bert_is_close_in_integers_and_integer_throughout(kind):
    model, data = bert(kind), token_batches()
    network = convert(model, plan(EXACT), data)
    held_out = token_batches(1, seed=9)[0]
    exact_gemm._int_mm_is_exact.cache_clear()  # its self-test is looked at too
    counts = require_integer(network, **held_out)
    assert counts.operations > 200 and counts.products > 20
    assert difference(model, network, held_out) < 0.05
    assert network.codes(**held_out).dtype == torch.int16


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_first": True},
        {"activation": "relu"},
        {"activation": functional.silu, "norm_first": True},
        {"activation": nn.GELU("tanh"), "bias": False},
        {"activation": nn.Hardswish()},
    ],
)
def test_every_kind_of_transformer_encoder_is_close_in_integers(changes):
    model = torch_encoder(final=nn.LayerNorm(32) if changes.get("norm_first") else None, **changes)
    network = convert(model, plan(EXACT), real_batches())
    held_out = real_batches(1, seed=9)[0]
    assert difference(model, network, held_out) < 0.05
    assert require_integer(network, **held_out).products > 20


def test_the_batch_may_come_second_and_the_norm_may_be_an_rms_norm():
    model = torch_encoder(final=nn.RMSNorm(32), norm_first=True, batch_first=False)
    data = [{"src": batch["src"].transpose(0, 1)} for batch in real_batches()]
    network = convert(model, plan(EXACT), data)
    with torch.no_grad():
        expected, got = model(**data[0]), network(**data[0]).last_hidden_state
    assert got.shape == expected.shape and float((expected - got).norm() / expected.norm()) < 0.05


def test_an_attention_mask_between_positions_is_kept_to():
    model = torch_encoder()
    data = [{"src": batch["src"], "mask": torch.ones(12, 12, dtype=torch.bool).triu(1)} for batch in real_batches()]
    network = convert(model, plan(EXACT), data)
    changed = {**data[0], "src": data[0]["src"].clone()}
    changed["src"][:, 6:] += 1
    assert torch.equal(network.codes(**data[0])[:, :6], network.codes(**changed)[:, :6])
    assert not torch.equal(network.codes(**data[0])[:, 6:], network.codes(**changed)[:, 6:])


def test_padding_changes_nothing():
    network = convert(bert(), plan(), token_batches())
    batch = token_batches(1)[0]
    other = {**batch, "input_ids": torch.where(batch["attention_mask"] != 0, batch["input_ids"], 17)}
    mask = batch["attention_mask"] != 0
    assert torch.equal(network.codes(**batch)[mask], network.codes(**other)[mask])
    alone = {key: value[1:2, : int(mask[1].sum())] for key, value in batch.items()}
    assert torch.equal(network.codes(**alone)[0], network.codes(**batch)[1][mask[1]])


@pytest.mark.parametrize("granularity", ["token", "tensor"])
def test_training_sees_the_integer_network_and_every_weight_has_a_gradient(granularity):
    model = torch_encoder(final=nn.LayerNorm(32), norm_first=True)
    network = convert(model, plan(activation_granularity=granularity), real_batches())
    batch = real_batches(1, seed=3)[0]
    codes = network.codes(**batch)
    set_mode(network, "fake")
    got = network.stream(**batch)
    assert torch.equal(network.last.outputs[0].codes(got), codes)
    (got * torch.randn(got.shape)).sum().backward()
    for name, parameter in network.named_parameters():
        zero = ".qkv.layers.1.bias" in name  # softmax does not see the keys' bias
        assert parameter.grad is not None and (zero or parameter.grad.abs().max() > 0), name


def test_what_is_learnt_is_in_the_integers():
    model, batch = torch_encoder(final=nn.LayerNorm(32), norm_first=True), real_batches(1)[0]
    network = convert(model, plan(), real_batches())
    with torch.no_grad():
        goal = network.stream(**batch).double() * network.last.outputs[0].scale + 0.3
    before = network.codes(**batch)
    with pytest.raises(InputError, match='codes need every operator in the mode "integer"'):
        set_mode(network, "fake")
        network.codes(**batch)
    vectors, matrices = ([p for p in network.parameters() if p.ndim == n] for n in (1, 2))
    optimiser = torch.optim.Adam([{"params": vectors, "lr": 0.02}, {"params": matrices, "lr": 0.001}])
    losses = []
    for _ in range(10):
        got = network.stream(**batch)
        loss = (got - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    last = network.stream(**batch)
    set_mode(network, "integer")
    codes = network.codes(**batch)
    assert torch.equal(network.last.outputs[0].codes(last), codes) and not torch.equal(codes, before)


def test_a_table_of_embeddings_that_is_learnt_is_in_the_integers():
    import copy

    network = convert(copy.deepcopy(bert()), plan(), token_batches())
    batch = token_batches(1)[0]
    before = network.codes(**batch)
    with torch.no_grad():
        network["embedding"].tables[0].weight.mul_(0.5)
    set_mode(network, "integer")
    assert not torch.equal(network.codes(**batch), before)


def test_tables_cost_more_than_the_control_and_two_entries_much_more():
    from tests.sim.tables import secant_table

    model, data, held_out = bert(), token_batches(), token_batches(1, seed=9)[0]
    coarse = EXACT | {f: secant_table(f, 2) for f in ("gelu", "exp", "div", "rsqrt")}
    errors = [difference(model, convert(model, plan(tables), data), held_out) for tables in (EXACT, coarse)]
    assert errors[1] > 3 * errors[0]


def test_weights_of_four_bits_in_groups_are_coarser_but_work():
    model, data, held_out = bert(), token_batches(), token_batches(1, seed=9)[0]
    fine = difference(model, convert(model, plan(EXACT), data), held_out)
    grouped = plan(EXACT, weight_bits=4, weight_granularity="group", group_size=16, weight_symmetric=False)
    coarse = difference(model, convert(model, grouped, data), held_out)
    assert fine < coarse < 0.5


@pytest.mark.parametrize(
    "model, data", [(bert, token_batches), (lambda: torch_encoder(activation="relu"), real_batches)]
)
@pytest.mark.parametrize("granularity", ["token", "tensor"])
def test_activations_have_the_bits_of_the_plan(model, data, granularity):
    network = convert(model(), plan(EXACT, activation_bits=4, activation_granularity=granularity), data())
    widest = {}

    def watch(linear, arguments, _output):
        codes = linear.activations(arguments[0])[0]
        widest[linear.name] = int(codes.abs().max())

    for operator in network.operators():
        if isinstance(operator, Linear):
            operator.register_forward_hook(watch)
    network.codes(**data(1)[0])
    assert len(widest) == 8 and all(4 <= top <= 8 for top in widest.values())


def test_the_observer_of_the_plan_decides_a_static_scale():
    scales = {}
    for observer, percentile in (("minmax", 99.99), ("percentile", 70.0), ("mse", 99.99)):
        settings = dict(activation_granularity="tensor", activation_observer=observer, percentile=percentile)
        network = convert(bert(), plan(EXACT, **settings), token_batches())
        source = network["layers.1.up"].source
        assert source.kind == "static"
        scales[observer] = source.unit
    assert scales["percentile"] < scales["mse"] <= scales["minmax"]


@pytest.mark.parametrize("activation_bits", [None, 8])
def test_layers_that_were_quantised_before_keep_their_codes(activation_bits):
    import copy

    weights = dict(weight_bits=4, weight_granularity="group", group_size=16)
    rules = (Rule("encoder.*", activation_bits=activation_bits, **weights),)
    packed = quant.quantize(copy.deepcopy(bert()), Plan(rules), token_batches())
    network = convert(packed, plan(EXACT), token_batches())
    layer: Any = packed.get_submodule("encoder.layer.0.output.dense")
    kept: Any = network["layers.0.down"].packed[0]
    assert torch.equal(kept.codes, layer.weight.codes) and kept.codes.abs().max() <= 8
    assert difference(packed, network, token_batches(1, seed=9)[0]) < 0.1
    assert (layer.activation is None) == (activation_bits is None)  # it is as it was


def test_the_integer_check_finds_a_single_float(monkeypatch):
    network = convert(bert(), plan(), token_batches())
    add = network["layers.1.add1"]
    honest = add.integer
    monkeypatch.setattr(add, "integer", lambda a, b: honest(a, b).float().to(torch.int16))
    with pytest.raises(InputError, match=r"floating point \(torch.float32\) in the integer network"):
        require_integer(network, **token_batches(1)[0])


def test_the_same_conversion_gives_the_same_integers():
    first, second = (convert(bert(), plan(), token_batches()) for _ in range(2))
    batch = token_batches(1, seed=4)[0]
    assert torch.equal(first.codes(**batch), second.codes(**batch))


def test_the_model_is_left_as_it_was():
    model = bert().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    convert(model, plan(), token_batches())
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()


# ---- what is refused, by name


class Odd(nn.Module):
    def forward(self, x):
        return x


def changed_bert(path: str, module: nn.Module) -> nn.Module:
    import copy

    model = copy.deepcopy(bert())
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
    return model


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: nn.Linear(3, 3), "model must be a model that can be converted, not Linear"),
        (lambda: changed_bert("encoder.layer.1.extra", Odd()), "encoder.layer.1.extra: Odd has no integer operator"),
        (
            lambda: changed_bert("encoder.layer.0.output.LayerNorm", nn.BatchNorm1d(32)),
            "encoder.layer.0.output.LayerNorm: BatchNorm1d has no integer operator",
        ),
        (
            lambda: changed_bert("encoder.layer.0.intermediate.dense", Odd()),
            "encoder.layer.0.intermediate.dense: Odd has no integer operator",
        ),
        (lambda: bert(hidden_act="tanh"), "config: hidden_act must be one of .*, not 'tanh'"),
        (lambda: bert(is_decoder=True), "config: is_decoder must be False for the integer network, not True"),
        (
            lambda: torch_encoder(activation=functional.softplus),
            "layers.0.activation: softplus has no integer operator",
        ),
    ],
)
def test_what_has_no_integer_operator_is_refused_by_name(model, message):
    with pytest.raises(InputError, match=message):
        describe(model())


def test_the_model_inside_one_with_a_head_is_converted():
    import transformers

    whole: Any = transformers.BertForSequenceClassification(bert().config).eval()  # pyright: ignore
    network, batch = convert(whole, plan(), token_batches()), token_batches(1)[0]
    assert torch.equal(network.codes(**batch), convert(whole.bert, plan(), token_batches()).codes(**batch))
    assert names(network) == names(describe(whole.bert))


def test_a_model_that_computes_something_else_is_noticed():
    import copy

    model = copy.deepcopy(bert())
    layer: Any = model.get_submodule("encoder.layer.0")
    original = layer.forward
    layer.forward = lambda *a, **k: original(*a, **k) * 1.01
    with pytest.raises(InputError, match="model: computes something else than its modules say"):
        convert(model, plan(), token_batches())


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"tables": {**EXACT, "gelu": EXACT["gelu"]}, "activation_bits": 16},
            "activation_bits must be in 2..8, not 16",
        ),
        ({"activation_symmetric": False}, "activation_symmetric must be true"),
        ({"tables": {"gelu": "exact"}}, r'embeddings.LayerNorm: the plan must give a table of rsqrt, or "exact"'),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        convert(bert(), plan(**changes), token_batches())


def test_a_rule_that_matches_nothing_a_skipped_layer_and_a_wrong_table_are_refused():
    base = plan().rules
    with pytest.raises(InputError, match=r"rules\[1\]: 'decoder.\*' matches no module"):
        convert(bert(), Plan((*base, Rule("decoder.*", weight_bits=4))), token_batches())
    with pytest.raises(InputError, match=r"layer.0.output.dense: no rule quantises it"):
        convert(bert(), Plan((*base, Rule(".*layer.0.output.dense", skip=True))), token_batches())
    gelu = replace(plan().rules[0].settings["tables"]["gelu"], function="silu")
    with pytest.raises(InputError, match="intermediate_act_fn: the table must be of gelu, not of 'silu'"):
        convert(bert(), Plan((*base, Rule(".*act_fn", tables={"gelu": gelu}))), token_batches())
    with pytest.raises(InputError, match="share their input, so their activation settings must be equal"):
        convert(bert(), Plan((*base, Rule(".*query", activation_bits=4))), token_batches())


def test_data_that_are_empty_or_give_nan_are_refused():
    with pytest.raises(InputError, match="data: the data set is empty"):
        convert(bert(), plan(), [])
    model = torch_encoder()
    data = real_batches()
    data[1]["src"][0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        convert(model, plan(), data)


def test_what_the_network_cannot_take_is_refused_when_it_runs():
    network = convert(bert(), plan(), token_batches())
    with pytest.raises(InputError, match="inputs_embeds is not supported"):
        network(inputs_embeds=torch.zeros(1, 2, 32))
    with pytest.raises(InputError, match="input_ids must have at most 40 tokens, not 41"):
        network(input_ids=torch.ones(1, 41, dtype=torch.long))


def test_the_plan_speaks_of_the_models_own_names():
    assert names(describe(bert()))[:5] == [
        "embeddings.LayerNorm",
        "encoder.layer.0.attention.self.query",
        "encoder.layer.0.attention.self.key",
        "encoder.layer.0.attention.self.value",
        "encoder.layer.0.attention.self.softmax",
    ]


def test_a_dead_unit_before_a_relu_does_not_widen_the_scale():
    errors = []
    for bias in (0.0, -60.0):
        model = torch_encoder(activation="relu")
        layer: Any = model.layers[0]
        with torch.no_grad():
            layer.linear1.weight[0] = 0.0
            layer.linear1.bias[0] = bias  # with 0 and with -60 it gives 0
        network = convert(model, plan(EXACT, activation_granularity="tensor"), real_batches())
        errors.append(difference(model, network, real_batches(1, seed=9)[0]))
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)


def test_a_layer_behind_a_relu_finds_a_scale_for_each_token_if_the_plan_says_so():
    network = convert(torch_encoder(activation="relu"), plan(EXACT), real_batches())
    assert {network[f"layers.{i}.{part}"].source.kind for i in (0, 1) for part in ("up", "down")} == {"token"}


def test_a_calibration_of_one_token_takes_the_finest_scale_of_the_scores():
    data = [{"input_ids": torch.tensor([[7]]), "attention_mask": torch.ones(1, 1, dtype=torch.long)}]
    network = convert(bert(), plan(EXACT), data)
    assert network["layers.0.softmax"].specification.exp.s == 6  # no distance is seen but 0
