"""The coverage of packed models: what `quant` counts on the model itself, and by name what is not in integers."""

import json

import pytest
import torch
from torch import nn

import quant
from cost_model import cli
from cost_model.network.cost import report
from cost_model.network.coverage import coverage, coverage_lines, joined
from cost_model.network.machine import Machine
from cost_model.network.sites import sites
from quant.formats.packed_index import PackedIndex
from sim.network import packed
from sim.network.convert import convert
from tests.sim.network.models import bert, plan, token_batches

TOKENS, BATCH = 6, 2


def covered(model, data, folder, **settings):
    """The coverage that `quant` counts, the one of the folder, and the report."""
    quantised = quant.quantize(model, quant.Plan.uniform(**settings), data)
    quant.save_pretrained(quantised, folder)
    index = PackedIndex.load(folder)
    listed = sites(index, folder, TOKENS, BATCH)
    return index.content["details"]["coverage"], coverage(index, listed), report(listed, Machine(4, 4, 16))


def mixtral():
    transformers = pytest.importorskip("transformers", reason="the mixture of experts is built by transformers")
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=50, num_local_experts=4, max_position_embeddings=32,
    )  # fmt: skip
    return transformers.MixtralForCausalLM(config).eval(), [{"input_ids": torch.randint(0, 50, (2, 8))}]


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), 1).eval(), [
        {"src": torch.randn(2, 8, 16)}
    ]


@pytest.mark.parametrize(("make", "layers", "width"), [(mixtral, 3, 16), (encoder, 1, 16)])
def test_multiply_accumulates_are_those_of_quant_and_of_attention(make, layers, width, tmp_path):
    model, data = make()
    of_model, found, _ = covered(model, data, tmp_path, weight_bits=8, activation_bits=8)
    products = layers * 2 * BATCH * TOKENS**2 * width  # scores and context
    assert found["multiply_accumulates"] == of_model["multiply_accumulates"] * TOKENS * BATCH + products
    assert found["integer_multiply_accumulates"] == of_model["integer_multiply_accumulates"] * TOKENS * BATCH
    assert found["integer_parameters"] == of_model["integer_parameters"]
    assert 0 <= of_model["parameters"] - found["parameters"] < of_model["parameters"] / 10, "vectors are not counted"
    assert set(of_model["skipped"]) <= set(found["floating"]) and not found["unknown"]


def test_experts_and_products_of_two_activations_are_named_where_they_are_not_counted(tmp_path, capsys):
    _, found, priced = covered(*mixtral(), tmp_path, weight_bits=5, activation_bits=8)
    said = "\n".join(priced["not_counted"])
    for line in ("MixtralTopKRouter: in floating point (model.layers.*.mlp.gate (3))",
                 "scores: in floating point (model.layers.*.self_attn.scores (3))"):  # fmt: skip
        assert line in said
    assert cli.main(["model", str(tmp_path), "--tokens", "6"]) == 0
    printed = capsys.readouterr().out
    assert "; in floating point: model.embed_tokens, model.layers.*.mlp." in printed
    assert "model.layers.*.mlp.experts" in printed, "priced for every token, or in floating point: said either way"
    assert cli.main(["model", str(tmp_path), "--tokens", str(TOKENS), "--batch", str(BATCH), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["coverage"] == found


@pytest.mark.parametrize(("bits", "array"), [(2, 2), (3, 3), (5, 8), (6, 8), (7, 8)])
def test_weights_are_priced_as_the_array_that_holds_them_and_it_is_said(bits, array, tmp_path):
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    _, _, priced = covered(model, [{"input": torch.randn(8, 16)}], tmp_path, weight_bits=bits, activation_bits=8)
    first = priced["rows"][0]
    assert (first["bits"], first["stored_bits"]) == (f"W{array}A8", bits)
    note = f"weights of {bits} bits are priced as the array that holds them, of {array}: 0.weight, 2.weight"
    assert priced["notes"] == ([] if bits == array else [note])


def test_every_expert_that_is_priced_for_every_token_is_said(tmp_path):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

        def forward(self, x):
            return sum(expert(x) for expert in self.experts)

    _, _, priced = covered(Experts(), [{"x": torch.randn(4, 8)}], tmp_path, weight_bits=8, activation_bits=8)
    assert priced["notes"] == [
        "each expert is priced for every token, though a router sends it a few: experts.*.weight (3)"
    ]


def test_what_has_floating_point_activations_or_an_unknown_size_is_no_integer_product(tmp_path):
    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.head = nn.Conv2d(1, 4, 2, 2), nn.Linear(16, 3)

        def forward(self, images):
            return self.head(self.patches(images).flatten(1))

    _, found, priced = covered(
        Images(), [{"images": torch.randn(4, 1, 4, 4)}], tmp_path, weight_bits=8, activation_bits=None
    )
    assert found["multiply_accumulate_share"] == 0 and found["integer_parameters"] == 48
    assert found["floating"] == {"head.weight": "linear", "patches": "Conv2d"} and found["unknown"] == ["patches"]
    assert "multiply-accumulates not known, and not in the share: patches." in coverage_lines(found)
    assert any(line == "Conv2d: in floating point (patches)" for line in priced["not_counted"])


def test_a_tied_head_in_floating_point_is_a_product_beside_the_embedding(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.middle, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(self.middle(self.embedding(ids)))

    middle = quant.Rule("middle", weight_bits=8, activation_bits=8)
    rules = quant.Plan((middle,))
    quantised = quant.quantize(Tied(), rules, [{"ids": torch.randint(0, 20, (2, 4))}])
    quant.save_pretrained(quantised, tmp_path)
    index = PackedIndex.load(tmp_path)
    found = coverage(index, sites(index, tmp_path, TOKENS, BATCH))
    assert set(found["floating"]) == {"embedding", "head"}
    assert found["multiply_accumulates"] == TOKENS * BATCH * (64 + 160) and found["parameters"] == 64 + 160


def test_an_integer_network_is_whole_and_its_boundary_is_said(tmp_path):
    packed.save(convert(bert(), plan(), token_batches()), tmp_path)
    index = PackedIndex.load(tmp_path)
    found = coverage(index, sites(index, tmp_path, TOKENS, BATCH))
    assert found["share"] == found["multiply_accumulate_share"] == 1 and not found["floating"]
    assert any("pooling and heads stay floating point" in line for line in coverage_lines(found))


def test_names_that_differ_in_numbers_alone_are_joined():
    assert joined(["a.0.b", "a.1.b", "a.12.b", "c.7", "c.8", "fc1"]) == "a.*.b (3), c.7, c.8, fc1"
